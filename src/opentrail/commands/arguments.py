"""What arguments of several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Iterator


class Actions:
    """The actions of a command, such as `create` of `opentrail keys`."""

    def __init__(self, command: argparse.ArgumentParser) -> None:
        self._parsers = command.add_subparsers(required=True, metavar="ACTION")

    def add(self, action: str, text: str) -> argparse.ArgumentParser:
        """Adds an action and returns its parser."""
        parser = self._parsers.add_parser(action, help=text, description=text)
        parser.set_defaults(action=action)
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
