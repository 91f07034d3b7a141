"""The command line: arguments in, exit codes out."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from opentrail.core.errors import OpentrailError, StorageFailed, UsageError
from opentrail.core.version import __version__

#: Minimum similarity of words, 0 to 1.
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
        # The innermost parser that read arguments knows the remaining ones.
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
        """Returns a suggestion for an unknown argument, or an empty string."""
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
        """Ends the program with an error, or with the help if all arguments are missing."""
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
    """Returns a question that suggests the most similar word, or an empty string."""
    near = get_close_matches(word.partition("=")[0], words, 1, _LIKE)
    return f"; did you mean {near[0]}?" if near else ""


_SHELLS = ("bash", "zsh", "fish")
_FILES = ("FILE", "PATH", "FILE.json", "NAME|FILE", "SOURCE")
_FOLDERS = ("DIR",)


class _Command(NamedTuple):
    """A command; its module in `opentrail.commands` is imported only when needed."""

    text: str
    #: Additional text for its own help.
    more: str = ""
    #: Its module, if named differently.
    module: str | None = None
    #: The function that adds its arguments and sets `run`.
    function: str = "add_arguments"


_COMMANDS = {
    "serve": _Command("record calls on their way to an upstream"),
    "sandbox": _Command(
        "serve, with a built-in moto upstream", module="serve", function="add_sandbox_arguments"
    ),
    "exec": _Command(
        "run a command and report its calls to AWS",
        "Records its calls in front of AWS_ENDPOINT_URL, or of a built-in moto; the exit code is"
        " the command's.",
        module="execute",
    ),
    "lookup": _Command("find events, newest first"),
    "query": _Command(
        "query event history with SQL",
        "The table is event_history, the dialect Trino's; --samples lists examples.",
    ),
    "who": _Command(
        "show who created, changed and deleted a resource, when and how",
        module="asked",
        function="add_who_arguments",
    ),
    "timeline": _Command(
        "show the history of a principal or resource, in sentences",
        module="asked",
        function="add_timeline_arguments",
    ),
    "explain": _Command(
        "explain why a call was denied, from its record",
        module="asked",
        function="add_explain_arguments",
    ),
    "insights": _Command(
        "list unusual activity, or show one incident",
        "An incident is an API with far more, or fewer, calls or errors than usual.",
    ),
    "tail": _Command(
        "print new events as they arrive",
        "Reconnects when the server restarts; Ctrl-C ends it.",
    ),
    "export": _Command(
        "write events to files, newest first",
        "Each file is written atomically; a file _SUCCESS at the end marks a complete export.",
    ),
    "import": _Command(
        "import records that CloudTrail or other tools wrote",
        "The format is detected: log files, NDJSON, LookupEvents output and EventBridge envelopes,"
        " compressed or not. Events that were imported before are recognized by their ids.",
        module="import_files",
    ),
    "trail": _Command(
        "list, create and change trails",
        "Changes are calls to the CloudTrail API, recorded like all others.",
    ),
    "validate": _Command(
        "validate the log files and digest files of a trail",
        "A trail by its name or ARN, its bucket, or a copy of the bucket in a folder; several are"
        " searched in order. Exit codes: 0 good, 1 not good, 5 cannot be decided.",
    ),
    "mcp": _Command(
        "answer questions from AI agents over MCP, on standard input and output",
        "An agent's program starts it. Its tools only read, and each use of them is an event.",
    ),
    "console": _Command(
        "print a link that opens the web console",
        "The link works once, within ten minutes, in a browser on the server's machine.",
        module="status",
        function="add_console_arguments",
    ),
    "directory": _Command(
        "name the callers behind access keys",
        "Keys from recorded calls (CreateAccessKey, AssumeRole) need no entry.",
        module="administration",
        function="add_directory_arguments",
    ),
    "keys": _Command(
        "create and manage the access keys of the key directory",
        module="administration",
        function="add_keys_arguments",
    ),
    "policy": _Command(
        "generate, test and manage policies",
        "generate, test and unused use recorded events, including data events. Attached policies"
        " decide on calls to the CloudTrail API with --auth verify or enforced. FILE.json has the"
        " document of policy FILE.",
    ),
    "detections": _Command(
        "test Sigma rules on past events, and match new events with them",
        "Rules are for product aws, service cloudtrail. Exit code 1: a rule was refused.",
    ),
    "users": _Command("manage the users of the web console"),
    "status": _Command(
        "show the health of a server, and its lost records", "Exit code 1: not healthy."
    ),
    "doctor": _Command(
        "find common problems, and fix them",
        "Checks the data directory, the server, its upstreams and trails, and this terminal.",
    ),
    "verify-store": _Command(
        "verify every record in a data directory",
        "Checks each record in the journal against the hash chain, and each sealed file of event"
        " history against its hash. A server may be running. Exit codes: 0 good, 1 not good, 5"
        " no record to verify.",
    ),
    "backup": _Command(
        "back up a data directory to one file, also while a server runs",
        "The backup is a verified snapshot. Exit codes: 0 good, 1 the data is damaged, also in the"
        " backup.",
    ),
    "restore": _Command(
        "restore a data directory from a backup", module="backup", function="add_restore_arguments"
    ),
    "help": _Command("show the help of a command"),
    "version": _Command("show the version"),
    "completion": _Command(
        "print a completion script for a shell",
        "bash: opentrail completion bash > ~/.local/share/bash-completion/completions/opentrail",
    ),
}

#: Former command → the new one; both work for one more release.
FORMER_COMMANDS = {
    "policies": ("policy",),
    "policy-for": ("policy", "generate"),
    "test-policy": ("policy", "test"),
    "unused-actions": ("policy", "unused"),
    "query-history": ("query", "--history"),
    "query-tables": ("query", "--tables"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    _open_closed_streams()
    try:
        try:
            typed = _renamed(sys.argv[1:] if arguments is None else arguments)
            _require_command_first(typed)
            command = next((argument for argument in typed if not argument.startswith("-")), "")
            options = parser(command).parse_args(typed)
            return int(options.run(options))
        finally:
            sys.stdout.flush()
    except OpentrailError as error:
        print(f"opentrail: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        _discard_output()
        return 0
    except OSError as error:
        _discard_output()
        subject = f"{error.filename}: " if error.filename else "output cannot be written: "
        print(f"opentrail: {subject}{error.strerror or error}", file=sys.stderr)
        return StorageFailed.exit_code
    except KeyboardInterrupt:
        return 130


def _renamed(typed: Sequence[str]) -> Sequence[str]:
    """Replaces a former command, and prints the new one."""
    new = FORMER_COMMANDS.get(typed[0]) if typed else None
    if new is None:
        return typed
    print(f"opentrail: {typed[0]} is now {' '.join(new)}", file=sys.stderr)
    return [*new, *typed[1:]]


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """Returns the parser; its result has the function `run`, which takes that result.

    Args:
        only: the one command whose module to import for its arguments; None: all.
    """
    root = CommandParser(
        prog="opentrail", description="Records every call to an AWS-compatible endpoint."
    )
    root.add_argument("--version", action="version", version=f"opentrail {__version__}")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    own = {"help": _add_help, "version": _add_version, "completion": _add_completion}
    for name, (text, more, module, function) in _COMMANDS.items():
        if name == "help":
            _add_questions(commands, only)
        described = f"{text}. {more}" if more else text
        command = commands.add_parser(name, help=text, description=described)
        if name in own:
            own[name](command)
        elif only in (None, name):
            where = f"opentrail.commands.{module or name.replace('-', '_')}"
            getattr(import_module(where), function)(command)
    return root


def _add_questions(commands: Any, only: str | None) -> None:
    """Adds the commands of the questions, or only the needed one."""
    if only in _COMMANDS and only != "help":
        return
    from opentrail.questions.question import load, names

    for name in (name for name in names() if name not in (*_COMMANDS, *FORMER_COMMANDS)):
        command = commands.add_parser(name, help=load(name).purpose)
        if only in (None, name):
            import_module("opentrail.commands.asked").add_question(command, name)


def _require_command_first(typed: Sequence[str]) -> None:
    """Checks that no flag of a command precedes the command.

    Raises:
        UsageError: a flag precedes its command.
    """
    flag = typed[0].partition("=")[0] if typed else ""
    command = next((each for each in typed if each in _COMMANDS), None)
    if command and flag.startswith("-") and flag not in ("-h", "--help", "--version"):
        raise UsageError(f"{flag} comes after the command: opentrail {command} {flag}")


def _open_closed_streams() -> None:
    """Opens closed standard streams, so that writing to them fails with a clear error."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_RDONLY), number)
                setattr(sys, name, os.fdopen(number, "w", closefd=False))


def _discard_output() -> None:
    """Discards pending output, so that the exit does not fail again."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _add_help(command: argparse.ArgumentParser) -> None:
    command.add_argument("command", nargs="*", metavar="COMMAND", help="such as: trail create")
    command.set_defaults(run=_help)


def _help(options: argparse.Namespace) -> int:
    command = parser(options.command[0] if options.command else "")
    for number, name in enumerate(options.command):
        choices = _choices(command)
        if name not in choices:
            above = " ".join(("opentrail", *options.command[:number]))
            alternatives = f"known are {', '.join(choices)}" if choices else "it has no actions"
            raise UsageError(f"{above} has no command {name!r}; {alternatives}")
        command = choices[name]
    print(command.format_help(), end="")
    return 0


def _add_version(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_version)


def _version(options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps({"opentrail": __version__, "python": platform.python_version()}))
    else:
        print(f"opentrail {__version__} (Python {platform.python_version()})")
    return 0


def _add_completion(command: argparse.ArgumentParser) -> None:
    command.add_argument("shell", choices=_SHELLS, help=", ".join(_SHELLS))
    command.set_defaults(run=_completion)


def _completion(options: argparse.Namespace) -> int:
    import shtab

    root = parser()
    _offer_values(root)
    for action in _actions(root):
        if action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(root, options.shell))
    return 0


def _offer_values(root: argparse.ArgumentParser) -> None:
    """Names the values of flags to the completion; the commands themselves check them."""
    from opentrail.settings import ROLES, SETTINGS

    of_settings = {name: each.choices for name, each in SETTINGS.items() if each.choices}
    values: dict[tuple[str, ...], Mapping[str, Sequence[str]]] = {
        ("serve",): of_settings,
        ("sandbox",): {**of_settings, "s3": ("moto", "seaweedfs")},
        ("users", "create"): {"role": ROLES},
    }
    for names, choices in values.items():
        command = root
        for name in names:
            command = _choices(command)[name]
        for action in command._actions:
            action.choices = choices.get(action.dest, action.choices)


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Returns the commands or actions of a parser, by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yields the arguments of a parser and of its subparsers."""
    yield from parser._actions
    for command in _choices(parser).values():
        yield from _actions(command)
