"""Counts of each past hour become events exactly once, even if the server ends repeatedly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from opentrail.adapters.data_directory.unrecorded_counts import LeftOutCounts, count_files
from opentrail.app.losses import LeftOutCalls
from opentrail.core.errors import RecordRefused
from opentrail.core.event import NewEntry
from opentrail.core.selectors.selection import LeftOut
from tests.factories import MOMENT
from tests.fakes import MemoryJournal, SettableClock, asynchronous

GET, PUT = LeftOut("s3", "GetObject", "AWS::S3::Object"), LeftOut("iam", "PutUserPolicy", "")


class World:
    """Two counting processes, and the recording server."""

    def __init__(self, folder: Path, journal: MemoryJournal | None = None) -> None:
        self.folder, self.journal, self.clock = folder, journal or MemoryJournal(), SettableClock()
        self.processes = [LeftOutCounts(folder, self._now) for _ in range(2)]
        self.server = self.started()

    def _now(self) -> float:
        return self.clock.now().timestamp()

    def started(self) -> LeftOutCalls:
        return LeftOutCalls(self.folder, "node", self.journal, self.clock)

    def hour_passes(self) -> None:
        self.clock.advance(3600)
        for process in self.processes:
            process.close_if_over()

    async def details(self) -> list[dict[str, Any]]:
        records = [json.loads(entry.record) for entry in await self.journal.read(0, 100)]
        assert {record["eventName"] for record in records} <= {"EventsLeftOut"}
        return [record["serviceEventDetails"] for record in records]


@asynchronous
async def test_all_counters_give_one_event_an_hour(tmp_path: Path) -> None:
    world = World(tmp_path)
    for process in world.processes:
        for _ in range(3):
            assert process.count(GET)
    assert world.processes[0].count(PUT)
    await world.server.record_hours()
    assert await world.details() == []
    assert world.server.totals() == {GET: 6, PUT: 1}
    world.hour_passes()
    assert world.processes[1].count(GET)
    await world.server.record_hours()
    hour = f"{MOMENT:%Y-%m-%dT%H}:00:00Z"
    assert await world.details() == [
        {"hour": hour, "leftOutCalls": 1, "eventSource": "iam", "eventName": "PutUserPolicy"},
        {
            "hour": hour,
            "leftOutCalls": 6,
            "eventSource": "s3",
            "eventName": "GetObject",
            "resourceType": "AWS::S3::Object",
        },
    ]
    assert len(count_files(tmp_path)) == 1
    assert world.server.totals() == {GET: 7, PUT: 1}


@asynchronous
async def test_hour_without_calls_has_no_event(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.hour_passes()
    await world.server.record_hours()
    assert await world.details() == []


class EndingJournal(MemoryJournal):
    """Ends the server before one of its appends, or after it."""

    def __init__(self, appends: int) -> None:
        super().__init__()
        self.appends = appends

    async def append(self, entries: Sequence[NewEntry]) -> int:
        self.appends -= 1
        if self.appends == -1:
            raise RecordRefused("the end")
        return await super().append(entries)


@pytest.mark.parametrize("appends", range(3))
@pytest.mark.parametrize("kept", range(3))
@asynchronous
async def test_each_event_is_recorded_once_after_any_crash(
    tmp_path: Path, appends: int, kept: int
) -> None:
    """Files are deleted from the last to the first; `kept` remain."""
    world = World(tmp_path, EndingJournal(appends))
    for process in world.processes:
        assert process.count(GET)
        assert process.count(PUT)
    world.hour_passes()
    files = {file: file.read_bytes() for file in count_files(tmp_path)}
    if appends < 2:
        with pytest.raises(RecordRefused):
            await world.server.record_hours()
    else:
        await world.server.record_hours()
        for file, content in list(files.items())[:kept]:
            file.write_bytes(content)
    again = world.started()
    assert again.totals() == {}
    await again.record_hours()
    assert [each["leftOutCalls"] for each in await world.details()] == [2, 2]
    assert count_files(tmp_path) == []
    assert again.totals() == {}
