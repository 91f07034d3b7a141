"""Imports files: reads them, sends them in batches and counts the outcome of every line."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, TextIO

from opentrail.commands.arguments import add_client
from opentrail.commands.client import Console, OnProgress, find
from opentrail.commands.import_sources import Found, NotSent, check, find_files, read_all
from opentrail.commands.progress import Progress
from opentrail.commands.rendering import print_json
from opentrail.core.batching import batches as limited_batches
from opentrail.core.errors import NothingToDecide, OpentrailError, TryLater, UsageError
from opentrail.core.text import printable
from opentrail.imports.batch import MAX_FILES, WORKERS, BatchFile, header_of
from opentrail.imports.json_records import DIGEST_FILE

#: Seconds between updates of the progress.
_PROGRESS_SECONDS = 0.25
#: Maximum seconds to wait at the end for the counting thread, which may be listing a bucket.
_LAST_WAIT = 1.0

Answer = dict[str, Any]
Sent = tuple[list[BatchFile], Future[list[Answer]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="file, folder, s3://BUCKET/PREFIX, or - for standard input",
    )
    parser.add_argument("--rejected", metavar="FILE", help="write every rejected line, as JSON")
    add_client(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Imports the named files, prints the outcome and returns the exit code.

    Raises:
        UsageError: a path does not exist, or no server is found.
        OpentrailError: the server or a store failed; answered batches stay imported.
    """
    check(options.paths)
    find(options)
    with _losses(options.rejected) as losses:
        totals = Totals(losses)
        progress = Progress(sys.stderr)
        try:
            with _count_ahead(options.paths, progress):
                _import(options, totals, progress)
        except OpentrailError as error:
            raise _stop_error(error, totals) from error
        except KeyboardInterrupt:
            progress.end()
            sys.stderr.write(f"opentrail: {_stop_error('interrupted', totals)}\n")
            raise
        finally:
            progress.end()
    if options.json:
        print_json(totals.as_json())
    else:
        sys.stdout.write(totals.as_text() + "\n")
    if not totals.lines:
        raise NothingToDecide(f"nothing to import: no record in {', '.join(options.paths)}")
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
def _count_ahead(paths: list[str], progress: Progress) -> Iterator[None]:
    """Counts all bytes in a thread, to show the remaining time."""
    ended = threading.Event()

    def count() -> None:
        size = 0
        with contextlib.suppress(OpentrailError):
            for source in find_files(paths):
                size += source.size if isinstance(source, Found) else 0
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
    def on_wait(reason: str) -> None:
        progress.waiting = printable(reason)

    def send(batch: list[BatchFile]) -> list[Answer]:
        def on_progress(read: int, _total: int | None) -> None:
            progress.under_way[id(batch)] = read

        return sender.send(batch, on_progress)

    sender = Sender(lambda: find(options), on_wait)
    pool = ThreadPoolExecutor(WORKERS)
    under_way: deque[Sent] = deque()
    pieces = read_all(find_files(options.paths))
    try:
        for batch in batches(pieces, totals.count_not_sent):
            while len(under_way) >= WORKERS:
                _await_answer(under_way.popleft(), totals, progress)
            under_way.append((batch, pool.submit(send, batch)))
        while under_way:
            _await_answer(under_way.popleft(), totals, progress)
    finally:
        sender.end()
        pieces.close()
        pool.shutdown(wait=False, cancel_futures=True)
        for files, answers in under_way:
            with contextlib.suppress(OpentrailError, CancelledError):
                _await_answer((files, answers), totals, progress)


def _await_answer(request: Sent, totals: Totals, progress: Progress) -> None:
    """Waits for a batch's answer and counts it."""
    batch, future = request
    while True:
        try:
            answers = future.result(_PROGRESS_SECONDS)
            break
        except FutureTimeout:
            progress.show()
    for file, answer in zip(batch, answers, strict=True):
        totals.count_sent(file, answer)
    progress.under_way.pop(id(batch), None)
    size = sum(len(file.content) for file in batch)
    progress.advance(size, sum(answer["lines"] for answer in answers))


def _stop_error(error: OpentrailError | str, totals: Totals) -> OpentrailError:
    """Returns the error with the progress of the import."""
    stopped = OpentrailError(
        f"{error}; so far {totals.sum()} of {totals.files:,} files."
        " Run the same command again to continue"
    )
    if isinstance(error, OpentrailError):
        stopped.exit_code = error.exit_code
    return stopped


PATH = "/api/v1/import"
#: Maximum bytes of a batch, unpacked. Three concurrent batches keep the command below 300 MB of
#: memory.
_MAX_BATCH_BYTES = 64_000_000
#: Assumed ratio of unpacked to packed bytes.
_UNPACKED_RATIO = 12
_GZIP = b"\x1f\x8b"
#: Timeout of a request.
_TIMEOUT_SECONDS = 600.0
#: Maximum attempts per batch.
_MAX_ATTEMPTS = 9
_MAX_PAUSE_SECONDS = 30.0
_COUNTS = ("lines", "imported", "doubled")


def batches(
    pieces: Iterable[BatchFile | NotSent], on_not_sent: Callable[[NotSent], None]
) -> Iterator[list[BatchFile]]:
    """Yields the files of each request; passes files that are not sent to `on_not_sent`."""

    def sent() -> Iterator[BatchFile]:
        for piece in pieces:
            if isinstance(piece, NotSent):
                on_not_sent(piece)
            else:
                yield piece

    return limited_batches(sent(), _unpacked_size, _MAX_BATCH_BYTES, MAX_FILES)


def _unpacked_size(file: BatchFile) -> int:
    """Estimates the unpacked size of a file in bytes."""
    return len(file.content) * (_UNPACKED_RATIO if file.content.startswith(_GZIP) else 1)


class Sender:
    """Sends batches to a server and retries across its restarts; thread-safe.

    Args:
        find: finds the server, called for each attempt.
        on_wait: takes the reason for a retry, and an empty string after success.
    """

    def __init__(
        self,
        find: Callable[[], Console],
        on_wait: Callable[[str], None] = lambda _: None,
        first_pause: float = 0.5,
    ) -> None:
        self._find = find
        self._on_wait = on_wait
        self._first_pause = first_pause
        self._ended = threading.Event()
        self._chance = random.SystemRandom()

    def end(self) -> None:
        """Stops retrying: the next failure is raised."""
        self._ended.set()

    def send(
        self, batch: list[BatchFile], on_progress: OnProgress = lambda _read, _total: None
    ) -> list[Answer]:
        """Returns the outcome of each file once its events are durable.

        Calls `on_progress` with the bytes of the batch that the server has read.

        Raises:
            TryLater: the server was unreachable or overloaded in all attempts.
            OpentrailError: the server refuses the batch or does not account for every line.
        """
        parts = [part for file in batch for part in (header_of(file), file.content)]
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                console = self._find_again() if attempt > 1 else self._find()
                answer = console.send(PATH, parts, _TIMEOUT_SECONDS, on_progress)
                self._on_wait("")
                return _check_outcomes(answer, batch)
            except TryLater as error:
                self._on_wait(str(error))
                pause = min(_MAX_PAUSE_SECONDS, self._first_pause * 2 ** (attempt - 1))
                pause *= self._chance.uniform(0.5, 1)
                if attempt == _MAX_ATTEMPTS or self._ended.wait(pause):
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _find_again(self) -> Console:
        try:
            return self._find()
        except UsageError as error:
            raise TryLater(str(error)) from error


def _check_outcomes(answer: dict[str, Any], batch: list[BatchFile]) -> list[Answer]:
    """Returns the files of an answer that accounts for every line (guarantee N5)."""
    files = answer.get("files")
    try:
        if not isinstance(files, list) or [f["name"] for f in files] != [f.name for f in batch]:
            raise OpentrailError("the server's answer does not match the sent files")
        for file in files:
            lines, imported, doubled = (int(file[count]) for count in _COUNTS)
            if lines != imported + doubled + len(file["rejected"]):
                raise OpentrailError(
                    f"the server does not account for every line of {file['name']}"
                )
            for rejected in file["rejected"]:
                rejected["line"], rejected["reason"], rejected["detail"]
    except (TypeError, ValueError, KeyError) as error:
        raise OpentrailError(f"the server's answer cannot be understood: {error!r}") from error
    return files


#: Maximum printed lines per reason for rejection.
_MAX_PRINTED_OF_REASON = 3
#: Maximum printed rejected lines.
_MAX_PRINTED = 20
_NO_RECORDS = "file without records"


class Totals:
    """Counts lines by outcome; writes every rejected line as JSON to `losses`, if given."""

    def __init__(self, losses: TextIO | None = None) -> None:
        self.files = self.known = self.lines = self.imported = self.doubled = 0
        self.reasons: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        #: The first rejected lines of each reason.
        self._first: list[dict[str, Any]] = []
        self._losses = losses

    def count_sent(self, file: BatchFile, answer: dict[str, Any]) -> None:
        """Counts the lines of a file, or of a part of one, from the server's answer."""
        if file.line == 1:
            self.files += 1
            self.known += answer["state"] == "known"
            if not answer["lines"]:
                self.skipped[_NO_RECORDS] += 1
        self.lines += answer["lines"]
        if answer["state"] == "known":  # imported before, so all its events are duplicates
            self.doubled += answer["imported"] + answer["doubled"]
        else:
            self.imported += answer["imported"]
            self.doubled += answer["doubled"]
        for line in answer["rejected"]:
            self._record_loss(file.name, line["line"], str(line["reason"]), str(line["detail"]))

    def count_not_sent(self, file: NotSent) -> None:
        """Counts an unsent file, as a rejected line if it may have had records."""
        if not file.is_lost:
            self.skipped[file.reason] += 1
            return
        self.files += file.line == 1
        self.lines += 1
        self._record_loss(file.name, file.line, file.reason, file.detail)

    def _record_loss(self, name: str, line: int, reason: str, detail: str) -> None:
        self.reasons[reason] += 1
        loss = {"name": name, "line": line, "reason": reason, "detail": detail}
        if self.reasons[reason] <= _MAX_PRINTED_OF_REASON and len(self._first) < _MAX_PRINTED:
            self._first.append(loss)
        if self._losses:
            self._losses.write(json.dumps(loss) + "\n")

    @property
    def rejected(self) -> int:
        """The number of rejected lines."""
        return self.reasons.total()

    @property
    def is_complete(self) -> bool:
        """Whether only digest files, which have no events, were rejected."""
        return set(self.reasons) <= {DIGEST_FILE}

    def as_json(self) -> dict[str, Any]:
        return {
            "files": self.files,
            "known": self.known,
            "lines": self.lines,
            "imported": self.imported,
            "doubled": self.doubled,
            "rejected": self.rejected,
            "reasons": dict(self.reasons.most_common()),
            "skipped": dict(self.skipped.most_common()),
            "first_rejected": self._first,
        }

    def as_text(self) -> str:
        before = f", {self.known:,} of them imported before" if self.known else ""
        lines = [f"{self.files:,} {'file' if self.files == 1 else 'files'}{before}", self.sum()]
        lines += [f"{n:>9,} {printable(reason)}" for reason, n in self.reasons.most_common()]
        if self.skipped:
            lines.append("skipped")
            lines += [f"{n:>9,} {reason}" for reason, n in self.skipped.most_common()]
        lines += [_loss(loss) for loss in self._first]
        if self.rejected > len(self._first):
            more = self.rejected - len(self._first)
            lines.append(f"... and {more:,} more; --rejected FILE writes all of them")
        return "\n".join(lines)

    def sum(self) -> str:
        """Returns the sum that counts every line once (guarantee N5)."""
        lines = "1 line" if self.lines == 1 else f"{self.lines:,} lines"
        return (
            f"{lines} = {self.imported:,} imported + {self.doubled:,} doubled"
            f" + {self.rejected:,} rejected"
        )


def _loss(loss: dict[str, Any]) -> str:
    detail = f" ({loss['detail']})" if loss["detail"] else ""
    return printable(f"{loss['name']}:{loss['line']}: {loss['reason']}{detail}")
