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
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import Any, TextIO

from opentrail.commands.client import Console, find
from opentrail.commands.import_sources import Found, NotSent, check, find_files, read_all
from opentrail.commands.progress import Progress
from opentrail.core.errors import OpentrailError, TryLater, UsageError
from opentrail.core.text import printable
from opentrail.imports.batch import MOST_FILES, BatchFile, header_of
from opentrail.imports.records import DIGEST_FILE

#: Requests under way; while they are, a third batch is filled.
_UNDER_WAY = 2
_LOOK = 0.25
#: How long the end waits for the thread that counts, which may be listing a bucket.
_LAST_WAIT = 1.0

Answer = dict[str, Any]
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


PATH = "/api/v1/import"
#: What a batch may come to unpacked, and how many times a packed file becomes larger, as a guess.
#: Two batches under way and one being filled, with all else, stay below 300 MB.
_BATCH, _GUESS = 64_000_000, 12
_GZIP = b"\x1f\x8b"
_SECONDS = 600.0
_ATTEMPTS, _LONGEST_PAUSE = 9, 30.0
_COUNTS = ("lines", "imported", "doubled")


def batches(
    pieces: Iterable[BatchFile | NotSent], note: Callable[[NotSent], None]
) -> Iterator[list[BatchFile]]:
    """Yields the files of one request after the other; tells `note` what is not sent."""
    batch: list[BatchFile] = []
    size = 0
    for piece in pieces:
        if isinstance(piece, NotSent):
            note(piece)
            continue
        guess = len(piece.content) * (_GUESS if piece.content.startswith(_GZIP) else 1)
        if batch and (size + guess > _BATCH or len(batch) == MOST_FILES):
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += guess
    if batch:
        yield batch


class Sender:
    """Sends batches to a server, also one that is started again meanwhile; used by threads.

    Args:
        find: finds the server, anew for each attempt.
        waits: is told why sending waits, and an empty text when it does no more.
    """

    def __init__(
        self,
        find: Callable[[], Console],
        waits: Callable[[str], None] = lambda _: None,
        first_pause: float = 0.5,
    ) -> None:
        self._find = find
        self._waits = waits
        self._first_pause = first_pause
        self._ended = threading.Event()
        self._chance = random.SystemRandom()

    def end(self) -> None:
        """Makes all sending end at the next failure."""
        self._ended.set()

    def send(self, batch: list[BatchFile]) -> list[Answer]:
        """Returns what came of each file, once that is durable.

        Raises:
            TryLater: the server stayed away or without room.
            OpentrailError: the server says no, or does not account for every line.
        """
        parts = [part for file in batch for part in (header_of(file), file.content)]
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                console = self._find_again() if attempt > 1 else self._find()
                answer = console.ask(PATH, parts, "application/octet-stream", _SECONDS)
                self._waits("")
                return _accounted(answer, batch)
            except TryLater as error:
                self._waits(str(error))
                pause = min(_LONGEST_PAUSE, self._first_pause * 2 ** (attempt - 1))
                pause *= self._chance.uniform(0.5, 1)
                if attempt == _ATTEMPTS or self._ended.wait(pause):
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _find_again(self) -> Console:
        try:
            return self._find()
        except UsageError as error:
            raise TryLater(str(error)) from error


def _accounted(answer: dict[str, Any], batch: list[BatchFile]) -> list[Answer]:
    """Returns the answer's files if it accounts for every line sent (guarantee N5)."""
    files = answer.get("files")
    try:
        if not isinstance(files, list) or [f["name"] for f in files] != [f.name for f in batch]:
            raise OpentrailError("the server's answer is not about the files that were sent")
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


#: Losses that are shown: so many of one reason, and so many in all.
_SHOWN_OF_ONE, _SHOWN = 3, 20


class Totals:
    """Counts; `losses` gets every rejected line as JSON, if there is such a file."""

    def __init__(self, losses: TextIO | None = None) -> None:
        self.files = self.known = self.lines = self.imported = self.doubled = 0
        self.reasons: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        #: The first losses of each reason.
        self._first: list[dict[str, Any]] = []
        self._losses = losses

    def note_sent(self, sent: BatchFile, answer: dict[str, Any]) -> None:
        """Counts what the server says of a file or a piece of one."""
        if sent.line == 1:
            self.files += 1
            self.known += answer["state"] == "known"
        self.lines += answer["lines"]
        if answer["state"] == "known":  # what an earlier import took in is not taken in again
            self.doubled += answer["imported"] + answer["doubled"]
        else:
            self.imported += answer["imported"]
            self.doubled += answer["doubled"]
        for lost in answer["rejected"]:
            self._note_loss(sent.name, lost["line"], str(lost["reason"]), str(lost["detail"]))

    def note_not_sent(self, passed: NotSent) -> None:
        """Counts what was not even sent; what may have held records is a rejected line."""
        if not passed.is_lost:
            self.skipped[passed.reason] += 1
            return
        self.files += passed.line == 1
        self.lines += 1
        self._note_loss(passed.name, passed.line, passed.reason, passed.detail)

    def _note_loss(self, name: str, line: int, reason: str, detail: str) -> None:
        self.reasons[reason] += 1
        loss = {"name": name, "line": line, "reason": reason, "detail": detail}
        if self.reasons[reason] <= _SHOWN_OF_ONE and len(self._first) < _SHOWN:
            self._first.append(loss)
        if self._losses:
            self._losses.write(json.dumps(loss) + "\n")

    @property
    def rejected(self) -> int:
        """Lines that were not taken."""
        return self.reasons.total()

    @property
    def is_complete(self) -> bool:
        """Whether all was taken, but for digest files, which hold no events."""
        return set(self.reasons) <= {DIGEST_FILE}

    def as_json(self) -> dict[str, Any]:
        """Returns all counts and the first losses."""
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

    def told(self) -> str:
        """Returns the counts and the first losses as text."""
        known = f", {self.known:,} of them imported before" if self.known else ""
        lines = [f"{self.files:,} {'file' if self.files == 1 else 'files'}{known}", self.sum()]
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
        """Returns the sum of lines, each of which is in one of its parts (guarantee N5)."""
        return (
            f"{self.lines:,} lines = {self.imported:,} imported + {self.doubled:,} doubled"
            f" + {self.rejected:,} rejected"
        )


def _loss(loss: dict[str, Any]) -> str:
    detail = f" ({loss['detail']})" if loss["detail"] else ""
    return printable(f"{loss['name']}:{loss['line']}: {loss['reason']}{detail}")
