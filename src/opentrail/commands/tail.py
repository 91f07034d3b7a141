"""Following events as they are recorded, over restarts of the server and of the command."""

from __future__ import annotations

import argparse
import random
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from opentrail.adapters.files import write_durably
from opentrail.commands.client import Console, find
from opentrail.commands.rendering import print_csv, print_lines, print_records
from opentrail.core.errors import StorageFailed, TokenRefused, TryLater, UsageError
from opentrail.core.text import printable

PATH = "/api/v1/tail"
#: The server says something every few seconds: after a longer silence it is gone.
_SECONDS = 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0

Lines = list[dict[str, Any]]


def run(options: argparse.Namespace, conditions: Mapping[str, str | None]) -> int:
    """Prints events as they come, until it is interrupted.

    Raises:
        UsageError: no server is found, or it cannot follow what is asked for.
        OpentrailError: the server says no; one that is gone for a while is waited for.
    """
    if options.after is not None and options.last is not None:
        raise UsageError("--after and --last exclude each other")
    place = TailCursor(options.resume)
    if place.position is None and options.after is not None:
        place.position = _position(options.after, "--after")
    show: Callable[[Lines], None] = print_lines
    if options.json:
        show = print_records
    elif options.csv:
        print_csv([])
        show = _print_csv_rows
    with Interrupts() as interrupts:
        for lines in follow(lambda: find(options), {**conditions, "last": options.last}, place):
            with interrupts.held():
                _print(lines, show, place)
    return 0


class Interrupts:
    """Interrupts that wait while lines are printed: what was printed must not come again.

    A second one waits no more. And none is lost: Python raises `KeyboardInterrupt` wherever it is,
    in a finalizer too, which cannot pass it on. The server says something every few seconds.
    """

    def __init__(self) -> None:
        self._count = 0
        self._is_held = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        """Begins; only in the main thread there are interrupts."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves interrupts to whoever had them before."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if not self._is_held or self._count > 1:
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lets interrupts wait.

        Raises:
            KeyboardInterrupt: there was one, before or meanwhile.
        """
        if self._count:
            raise KeyboardInterrupt
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._count:
            raise KeyboardInterrupt


def follow(
    find_server: Callable[[], Console],
    query: Mapping[str, str | None],
    place: TailCursor,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Lines]:
    """Gives lines as they come, for ever; `place` tells where to go on behind a lost server."""
    failures, chance = 0, random.SystemRandom()
    while True:
        after = place.position
        given = query if after is None else {**query, "last": None, "after": str(after)}
        try:
            with _found(find_server, place).lines(PATH, given, _SECONDS) as answer:
                for lines in answer:
                    told = _told(lines)
                    if failures:
                        sys.stderr.write("opentrail: the server is back\n")
                    failures = 0
                    yield told
            raise TryLater("the server has ended the answer")
        except (TryLater, TokenRefused) as error:
            if not place.is_known:
                raise
            if not failures:
                sys.stderr.write(f"opentrail: waiting for the server: {printable(str(error))}\n")
                sys.stderr.flush()
        pause(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(failures, 10)) * chance.uniform(0.5, 1))
        failures += 1


def _found(find_server: Callable[[], Console], place: TailCursor) -> Console:
    """Returns the server; once there was one, its absence is only a matter of time."""
    try:
        return find_server()
    except UsageError as error:
        if not place.is_known:
            raise
        raise TryLater(str(error)) from error


def _told(lines: Lines) -> Lines:
    """Returns the lines unless one of them says that the server cannot go on."""
    for number, line in enumerate(lines):
        if "error" in line:
            if number:
                return lines[:number]  # the connection ends behind it, which says the same
            raise TryLater(str(line["error"]))
    return lines


def _print(lines: Lines, show: Callable[[Lines], None], place: TailCursor) -> None:
    """Prints the events among lines, and only then keeps the position of the last one."""
    if not any("EventId" in line for line in lines):
        _check_reader()
    printed: int | None = None
    try:
        for line in lines:
            if "EventId" in line:
                show([line])
            printed = line["position"]
    finally:  # also when it ends here: what was printed must not come again
        if printed is not None:
            sys.stdout.flush()
            place.move(printed)


def _print_csv_rows(events: Sequence[dict[str, Any]]) -> None:
    print_csv(events, with_header=False)


def _check_reader() -> None:
    """Raises BrokenPipeError if nobody reads what is printed: `tail | head` ends at once."""
    try:
        descriptor = sys.stdout.fileno()
    except OSError:
        return
    poll = select.poll()
    poll.register(descriptor, 0)
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        raise BrokenPipeError


class TailCursor:
    """The position up to which everything that fits has been printed; kept in a file, if given."""

    def __init__(self, file: str | None = None) -> None:
        self._file = None if file is None else Path(file)
        self.position: int | None = None
        #: Whether the server has told a position since the start: then it was there.
        self.is_known = False
        if self._file is not None:
            self.position = _kept(self._file)

    def move(self, position: int) -> None:
        """Goes on to a position.

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


def _kept(file: Path) -> int | None:
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
