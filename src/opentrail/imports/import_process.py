"""A process that reads batches of files and writes them to sealed files.

python -m opentrail.imports.import_process SOCKET HISTORY-FOLDER JOURNAL
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from opentrail.adapters.duckdb.staging import MOVED, Duplicates, Staging
from opentrail.adapters.ipc.child import arm_in_child, run_child
from opentrail.adapters.ipc.link import MAX_FRAME_BYTES, Handlers, Link
from opentrail.adapters.ipc.messages import Commit, InvalidBatch, Stage, StagedBytes
from opentrail.adapters.journal_source import open_source
from opentrail.core.attributes import Attributes, attributes_of
from opentrail.core.errors import CloudTrailError, StorageFailed
from opentrail.core.event import Json
from opentrail.core.faults import crash_point
from opentrail.imports.batch import BatchFile, unpack
from opentrail.imports.documents import read_file
from opentrail.imports.json_records import AcceptedRecord
from opentrail.imports.unpacking import unpacked_size

T = TypeVar("T")

ID_IN_USE = "another event has this eventID"
#: Bytes of a read.
_READ_BYTES = 1 << 20
#: Rows of a statement.
_BATCH_ROWS = 2_000
#: Maximum bytes of the rejections of a batch, which are sent in one answer, and bytes of a
#: rejection without its strings.
_MAX_REJECTED_BYTES, _REJECTION_BYTES = MAX_FRAME_BYTES // 2, 40
_NICENESS = 10
_TRIES = 5


@dataclass(slots=True)
class _File:
    name: str
    digest: str
    #: The outcome of an earlier import of the same content.
    earlier_report: Json | None = None
    lines: int = 0
    rejected: list[Json] = field(default_factory=list)


class ImportWorker:
    """Stages one batch at a time, and commits it when the server asks for it."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._files: list[_File] = []
        self._rejected_bytes = 0
        #: The staged batch.
        self._batch: str | None = None
        #: Bytes of its files that are read; set by the thread that reads them.
        self._read_bytes = 0

    async def stage(self, request: Stage) -> InvalidBatch | None:
        """Reads a batch; it replaces the one before."""
        self._batch = None
        try:
            await asyncio.to_thread(self._stage, Path(request.batch))
        except CloudTrailError as error:
            return InvalidBatch(error.code, error.message)
        self._batch = request.batch
        return None

    async def staged_bytes(self, _request: StagedBytes) -> int:
        """Returns the number of bytes read of the batch that is being staged."""
        return self._read_bytes

    async def commit(self, request: Commit) -> list[Json]:
        """Writes the events of the staged batch.

        Raises:
            StorageFailed: this process has not staged it.
        """
        if request.batch != self._batch:
            raise StorageFailed(f"{request.batch} is not staged")
        self._batch = None
        return await asyncio.to_thread(self._commit, request.last)

    def _stage(self, batch: Path) -> None:
        self._staging.clear()
        _again(self._staging.load_reports)
        self._files, self._rejected_bytes, self._read_bytes = [], 0, 0
        with batch.open("rb") as content:
            for file in unpack(iter(lambda: content.read(_READ_BYTES), b"")):
                before = self._read_bytes
                self._stage_file(file)
                self._read_bytes = before + len(file.content)

    def _stage_file(self, file: BatchFile) -> None:
        digest = hashlib.sha256(b"%d\n" % file.line + file.content).hexdigest()
        report = self._staging.report_of(digest)
        number, noted = len(self._files), _File(file.name, digest, report)
        self._files.append(noted)
        if report is not None:
            return
        rows: list[tuple[int, Attributes, bytes]] = []
        before, record_bytes = self._read_bytes, 0
        # Packed bytes for each byte of a record.
        ratio = min(1.0, len(file.content) / max(1, unpacked_size(file.content)))
        for line in read_file(file.name, file.content, file.line):
            noted.lines += 1
            if isinstance(line, AcceptedRecord):
                rows.append((line.line, attributes_of(line.record), line.raw))
                record_bytes += len(line.raw)
                if len(rows) == _BATCH_ROWS:
                    self._staging.add(number, rows)
                    rows = []
                    self._read_bytes = before + min(len(file.content), int(ratio * record_bytes))
            else:
                texts = {"reason": line.reason, "detail": line.detail}
                noted.rejected.append({"line": line.line, **texts})
                size = sum(len(text.encode()) for text in texts.values())
                self._rejected_bytes += _REJECTION_BYTES + size
                if self._rejected_bytes > _MAX_REJECTED_BYTES:
                    message = f"{file.name}: too many lines of the batch are no records"
                    raise CloudTrailError("InvalidParameterException", message)
        self._staging.add(number, rows)

    def _commit(self, last: int) -> list[Json]:
        duplicates = Duplicates()
        _again(lambda: self._staging.deduplicate(duplicates))
        outcomes = [self._outcome(number, duplicates) for number in range(len(self._files))]
        imported = [
            (file.digest, file.name, outcome)
            for file, outcome in zip(self._files, outcomes, strict=True)
            if file.earlier_report is None
        ]
        self._staging.write(datetime.now(UTC), imported, last)
        crash_point("import.written")
        self._staging.clear()
        return [
            {
                "name": file.name,
                "state": "imported" if file.earlier_report is None else "known",
                **outcome,
            }
            for file, outcome in zip(self._files, outcomes, strict=True)
        ]

    def _outcome(self, number: int, duplicates: Duplicates) -> Json:
        """Returns the outcome of a file: lines = imported + doubled + rejected (guarantee N5)."""
        file = self._files[number]
        if file.earlier_report is not None:
            return file.earlier_report
        lines = sorted(duplicates.other.get(number, ()))
        in_use = [{"line": line, "reason": ID_IN_USE, "detail": ""} for line in lines]
        rejected = sorted([*file.rejected, *in_use], key=lambda line: int(line["line"]))
        doubled = duplicates.same[number]
        imported = file.lines - doubled - len(rejected)
        counts = {"lines": file.lines, "imported": imported, "doubled": doubled}
        return {**counts, "rejected": rejected}


def _again(work: Callable[[], T]) -> T:
    """Retries work that fails when compaction removes a file."""
    for attempt in range(1, _TRIES + 1):
        try:
            return work()
        except MOVED:
            if attempt == _TRIES:
                raise
    raise AssertionError("the last try returns or raises")


async def _serve(ends: list[socket.socket], arguments: list[str]) -> None:
    history, journal = arguments
    staging = Staging(Path(history), open_source(journal))
    worker = ImportWorker(staging)
    handlers: Handlers = {
        Stage: worker.stage,
        StagedBytes: worker.staged_bytes,
        Commit: worker.commit,
    }
    link = await Link.over(ends[0], handlers)
    await link.gone
    staging.close()


if __name__ == "__main__":
    os.nice(_NICENESS)
    arm_in_child(("import.written", "history.sealed"))
    run_child(_serve, ends=1)
