"""A command's output for a question."""

from __future__ import annotations

import argparse

import pytest

from opentrail.commands.asked import add_question, print_plain


def test_lists_of_objects_become_tables(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        {"accessKeyId": "AKIA1", "userName": None, "uses": 2},
        {"accessKeyId": "AKIA22", "userName": "Mary\x1b[31m", "uses": 10},
    ]
    print_plain({"complete": True, "since": None, "names": ["a", "b"], "keys": rows})
    assert capsys.readouterr().out.splitlines() == [
        "  complete  yes",
        "  names     a, b",
        "Access key id  User name     Uses",
        "AKIA1                        2",
        "AKIA22         Mary\\x1b[31m  10",
    ]


def test_an_empty_table_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    print_plain({"keys": []})
    assert capsys.readouterr().out == "no keys\n"


def test_arguments_of_a_question_become_flags(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = argparse.ArgumentParser("opentrail unused-keys")
    add_question(command, "unused-keys")
    options = command.parse_args(["--since", "7d", "--limit", "5"])
    assert (options.since, options.limit, options.account) == ("7d", "5", None)
    with pytest.raises(SystemExit):
        command.parse_args(["--help"])
    assert "maximum number of results (100)" in capsys.readouterr().out
