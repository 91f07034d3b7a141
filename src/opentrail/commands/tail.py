"""Prints new events, across restarts of the server and of the command."""

from __future__ import annotations

import argparse
import random
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from opentrail.adapters.data_directory.files import write_durably
from opentrail.commands.arguments import add_client, add_conditions
from opentrail.commands.client import Console, find
from opentrail.commands.conditions import conditions_of, require_one_form
from opentrail.commands.rendering import (
    print_csv,
    print_lines,
    print_records,
    warn_of_missing,
)
from opentrail.core.errors import StorageFailed, TokenRefused, TryLater, UsageError
from opentrail.core.text import printable

PATH = "/api/v1/tail"
#: Maximum seconds without data; the server sends a line every few seconds.
_TIMEOUT_SECONDS = 30.0
#: Seconds before the first retry; the pause doubles with each failure.
_FIRST_PAUSE_SECONDS = 0.2
_MAX_PAUSE_SECONDS = 5.0

Lines = list[Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_conditions(parser, with_times=False)
    add = parser.add_argument
    add("--last", metavar="N", help="start with the last N matching events")
    add("--after", metavar="POSITION", help="start after this position")
    add("--resume", metavar="FILE", help="store the position in FILE, and continue from it")
    add("--csv", action="store_true", help="print CSV")
    add_client(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints events as they arrive, until it is interrupted.

    Raises:
        UsageError: no server is found, or the search cannot be followed.
        OpentrailError: the server refuses the request.
    """
    require_one_form(options)
    conditions = conditions_of(options)
    if options.after is not None and options.last is not None:
        raise UsageError("--after and --last exclude each other")
    cursor = TailCursor(options.resume)
    if cursor.position is None and options.after is not None:
        cursor.position = _position(options.after, "--after")
    show: Callable[[Lines], None] = print_lines
    if options.json:
        show = print_records
    elif options.csv:
        print_csv([])
        show = _print_csv_rows
    with Interrupts() as interrupts:
        for lines in follow(lambda: find(options), {**conditions, "last": options.last}, cursor):
            with interrupts.deferred():
                _print(lines, show, cursor)
    return 0


class Interrupts:
    """Defers the first interrupt while printing lines, so that no line is printed twice.

    The second interrupt is immediate. The first one sets a flag, because Python would lose a
    `KeyboardInterrupt` raised in a finalizer. `deferred` checks the flag every few seconds.
    """

    def __init__(self) -> None:
        self._count = 0
        self._is_deferred = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        """Installs the handler in the main thread, which alone receives signals."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._on_interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        """Restores the earlier handler."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if not self._is_deferred or self._count > 1:
            raise KeyboardInterrupt

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defers interrupts within the block.

        Raises:
            KeyboardInterrupt: an interrupt occurred before or within the block.
        """
        if self._count:
            raise KeyboardInterrupt
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False
        if self._count:
            raise KeyboardInterrupt


def follow(
    find_server: Callable[[], Console],
    query: Mapping[str, str | None],
    cursor: TailCursor,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Lines]:
    """Yields lines without end; reconnects at the position of `cursor` after a failure.

    Prints the ranges missing from event history on standard error, once.
    """
    failures, chance = 0, random.SystemRandom()
    warned: list[str] = []
    while True:
        after = cursor.position
        parameters = query if after is None else {**query, "last": None, "after": str(after)}
        try:
            server = _find_again(find_server, cursor)
            with server.lines(PATH, parameters, _TIMEOUT_SECONDS) as answer:
                for lines in answer:
                    checked = _without_error(lines)
                    if failures:
                        sys.stderr.write("opentrail: the server is back\n")
                    failures = 0
                    missing = [what for line in checked for what in line.get("missing", ())]
                    if missing and missing != warned:
                        warn_of_missing({"missing": missing})
                        warned = missing
                    yield checked
            raise TryLater("the server has ended the answer")
        except (TryLater, TokenRefused) as error:
            if not cursor.is_known:
                raise
            if not failures:
                sys.stderr.write(f"opentrail: waiting for the server: {printable(str(error))}\n")
                sys.stderr.flush()
        longest = min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(failures, 10))
        pause(longest * chance.uniform(0.5, 1))
        failures += 1


def _find_again(find_server: Callable[[], Console], cursor: TailCursor) -> Console:
    """Returns the server; after the first connection, a missing server is a reason to retry."""
    try:
        return find_server()
    except UsageError as error:
        if not cursor.is_known:
            raise
        raise TryLater(str(error)) from error


def _without_error(lines: Lines) -> Lines:
    """Returns the lines before an error line.

    Raises:
        TryLater: the first line is an error.
    """
    for number, line in enumerate(lines):
        if "error" in line:
            if number:
                return lines[:number]  # the connection then ends, and `follow` retries
            raise TryLater(str(line["error"]))
    return lines


def _print(lines: Lines, show: Callable[[Lines], None], cursor: TailCursor) -> None:
    """Prints the events of lines, then stores the position of the last one."""
    if not any("EventId" in line for line in lines):
        _check_reader()
    printed: int | None = None
    try:
        for line in lines:
            if "EventId" in line:
                show([line])
            printed = line["position"]
    finally:  # also after an error: printed events must not be printed again
        if printed is not None:
            sys.stdout.flush()
            cursor.move(printed)


def _print_csv_rows(events: Lines) -> None:
    print_csv(events, with_header=False)


def _check_reader() -> None:
    """Raises BrokenPipeError if the reader of standard output has exited, as in `tail | head`."""
    try:
        descriptor = sys.stdout.fileno()
    except OSError:
        return
    poll = select.poll()
    poll.register(descriptor, 0)
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        raise BrokenPipeError


class TailCursor:
    """The position up to which all matching events are printed, optionally stored in a file."""

    def __init__(self, file: str | None = None) -> None:
        self._file = None if file is None else Path(file)
        self.position: int | None = None
        #: Whether the server has sent a position since the start.
        self.is_known = False
        if self._file is not None:
            self.position = _read_position(self._file)

    def move(self, position: int) -> None:
        """Moves to a position.

        Raises:
            StorageFailed: the file cannot be written.
        """
        moved, self.position, self.is_known = position != self.position, position, True
        if self._file is None or not moved:
            return
        try:
            write_durably(self._file, f"{position}\n".encode())
        except OSError as error:
            raise StorageFailed(f"--resume {self._file}: {error.strerror}") from error


def _read_position(file: Path) -> int | None:
    try:
        return _position(file.read_bytes().decode("ascii", "replace").strip(), f"--resume {file}:")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"--resume {file}: {error.strerror}") from error


def _position(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise UsageError(f"{what} must be a position such as 4711, not {text[:40]!r}")
    return int(text)
