"""The commands about opentrail itself: help, version, completion."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from opentrail.core.errors import UsageError
from opentrail.version import __version__

_SHELLS = ("bash", "zsh", "fish")
_FILES, _FOLDERS = ("FILE", "PATH", "FILE.json", "NAME|FILE", "SOURCE"), ("DIR",)
Parser = Callable[[], argparse.ArgumentParser]


def add_commands(commands: Any, parser: Parser) -> None:
    """Adds the commands.

    Args:
        commands: where to.
        parser: returns the parser of all commands.
    """
    text = "show the help of a command"
    about = commands.add_parser("help", help=text, description=text)
    about.add_argument("command", nargs="*", metavar="COMMAND", help="such as: trail create")
    about.set_defaults(run=partial(_help, parser))
    text = "show the version"
    version = commands.add_parser("version", help=text, description=text)
    version.add_argument("--json", action="store_true", help="print JSON")
    version.set_defaults(run=_version)
    text = "print a script that completes commands and flags in a shell"
    more = "bash: opentrail completion bash > ~/.local/share/bash-completion/completions/opentrail"
    completion = commands.add_parser("completion", help=text, description=f"{text}. {more}")
    completion.add_argument("shell", choices=_SHELLS, help=", ".join(_SHELLS))
    completion.set_defaults(run=partial(_completion, parser))


def _help(parser: Parser, options: argparse.Namespace) -> int:
    chosen = parser()
    for number, name in enumerate(options.command):
        choices = _choices(chosen)
        if name not in choices:
            above = " ".join(("opentrail", *options.command[:number]))
            known = f"known are {', '.join(choices)}" if choices else "it has no actions"
            raise UsageError(f"{above} has no command {name!r}; {known}")
        chosen = choices[name]
    print(chosen.format_help(), end="")
    return 0


def _version(options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps({"opentrail": __version__, "python": platform.python_version()}))
    else:
        print(f"opentrail {__version__} (Python {platform.python_version()})")
    return 0


def _completion(parser: Parser, options: argparse.Namespace) -> int:
    import shtab

    root = parser()
    for action in _actions(root):
        if action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(root, options.shell))
    return 0


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Returns the commands or actions of a parser, by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yields the arguments of a parser and of all that it has."""
    yield from parser._actions
    for one in _choices(parser).values():
        yield from _actions(one)
