"""The trails of a lost control store are restored from the journal."""

from __future__ import annotations

from pathlib import Path

import pytest

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.app.rebuilding import rebuild_trails
from opentrail.core.errors import DataDirectoryInUse
from opentrail.trails.registry import TrailRegistry
from tests.factories import a_new_entry, a_record
from tests.fakes import asynchronous

ANSWER = {
    "name": "mine",
    "s3BucketName": "bucket",
    "includeGlobalServiceEvents": True,
    "trailARN": "arn:aws:cloudtrail:us-east-1:123456789012:trail/mine",
}


async def recorded(folder: Path) -> DataDirectory:
    data = DataDirectory(folder)
    data.journal.mkdir()
    data.history.mkdir()
    journal = SqliteJournal(data.journal)
    source = "cloudtrail.amazonaws.com"
    for name, answer in (("CreateTrail", ANSWER), ("StartLogging", None)):
        record = a_record(
            eventSource=source,
            eventName=name,
            requestParameters={"name": "mine"},
            responseElements=answer,
        )
        await journal.append([a_new_entry(record)])
    await journal.close()
    return data


@asynchronous
async def test_trails_are_added_once(tmp_path: Path) -> None:
    data = await recorded(tmp_path)
    (trail,) = await rebuild_trails(data, SqliteJournalSource(data.journal))
    assert (trail.arn, trail.logging) == (ANSWER["trailARN"], True)
    assert await rebuild_trails(data, SqliteJournalSource(data.journal)) == []
    control = SqlControl.in_file(data.state)
    (stored,) = await TrailRegistry(control).all()
    assert stored.trail == trail
    await control.close()


@pytest.mark.slow
@asynchronous
async def test_running_server_blocks_the_command(tmp_path: Path) -> None:
    data = await recorded(tmp_path)
    server = DataDirectory(tmp_path)
    server.open()
    with pytest.raises(DataDirectoryInUse):
        await rebuild_trails(data, SqliteJournalSource(data.journal))
    server.close()
