"""What arguments of several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any


def runs(module: str, function: str = "run") -> Callable[[argparse.Namespace], int]:
    """Returns a function of `opentrail.commands` whose module is imported when it is called."""

    def run(options: argparse.Namespace) -> int:
        return int(getattr(import_module(f"opentrail.commands.{module}"), function)(options))

    return run


def add_command(
    commands: Any, name: str, text: str, run: Callable[[argparse.Namespace], int], more: str = ""
) -> argparse.ArgumentParser:
    """Adds a command and returns its parser; `more` is for its own help alone."""
    described = f"{text}. {more}" if more else text
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=described)
    parser.set_defaults(run=run)
    return parser


class Actions:
    """The actions of a command, such as `create` of `opentrail keys`."""

    def __init__(self, commands: Any, name: str, text: str, more: str = "") -> None:
        described = f"{text}. {more}" if more else text
        command = commands.add_parser(name, help=text, description=described)
        self._parsers = command.add_subparsers(required=True, metavar="ACTION")
        self._run = runs(name)

    def add(self, action: str, text: str) -> argparse.ArgumentParser:
        """Adds an action and returns its parser."""
        parser: argparse.ArgumentParser = self._parsers.add_parser(
            action, help=text, description=text
        )
        parser.set_defaults(run=self._run, action=action)
        return parser

    def __iter__(self) -> Iterator[argparse.ArgumentParser]:
        return iter(self._parsers.choices.values())


def add_client(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", metavar="DIR", help="data directory of the server")
    parser.add_argument("--endpoint", metavar="URL", help="console address of the server")
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_conditions(parser: argparse.ArgumentParser, with_times: bool = True) -> None:
    add = parser.add_argument
    add(
        "expression",
        nargs="?",
        metavar="EXPRESSION",
        help="such as 'eventName=Create* AND NOT user=admin last 2h'",
    )
    if with_times:
        add("--since", metavar="T", help="from this time on, 2020-01-01T09:00:00Z")
        add("--until", metavar="T", help="up to this time")
    add("--account", metavar="ID", help="account (123456789012)")
    add("--region", metavar="REGION", help="Region (AWS_REGION, else us-east-1)")
    add("--all-accounts", action="store_true", help="of every account")
    add("--all-regions", action="store_true", help="of every Region")
    add("--all-categories", action="store_true", help="data events too")
