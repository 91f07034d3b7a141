"""`opentrail exec`: run a command, record its calls, and print a summary."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from opentrail.adapters.data_directory.system import write_private
from opentrail.commands.client import Console
from opentrail.commands.rendering import json_text
from opentrail.commands.sandbox import BuiltInUpstream, ReservedPort, begin_moto, wait_for_moto
from opentrail.commands.server_process import (
    ADMIN_ACCESS,
    ServerProcess,
    environment_of,
    mark,
    reached_directly,
    records_between,
)
from opentrail.core.errors import OpentrailError, UsageError
from opentrail.core.text import counted, printable
from opentrail.setting_values import read_upstreams

_ENDPOINT = "AWS_ENDPOINT_URL"
#: AWS's variables that the command inherits with the built-in moto.
_KEPT = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PAGER")
#: Signals to forward to the command.
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: Signals that a terminal also sends to the command.
_OF_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
#: Maximum lines of one list of the summary.
_MAX_LINES = 20
#: A shell's exit code for a missing command, and its base of exit codes for signals.
_NOT_FOUND, _BY_SIGNAL = 127, 128

Record = Mapping[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--upstream",
        metavar="[SERVICE=]URL",
        action="append",
        help="target of the calls; repeatable (AWS_ENDPOINT_URL, or a built-in moto)",
    )
    add("--policy", metavar="FILE", help="write a policy that allows the command's calls")
    add("--ndjson", metavar="FILE", help="write all records, one per line")
    add("--keep", metavar="DIR", help="keep the data of the server in DIR")
    add("--json", action="store_true", help="print the summary as JSON, on standard error")
    add("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command to run")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs a command and prints its calls on standard error; returns the command's exit code.

    Raises:
        UsageError: the command is missing, or a file cannot be written.
        OpentrailError: the server did not start.
    """
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise UsageError("exec needs a command, such as: opentrail exec pytest -q")
    for file in filter(None, (options.policy, options.ndjson)):
        if not os.access(Path(file).absolute().parent, os.W_OK):
            raise UsageError(f"{file} cannot be written: its folder is missing or read-only")
    if shutil.which(command[0]) is None:
        sys.stderr.write(
            f"opentrail: command {printable(command[0])} not found; check its name and PATH\n"
        )
        return _NOT_FOUND
    with ExitStack() as stack:
        folder = Path(
            options.keep
            or stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        )
        console, environment = stack.enter_context(
            _server(folder, bool(options.keep), options.upstream or [])
        )
        begin, started = mark(console), time.monotonic()
        code = _run(command, environment)
        seconds = time.monotonic() - started
        try:
            _, records = records_between(console, begin, mark(console))
        except OpentrailError as error:
            sys.stderr.write(f"opentrail: the recorded calls cannot be read: {error}\n")
            return code or error.exit_code
    _write_files(options, records)
    summary = {"command": command, "exitCode": code, "seconds": round(seconds, 3), **_did(records)}
    if options.json:
        sys.stderr.write(json_text(summary) + "\n")
    else:
        _print(summary, options)
    return code


# The server


@contextmanager
def _server(
    folder: Path, is_kept: bool, upstreams: Sequence[str]
) -> Iterator[tuple[Console, dict[str, str]]]:
    """Runs a server and yields its console, and the variables for the command."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    upstreams = upstreams or list(_upstreams_in(os.environ))
    read_upstreams(upstreams, "--upstream")  # the server would refuse them later
    moto: BuiltInUpstream | None = None
    with ExitStack() as stack:
        port, port_of_moto = ReservedPort(), ReservedPort()
        stack.callback(port.release)
        stack.callback(port_of_moto.release)
        if not upstreams:
            moto = begin_moto(port_of_moto)  # while the server starts
            stack.callback(moto.stop)
            upstreams = [moto.url]
        process = ServerProcess(folder, upstreams, port)
        stack.callback(process.stop, discards=moto is not None and not is_kept)
        console = process.start()
        if moto is not None:
            wait_for_moto(moto)
        yield console, _environment(f"http://{port.address}", moto is not None)


def _upstreams_in(environment: Mapping[str, str]) -> Iterator[str]:
    """Yields the upstreams in AWS's variables, for all services and for single ones.

    Raises:
        UsageError: botocore does not know the service of a variable.
    """
    if environment.get(_ENDPOINT):
        yield environment[_ENDPOINT]
    of_services = {
        name.removeprefix(f"{_ENDPOINT}_"): url
        for name, url in environment.items()
        if url and name.startswith(f"{_ENDPOINT}_")
    }
    known = _names_by_id() if of_services else {}
    for service_id, url in of_services.items():
        if service_id not in known:
            raise UsageError(f"{_ENDPOINT}_{service_id}: AWS has no service {service_id}")
        yield f"{known[service_id]}={url}"


def _names_by_id() -> dict[str, str]:
    """Returns botocore's service names by their ids in variables, such as `CLOUDWATCH_LOGS`."""
    from opentrail.wire.service_models import ServiceCatalog

    services = ServiceCatalog().services.values()
    return {re.sub("[ -]", "_", each.service_id).upper(): each.name for each in services}


def _environment(endpoint: str, is_sandbox: bool) -> dict[str, str]:
    """Returns the variables that send the command's calls to the endpoint.

    With the built-in moto, they also replace the user's credentials and configuration.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AWS_" if is_sandbox else f"{_ENDPOINT}_")
    }
    if is_sandbox:
        environment |= environment_of(endpoint, ADMIN_ACCESS)
        environment |= {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**environment, _ENDPOINT: endpoint, **reached_directly(os.environ)}


# The command


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs a command in this terminal; returns its exit code, as a shell would."""
    process: subprocess.Popen[bytes] | None = None

    def forward(number: int, _frame: FrameType | None) -> None:
        if process is not None:
            process.send_signal(number)

    def leave_to_terminal(number: int, frame: FrameType | None) -> None:
        if not sys.stdin.isatty():
            forward(number, frame)

    # Handlers, not SIG_IGN, which the command would inherit.
    handlers: dict[int, Callable[[int, FrameType | None], None]] = {
        **dict.fromkeys(_FORWARDED, forward),
        **dict.fromkeys(_OF_TERMINAL, leave_to_terminal),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        process = subprocess.Popen(command, env=dict(environment))  # noqa: S603 - the user's
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else _BY_SIGNAL - code


# The summary


def _did(records: Sequence[Record]) -> dict[str, Any]:
    """Returns the summary of calls: their number, changes, denials and errors."""
    # These imports would delay the start of the server.
    from opentrail.permissions.outcomes import is_denied
    from opentrail.who.sentence import action_of

    calls = [record for record in records if record.get("eventType") != "AwsServiceEvent"]
    services = Counter(_service(record) for record in calls)
    refused = [record for record in calls if record.get("errorCode")]
    changes = Counter(
        action_of(record)
        for record in calls
        if not record.get("errorCode") and record.get("readOnly") is False
    )
    return {
        "calls": len(calls),
        "services": dict(services.most_common()),
        "changed": [{"what": what, "times": times} for what, times in changes.items()],
        "denied": _errors(record for record in refused if is_denied(record)),
        "failed": _errors(record for record in refused if not is_denied(record)),
    }


def _service(record: Record) -> str:
    from opentrail.permissions.event_actions import prefix_of, source_label

    return prefix_of(source_label(record))


def _errors(records: Iterator[Record]) -> list[dict[str, Any]]:
    found = Counter(
        (
            f"{_service(record)}:{record.get('eventName')}",
            str(record.get("errorCode")),
            str(record.get("errorMessage") or ""),
        )
        for record in records
    )
    return [
        {"call": call, "errorCode": code, "errorMessage": message, "times": times}
        for (call, code, message), times in found.items()
    ]


def _write_files(options: argparse.Namespace, records: Sequence[Record]) -> None:
    if options.ndjson:
        lines = (json.dumps(record, separators=(",", ":")) for record in records)
        write_private(Path(options.ndjson), "".join(f"{line}\n" for line in lines).encode())
    if options.policy and not records:
        sys.stderr.write(f"opentrail: {options.policy} is not written, because there was no call\n")
    elif options.policy:
        from opentrail.permissions.generate import generate, kinds_of

        made = generate(kinds_of(records))
        documents = made.documents
        document = documents[0] if len(documents) == 1 else documents
        Path(options.policy).write_text(f"{json.dumps(document, indent=2)}\n")
        for name, count in [*made.unverified.items(), *made.unmapped.items()]:
            sys.stderr.write(
                f"opentrail: {options.policy} has no permissions for {printable(name)} "
                f"({counted(count, 'call')})\n"
            )


def _print(summary: Mapping[str, Any], options: argparse.Namespace) -> None:
    out = sys.stderr.write
    name = printable(" ".join(summary["command"]))
    if not summary["calls"]:
        out(f"opentrail: {name} made no call to AWS in {summary['seconds']:.1f} s\n")
        return
    calls = counted(summary["calls"], "call")
    out(f"opentrail: {name} made {calls} in {summary['seconds']:.1f} s\n")
    services = ", ".join(f"{service} {count:,}" for service, count in summary["services"].items())
    _print_list("calls", [services])
    _print_list("changed", [_times(each["what"], each["times"]) for each in summary["changed"]])
    for title in ("denied", "failed"):
        _print_list(title, [_error_line(each) for each in summary[title]])
    rest = {"--ndjson FILE": options.ndjson, "--policy FILE": options.policy}
    hints = [flag for flag, value in rest.items() if not value]
    if hints:
        _print_list("more", [f"{' and '.join(hints)} of 'opentrail exec' write them"])
    if options.keep:
        _print_list("kept", [f"opentrail serve --data-dir {Path(options.keep) / 'data'}"])


def _error_line(error: Mapping[str, Any]) -> str:
    message = f": {error['errorMessage']}" if error["errorMessage"] else ""
    return _times(f"{error['call']} {error['errorCode']}{message}", error["times"])


def _times(text: str, times: int) -> str:
    return text if times == 1 else f"{text} ({times:,} times)"


def _print_list(title: str, lines: Sequence[str]) -> None:
    for index, line in enumerate(lines[:_MAX_LINES]):
        sys.stderr.write(f"  {'' if index else title:9} {printable(line)}\n")
    if len(lines) > _MAX_LINES:
        sys.stderr.write(f"  {'':9} and {len(lines) - _MAX_LINES:,} more: --json lists all\n")
