"""Every command has help, and refuses what it does not know."""

import argparse
from collections.abc import Iterator

import pytest

from opentrail.cli import main
from opentrail.cli.parser import parser
from opentrail.version import __version__
from tests.cli.exits import exits

Capture = pytest.CaptureFixture[str]


def commands(of: argparse.ArgumentParser, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yields the names of every command and action."""
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield (*names, name)
                yield from commands(command, (*names, name))


COMMANDS = tuple(commands(parser()))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: tuple[str, ...], capsys: Capture) -> None:
    assert exits(*command, "--help") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: opentrail {' '.join(command)}")
    assert "--help" in out


def test_help_lists_every_command(capsys: Capture) -> None:
    assert exits("--help") == 0
    out = capsys.readouterr().out
    assert all(f"\n    {command[0]}" in out for command in COMMANDS)


def test_the_version_is_printed(capsys: Capture) -> None:
    assert exits("--version") == 0
    assert capsys.readouterr().out == f"opentrail {__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("fly",), *COMMANDS], ids=" ".join)
def test_an_unknown_argument_is_wrong_use(arguments: tuple[str, ...], capsys: Capture) -> None:
    assert exits(*arguments, "--fly") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "usage: opentrail" in captured.err


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize(
    "arguments",
    [
        ("lookup",),
        ("who", "Mary"),
        ("tail",),
        ("export", "--csv", "here"),
        ("trail", "flush", "my-trail"),
        ("status",),
        ("console",),
        ("insights",),
        ("users", "list"),
    ],
    ids=" ".join,
)
def test_without_a_server_a_question_is_wrong_use(
    arguments: tuple[str, ...], capsys: Capture
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("opentrail: no server runs on data directory opentrail-data")
    assert "--data-dir" in said
