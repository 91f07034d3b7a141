"""Lost events of the journal are restored from log files, whatever fails in between."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from opentrail.app.wings.imports import Regaining
from opentrail.core.errors import RecordRefused
from opentrail.core.logfile import log_bytes, sha256_hex
from opentrail.imports.batch import unpack
from opentrail.ports.control import Put
from opentrail.ports.objects import NewObject
from opentrail.trails.comparison import REGAINED
from tests.factories import a_record, record_bytes
from tests.fakes import (
    Documents,
    MemoryControl,
    MemoryJournal,
    MemoryObjects,
    SettableClock,
    asynchronous,
    eventually,
    run_skipping_time,
)

BUCKET, ARN = "my-bucket", "arn:aws:cloudtrail:us-east-1:123456789012:trail/t"
KEYS = ("AWSLogs/a.json.gz", "AWSLogs/b.json.gz")


class Taken:
    """The log files that an import received; the first calls may fail."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.files: list[tuple[str, bytes]] = []

    async def take(self, chunks: AsyncIterator[bytes]) -> dict[str, Any]:
        """Imports the files of a body."""
        if self.failures:
            self.failures -= 1
            raise RecordRefused("not now")
        (file,) = unpack([chunk async for chunk in chunks])
        self.files.append((file.name, gzip.decompress(file.content)))
        return {"files": [{"rejected": []}]}


async def a_regaining(taken: Taken, *missing: str, documents: Documents | None = None) -> Regaining:
    """Returns a `Regaining` with a note of two log files, some of them missing."""
    objects, control = MemoryObjects(BUCKET), MemoryControl(documents)
    files = []
    for key in KEYS:
        content = log_bytes([record_bytes(a_record(eventID=key))])
        if key not in missing:
            await objects.put(NewObject(BUCKET, key, gzip.compress(content)))
        files.append({"bucket": BUCKET, "key": key, "sha256": sha256_hex(content)})
    note = {"trail": ARN, "events": 2, "first": "2020-01-01T09:00:00Z"}
    note |= {"last": "2020-01-01T10:00:00Z", "files": files}
    await control.apply([Put(REGAINED, "uid/1", note)])
    return Regaining(control, objects, MemoryJournal(), SettableClock(), taken.take)


async def details(regaining: Regaining) -> list[dict[str, Any]]:
    entries = await regaining.journal.read(0, 100)
    return [json.loads(entry.record)["serviceEventDetails"] for entry in entries]


@asynchronous
async def test_log_files_are_imported_and_losses_recorded() -> None:
    taken = Taken()
    regaining = await a_regaining(taken)
    await regaining.work_off()
    assert [name for name, _ in taken.files] == [f"s3://{BUCKET}/{key}" for key in KEYS]
    assert all(json.loads(content)["Records"] for _, content in taken.files)
    (recorded,) = await details(regaining)
    assert (recorded["lostRecords"], recorded["regainedFrom"]) == (2, ARN)
    assert recorded["firstLostAt"] == "2020-01-01T09:00:00Z"
    assert "could not be read" not in recorded["reason"]
    assert await regaining.control.scan(REGAINED) == []


@pytest.mark.parametrize("is_changed", [False, True])
@asynchronous
async def test_a_missing_or_changed_log_file_is_named(is_changed: bool) -> None:
    taken = Taken()
    regaining = await a_regaining(taken, KEYS[1])
    if is_changed:
        await regaining.objects.put(NewObject(BUCKET, KEYS[1], gzip.compress(b'{"Records":[]}')))
    await regaining.work_off()
    assert len(taken.files) == 1
    (recorded,) = await details(regaining)
    assert KEYS[1] in recorded["reason"]


def test_failed_import_is_retried_and_loss_recorded() -> None:
    async def story() -> None:
        taken = Taken(failures=3)
        documents: Documents = {}
        regaining = await a_regaining(taken, documents=documents)
        running = asyncio.ensure_future(regaining.run())

        await eventually(lambda: regaining.journal.head, 1, 60)
        await eventually(lambda: not documents, 1, 60)
        running.cancel()
        assert len(await details(regaining)) == 1
        assert {name for name, _ in taken.files} == {f"s3://{BUCKET}/{key}" for key in KEYS}

    run_skipping_time(story())
