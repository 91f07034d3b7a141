"""Sends files in batches, each request a transaction that may be sent again."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from opentrail.commands.client import Console
from opentrail.commands.import_sources import NotSent
from opentrail.core.errors import OpentrailError, TryLater, UsageError
from opentrail.imports.batch import MOST_FILES, BatchFile, header_of

PATH = "/api/v1/import"
#: What a batch may come to unpacked, and how many times a packed file becomes larger, as a guess.
#: Two batches under way and one being filled, with all else, stay below 300 MB.
_BATCH, _GUESS = 64_000_000, 12
_GZIP = b"\x1f\x8b"
_SECONDS = 600.0
_ATTEMPTS, _LONGEST_PAUSE = 9, 30.0
_COUNTS = ("lines", "imported", "doubled")

Answer = dict[str, Any]


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
