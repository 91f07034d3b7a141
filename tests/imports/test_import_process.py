"""One batch of files: every line of every file is accounted for."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from opentrail.adapters.duckdb.staging import Staging
from opentrail.adapters.ipc.messages import Commit, InvalidBatch, Stage
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.errors import StorageFailed
from opentrail.imports import import_process
from opentrail.imports.batch import BatchFile, pack
from opentrail.imports.import_process import ID_IN_USE, ImportWorker
from opentrail.imports.json_records import DIGEST_FILE
from tests.factories import a_record, some_records
from tests.fakes import asynchronous, run


class Place:
    """A worker, and batches for it."""

    def __init__(self, root: Path) -> None:
        (root / "history").mkdir()
        (root / "journal").mkdir()
        self.batch = root / "batch"
        self.staging = Staging(root / "history", SqliteJournalSource(root / "journal"))
        self.worker = ImportWorker(self.staging)

    @property
    def files(self) -> list[Path]:
        return list((self.batch.parent / "history").glob("*.duckdb"))

    async def bring(self, *files: BatchFile) -> list[dict[str, Any]]:
        self.batch.write_bytes(pack(files))
        assert await self.worker.stage(Stage(str(self.batch))) is None
        return await self.worker.commit(Commit(str(self.batch), 0))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.staging.close()


def log_file(name: str, records: Sequence[Any]) -> BatchFile:
    return BatchFile(name, gzip.compress(json.dumps({"Records": records}).encode()))


@asynchronous
async def test_every_line_is_imported_doubled_or_rejected(place: Place) -> None:
    records = some_records(5)
    digest = json.dumps({"digestStartTime": "x", "digestSignatureAlgorithm": "y", "logFiles": []})
    reports = await place.bring(
        log_file("a.json.gz", [*records[:3], {"no": "record"}, records[0]]),
        BatchFile("b.ndjson", b"\n".join(map(orjson.dumps, records)) + b"\n{nonsense\n", line=11),
        BatchFile("c", digest.encode()),
        BatchFile("d", b""),
        log_file("e", [a_record(eventID=records[1]["eventID"], sourceIPAddress="10.1.1.1")]),
    )
    assert place.files
    a, b, c, d, e = reports
    assert [file["state"] for file in reports] == ["imported"] * 5
    assert (a["name"], a["lines"], a["imported"], a["doubled"]) == ("a.json.gz", 5, 3, 1)
    assert [lost["line"] for lost in a["rejected"]] == [4]
    assert (b["lines"], b["imported"], b["doubled"]) == (6, 2, 3)
    assert [lost["line"] for lost in b["rejected"]] == [16]
    assert [lost["reason"] for lost in c["rejected"]] == [DIGEST_FILE]
    assert (d["lines"], d["rejected"]) == (0, [])
    assert e["rejected"] == [{"line": 1, "reason": ID_IN_USE, "detail": ""}]


@asynchronous
async def test_a_repeated_file_reports_its_counts(place: Place) -> None:
    file = log_file("a", some_records(4))
    (first,) = await place.bring(file)
    written = place.files
    again = await place.bring(BatchFile("renamed", file.content))
    assert place.files == written
    assert again == [{**first, "name": "renamed", "state": "known"}]


@asynchronous
async def test_uncommitted_staging_is_not_imported(place: Place) -> None:
    place.batch.write_bytes(pack([log_file("a", some_records(4))]))
    await place.worker.stage(Stage(str(place.batch)))
    (report,) = await place.bring(log_file("b", some_records(2)))
    assert report["imported"] == 2


@asynchronous
async def test_an_unstaged_batch_is_not_committed(place: Place) -> None:
    """As after a worker was replaced between both requests."""
    with pytest.raises(StorageFailed, match="not staged"):
        await place.worker.commit(Commit(str(place.batch), 0))


def test_an_invalid_body_is_refused(place: Place) -> None:
    place.batch.write_bytes(b"nonsense\n")
    invalid = run(place.worker.stage(Stage(str(place.batch))))
    assert isinstance(invalid, InvalidBatch)
    assert invalid.code == "InvalidParameterException"
    assert "file 1 is not described" in invalid.message


@asynchronous
async def test_batch_with_too_many_rejected_lines_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_process, "_MAX_REJECTED_BYTES", 10_000)
    records = BatchFile("a", b"\n".join(map(orjson.dumps, some_records(3))))
    place.batch.write_bytes(pack([records, BatchFile("b", b'{"no": 1}\n' + b"x\n" * 10**6)]))
    invalid = await place.worker.stage(Stage(str(place.batch)))
    assert isinstance(invalid, InvalidBatch)
    assert invalid.message == "b: too many lines of the batch are no records"
    with pytest.raises(StorageFailed, match="is not staged"):
        await place.worker.commit(Commit(str(place.batch), 0))
    (report,) = await place.bring(records)
    assert (report["state"], report["imported"]) == ("imported", 3)
