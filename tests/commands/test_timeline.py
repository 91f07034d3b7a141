"""`opentrail timeline`: its requests and its output."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.cli import main
from tests.stub_console import StubConsole

Capture = pytest.CaptureFixture[str]


def an_entry(**changes: Any) -> dict[str, Any]:
    return {
        "first": "2020-01-01T09:00:00Z",
        "last": "2020-01-01T09:00:00Z",
        "words": "IAM user John created IAM user Mary through the console",
        "calls": 1,
        "eventName": "CreateUser",
        "errorCode": None,
        "agent": None,
        "behind": None,
        "eventIds": ["e-1"],
        "resources": ["Mary"],
        **changes,
    }


def answer(console: StubConsole, *entries: dict[str, Any], complete: bool = True) -> None:
    document = {"name": "Mary", "entries": entries, "complete": complete, "missing": []}
    console.react = lambda _asked: (200, document)


def test_a_timeline_is_printed_by_day(console: StubConsole, capsys: Capture) -> None:
    agent = {"name": "Claude Code", "kind": "agent", "session": None, "delegator": None}
    answer(
        console,
        an_entry(),
        an_entry(last="2020-01-01T09:04:59Z", words="a \x1b[31mred", agent=agent),
        an_entry(first="2020-01-02T10:00:00Z", last="2020-01-02T10:00:00Z", behind="IAM user Ann"),
        complete=False,
    )
    assert main(["timeline", "Mary", "--since", "2020-01-01T00:00:00Z", "--kind", "resource"]) == 0
    shown = capsys.readouterr()
    assert shown.out == (
        "2020-01-01 (UTC)\n"
        "  09:00:00           IAM user John created IAM user Mary through the console\n"
        "  09:00:00-09:04:59  a \\x1b[31mred\n"
        "                     agent: Claude Code\n"
        "2020-01-02 (UTC)\n"
        "  10:00:00           IAM user John created IAM user Mary through the console\n"
        "                     behind it: IAM user Ann\n"
    )
    assert "older ones: --until 2020-01-01T09:00:00Z" in shown.err
    asked = console.asked[0].path
    assert asked.startswith("/api/v1/timeline?name=Mary&kind=resource&since=2020-01-01T00%3A00")


def test_empty_history_exits_with_1(console: StubConsole, capsys: Capture) -> None:
    answer(console)
    assert main(["timeline", "Mary"]) == 1
    assert capsys.readouterr().out == "No event is about Mary.\n"


def test_a_timeline_can_be_json(console: StubConsole, capsys: Capture) -> None:
    answer(console, an_entry())
    assert main(["timeline", "Mary", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"][0]["words"].startswith("IAM user John")
