"""The command itself: what is found goes out in batches, two at a time."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import TextIO

from opentrail.commands.client import find
from opentrail.commands.import_batches import read_all
from opentrail.commands.import_sources import Found, check, find_files
from opentrail.commands.import_totals import Totals
from opentrail.commands.import_upload import Answer, Sender, batches
from opentrail.commands.progress import Progress
from opentrail.core.errors import OpentrailError, UsageError
from opentrail.core.text import printable
from opentrail.imports.batch import BatchFile

#: Requests under way; while they are, a third batch is filled.
_UNDER_WAY = 2
_LOOK = 0.25
#: How long the end waits for the thread that counts, which may be listing a bucket.
_LAST_WAIT = 1.0

Sent = tuple[list[BatchFile], Future[list[Answer]]]


def run(options: argparse.Namespace) -> int:
    """Imports what the paths name, tells what came of it, and returns the exit code.

    Raises:
        UsageError: a path names nothing, or no server is found.
        OpentrailError: the server or a store failed; all that was answered stays imported.
    """
    check(options.paths)
    find(options)
    with _losses(options.rejected) as losses:
        totals = Totals(losses)
        progress = Progress(sys.stderr)
        try:
            with _counted_ahead(options.paths, progress):
                _import(options, totals, progress)
        except OpentrailError as error:
            raise _stopped(error, totals) from error
        except KeyboardInterrupt:
            progress.end()
            sys.stderr.write(f"opentrail: {_stopped('interrupted', totals)}\n")
            raise
        finally:
            progress.end()
    if options.json:
        sys.stdout.write(json.dumps(totals.as_json()) + "\n")
    else:
        sys.stdout.write(totals.told() + "\n")
    return 0 if totals.is_complete else 1


@contextlib.contextmanager
def _losses(path: str | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    try:
        file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(f"--rejected {path}: {error.strerror}") from error
    with file:
        yield file


@contextlib.contextmanager
def _counted_ahead(paths: list[str], progress: Progress) -> Iterator[None]:
    """Finds out meanwhile how many bytes there are, which tells the time that remains."""
    ended = threading.Event()

    def count() -> None:
        size = 0
        with contextlib.suppress(OpentrailError):
            for one in find_files(paths):
                size += one.size if isinstance(one, Found) else 0
                if ended.is_set():
                    return
            progress.total = size

    counting = threading.Thread(target=count, daemon=True)
    counting.start()
    try:
        yield
    finally:
        ended.set()
        counting.join(_LAST_WAIT)


def _import(options: argparse.Namespace, totals: Totals, progress: Progress) -> None:
    def waits(reason: str) -> None:
        progress.waiting = printable(reason)

    sender = Sender(lambda: find(options), waits)
    pool = ThreadPoolExecutor(_UNDER_WAY)
    under_way: deque[Sent] = deque()
    pieces = read_all(find_files(options.paths))
    try:
        for batch in batches(pieces, totals.note_not_sent):
            while len(under_way) >= _UNDER_WAY:
                _settle(under_way.popleft(), totals, progress)
            under_way.append((batch, pool.submit(sender.send, batch)))
        while under_way:
            _settle(under_way.popleft(), totals, progress)
    finally:
        sender.end()
        pieces.close()
        pool.shutdown(wait=False, cancel_futures=True)
        for sent, answers in under_way:
            with contextlib.suppress(OpentrailError, CancelledError):
                _settle((sent, answers), totals, progress)


def _settle(sent: Sent, totals: Totals, progress: Progress) -> None:
    """Waits for a batch's answer and counts it."""
    batch, future = sent
    while True:
        try:
            answers = future.result(_LOOK)
            break
        except NotYet:
            progress.show()
    for file, answer in zip(batch, answers, strict=True):
        totals.note_sent(file, answer)
    size = sum(len(file.content) for file in batch)
    progress.advance(size, sum(answer["lines"] for answer in answers))


def _stopped(error: OpentrailError | str, totals: Totals) -> OpentrailError:
    """Returns the error with how far the import came."""
    stopped = OpentrailError(
        f"{error}; until then {totals.sum()} of {totals.files:,} files."
        " Run the same command again to go on"
    )
    if isinstance(error, OpentrailError):
        stopped.exit_code = error.exit_code
    return stopped
