"""A parser's messages about unknown arguments."""

from __future__ import annotations

import pytest

from opentrail.cli import CommandParser


def a_parser() -> CommandParser:
    root = CommandParser(prog="tool", description="Does things.")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="show a thing")
    show.add_argument("--all-things", action="store_true")
    keys = commands.add_parser("keys", help="manage keys")
    actions = keys.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("create", help="create a key").add_argument("--user")
    return root


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        a_parser().parse_args(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


@pytest.mark.parametrize(
    ("arguments", "usage", "error"),
    [
        (
            ("shwo",),
            "usage: tool [-h] COMMAND",
            "tool: error: unknown command 'shwo'; did you mean show? 'tool help' lists them",
        ),
        (
            ("fly",),
            "usage: tool [-h] COMMAND",
            "tool: error: unknown command 'fly'; 'tool help' lists them",
        ),
        (
            ("keys", "delete"),
            "usage: tool keys [-h] ACTION",
            "tool keys: error: unknown action 'delete'; known are create",
        ),
        (
            ("show", "--all-thing", "--things"),
            "usage: tool show",
            "tool show: error: unrecognized arguments: --things",
        ),
        (
            ("keys", "create", "--usr=x"),
            "usage: tool keys create",
            "tool keys create: error: unrecognized arguments: --usr=x; did you mean --user?",
        ),
    ],
)
def test_errors_show_the_usage_of_the_subcommand(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], usage: str, error: str
) -> None:
    said = refused(capsys, *arguments)
    assert said.startswith(usage)
    assert said.endswith(f"{error}\n") or f"{error};" in said


@pytest.mark.parametrize(
    ("arguments", "help_text", "missing"),
    [((), "show a thing", "COMMAND"), (("keys",), "create a key", "ACTION")],
)
def test_a_command_without_its_action_shows_the_help(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], help_text: str, missing: str
) -> None:
    said = refused(capsys, *arguments)
    assert help_text in said
    assert said.endswith(f"error: the following arguments are required: {missing}\n")


def test_known_values_are_parsed() -> None:
    options = a_parser().parse_args(["keys", "create", "--user", "John"])
    assert options.user == "John"
    assert options.parser.prog == "tool keys create"
