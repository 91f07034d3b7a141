"""Arguments of several commands."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Any

from opentrail.core.event import is_account

#: From this number of words on, each is a separate term.
_SEVERAL = 2
#: A comparison whose value has spaces but no quotes.
_FIELD_AND_VALUE = re.compile(
    r"""(?P<field>[\w.]+(?:!=|=|:))"""
    r"""(?P<value>[^\s"()=<>!]+(?:\s+[^\s"()=<>!]+)+)"""
)
#: Values of `--since`: see `core/event.py`, `parse_moment`.
SINCE_HELP = "from this time on: 1d, 30m, 2020-01-01, 2020-01-01T09:00:00Z"
#: Words that begin another term.
_OTHER_TERMS = re.compile(r"(?:^|\s)(?:AND|OR|NOT|IN|is:\w+|last|since|until)(?:\s|\Z)", re.I)


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


def account_id(text: str) -> str:
    """Returns the id of an account; raises `ArgumentTypeError` for anything else."""
    if not is_account(text):
        raise argparse.ArgumentTypeError(f"an account has 12 digits, not {text!r}")
    return text


def region_name(text: str) -> str:
    """Returns the name of a Region; raises `ArgumentTypeError` for anything else."""
    if not re.fullmatch(r"[\w-]+", text, re.ASCII):
        what = "a Region has letters, digits and hyphens, such as eu-central-1"
        raise argparse.ArgumentTypeError(f"{what}, not {text!r}")
    return text


def add_client(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", metavar="DIR", help="data directory of the server")
    parser.add_argument("--endpoint", metavar="URL", help="console address of the server")
    parser.add_argument("--json", action="store_true", help="print JSON")


class _Words(argparse.Action):
    """Stores the words of an expression as one string; None without words."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        _option: str | None = None,
    ) -> None:
        words = values if len(values) < _SEVERAL else [_quoted(word) for word in values]
        setattr(namespace, self.dest, " ".join(words) or None)


def _quoted(word: str) -> str:
    """Restores the quotes around a word's value that the shell removed.

    >>> _quoted("user=Mary Ann"), _quoted("user=Mary last 2h"), _quoted("user=Mary")
    ('user="Mary Ann"', 'user=Mary last 2h', 'user=Mary')
    """
    match = _FIELD_AND_VALUE.fullmatch(word)
    if match is None or _OTHER_TERMS.search(match["value"]):
        return word
    return f'{match["field"]}"{match["value"]}"'


def add_conditions(parser: argparse.ArgumentParser, with_times: bool = True) -> None:
    add = parser.add_argument
    add(
        "expression",
        nargs="*",
        action=_Words,
        metavar="EXPRESSION",
        help="such as user=John last 2h, or 'eventName=Create* AND NOT user=admin'",
    )
    if with_times:
        add("--since", metavar="T", help=SINCE_HELP)
        add("--until", metavar="T", help="until this time")
    add("--account", type=account_id, metavar="ID", help="account (the upstream's)")
    add("--region", type=region_name, metavar="REGION", help="Region (AWS_REGION, else us-east-1)")
    add("--all-accounts", action="store_true", help="include all accounts")
    add("--all-regions", action="store_true", help="include all Regions")
    add("--all-categories", action="store_true", help="include data events")
