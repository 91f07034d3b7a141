"""The parser of arguments: what is unknown is named with what is most like it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

#: Minimum likeness of words, 0 to 1.
_LIKE = 0.6
_WRONG_USE = 2
_MISSING = "the following arguments are required: "
#: Flags of aws-cli → ours.
_OF_AWS_CLI = {
    "--end-time": "--until",
    "--endpoint-url": "--endpoint",
    "--output": "--json",
    "--s3-bucket-name": "--bucket",
    "--s3-key-prefix": "--prefix",
    "--start-time": "--since",
}


class CommandParser(argparse.ArgumentParser):
    """Parses the arguments of a command; its actions have parsers of the same class."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # The innermost parser that read arguments is the one that knows the rest.
        self.set_defaults(parser=self)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Returns the options; ends the program if an argument is unknown."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser: CommandParser = options.parser
            flags = [flag for action in parser._actions for flag in action.option_strings]
            hint = parser._hint(unknown[0], flags)
            parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return options

    def _hint(self, unknown: str, flags: Sequence[str]) -> str:
        """Returns what an unknown argument may have meant; empty if nothing is known."""
        flag = unknown.partition("=")[0]
        if flag in flags:
            return f"; {flag} comes after the command: {self.prog} {flag}"
        if _OF_AWS_CLI.get(flag) in flags:
            return f"; did you mean {_OF_AWS_CLI[flag]}?"
        names = [each.metavar for each in self._get_positional_actions() if each.metavar]
        if flag.endswith("name") and names:
            return f"; a name has no flag: {self.prog} {names[0]}"
        return _like(unknown, flags)

    def error(self, message: str) -> NoReturn:
        """Ends the program with what is wrong; where all is missing, with the help."""
        is_bare = message in (f"{_MISSING}COMMAND", f"{_MISSING}ACTION")
        (self.print_help if is_bare else self.print_usage)(sys.stderr)
        self.exit(_WRONG_USE, f"{self.prog}: error: {message}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if not isinstance(action, argparse._SubParsersAction) or value in action.choices:
            super()._check_value(action, value)
            return
        what = str(action.metavar or "command").lower()
        more = f"'{self.prog.partition(' ')[0]} help' lists them"
        if what == "action":
            more = f"known are {', '.join(action.choices)}"
        near = _like(value, action.choices)
        raise argparse.ArgumentError(None, f"unknown {what} {value!r}{near or ';'} {more}")


def _like(word: str, words: Iterable[str]) -> str:
    """Returns a question for the word that is most like another one; empty if none is."""
    near = get_close_matches(word.partition("=")[0], words, 1, _LIKE)
    return f"; did you mean {near[0]}?" if near else ""
