"""One of a few processes that read batches of files and write them to sealed files.

python -m opentrail.imports.worker SOCKET HISTORY-FOLDER JOURNAL-FOLDER
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import orjson

from opentrail.adapters.duckdb.crash import arm_in_child
from opentrail.adapters.duckdb.staging import MOVED, Settled, Staging
from opentrail.adapters.ipc.link import Link
from opentrail.adapters.ipc.messages import COMMIT
from opentrail.core.attributes import Attributes, attributes_of
from opentrail.core.errors import CloudTrailError
from opentrail.core.faults import reach
from opentrail.imports.batch import BatchFile, unpack
from opentrail.imports.documents import read_file
from opentrail.imports.records import AcceptedRecord
from opentrail.logs import set_up_logging

T = TypeVar("T")

TAKEN_ID = "another event has this eventID"
_READ, _BATCH = 1 << 20, 2_000
_NICENESS, _TRIES = 10, 5


@dataclass(slots=True)
class _File:
    name: str
    digest: str
    #: What became of it before, if it is known.
    known: dict[str, Any] | None = None
    lines: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)


class ImportWorker:
    """Stages one batch at a time, and commits it when the server says that it is its turn."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._files: list[_File] = []

    async def answer(self, question: str, body: bytes) -> bytes:
        """Answers the server's questions."""
        if question == COMMIT:
            return orjson.dumps(await asyncio.to_thread(self._commit, orjson.loads(body or b"0")))
        try:
            await asyncio.to_thread(self._stage, Path(os.fsdecode(body)))
        except CloudTrailError as error:
            return orjson.dumps({"error": error.message, "code": error.code})
        return b"{}"

    def _stage(self, batch: Path) -> None:
        self._staging.clear()
        _again(self._staging.recall)
        self._files = []
        with batch.open("rb") as content:
            for file in unpack(iter(lambda: content.read(_READ), b"")):
                self._stage_file(file)

    def _stage_file(self, file: BatchFile) -> None:
        digest = hashlib.sha256(b"%d\n" % file.line + file.content).hexdigest()
        known = self._staging.outcome_of(digest)
        number, noted = len(self._files), _File(file.name, digest, known)
        self._files.append(noted)
        if known is not None:
            return
        rows: list[tuple[int, Attributes, bytes]] = []
        for line in read_file(file.name, file.content, file.line):
            noted.lines += 1
            if isinstance(line, AcceptedRecord):
                rows.append((line.line, attributes_of(line.record), line.raw))
                if len(rows) == _BATCH:
                    self._staging.add(number, rows)
                    rows = []
            else:
                noted.rejected.append(
                    {"line": line.line, "reason": line.reason, "detail": line.detail}
                )
        self._staging.add(number, rows)

    def _commit(self, last: int) -> dict[str, Any]:
        settled = Settled()
        _again(lambda: self._staging.settle(settled))
        told = [self._outcome(number, settled) for number in range(len(self._files))]
        outcomes = [
            (file.digest, file.name, outcome)
            for file, outcome in zip(self._files, told, strict=True)
            if file.known is None
        ]
        written = self._staging.write(datetime.now(UTC), outcomes, last)
        reach("import.written")
        self._staging.clear()
        files = [
            {"name": file.name, "state": "imported" if file.known is None else "known", **outcome}
            for file, outcome in zip(self._files, told, strict=True)
        ]
        return {"path": str(written[0]) if written else None, "files": files}

    def _outcome(self, number: int, settled: Settled) -> dict[str, Any]:
        """Returns what became of a file: lines = imported + doubled + rejected (N5)."""
        file = self._files[number]
        if file.known is not None:
            return file.known
        lines = sorted(settled.taken_ids.get(number, ()))
        taken = [{"line": line, "reason": TAKEN_ID, "detail": ""} for line in lines]
        rejected = sorted([*file.rejected, *taken], key=lambda lost: int(lost["line"]))
        doubled = settled.doubled[number]
        imported = file.lines - doubled - len(rejected)
        counts = {"lines": file.lines, "imported": imported, "doubled": doubled}
        return {**counts, "rejected": rejected}


def _again(work: Callable[[], T]) -> T:
    """Does what may fail because a file is merged away meanwhile."""
    for attempt in range(1, _TRIES + 1):
        try:
            return work()
        except MOVED:
            if attempt == _TRIES:
                raise
    raise AssertionError("the last try returns or raises")


async def _run(descriptor: int, history: Path, journal: Path) -> None:
    with socket.socket(fileno=descriptor) as end:
        end.setblocking(False)
        staging = Staging(history, journal)
        link = await Link.over(end, ImportWorker(staging).answer)
        await link.gone
        staging.close()


def main() -> None:
    """Runs a worker; it ends when the server closes the socket."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    os.nice(_NICENESS)
    set_up_logging()
    arm_in_child(("import.written", "history.sealed"), [os.getpid()])
    descriptor, history, journal = sys.argv[1:]
    asyncio.run(_run(int(descriptor), Path(history), Path(journal)))


if __name__ == "__main__":
    main()
