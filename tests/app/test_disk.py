"""The disk: warnings, expiry, the forecast of its end, the interval of checks."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.app.disk import DiskWatch, file_limits, size_of
from opentrail.ports.event_store import Excess
from opentrail.ports.journal import TrimmedJournal
from opentrail.ports.metrics import Metrics
from opentrail.settings import Settings
from tests.factories import an_entry
from tests.fakes import asynchronous

GB, MB = 10**9, 10**6
Usage = namedtuple("Usage", "total used free")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Place:
    """A data directory on a file system of any size."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.data = DataDirectory(folder)
        for each in (self.data.journal, self.data.history):
            each.mkdir()
        self.used, self.free = 50 * GB, 50 * GB
        self.clock, self.metrics = Clock(), Metrics()

        def usage(_path: Any) -> Usage:
            return Usage(self.used + self.free, self.used, self.free)

        patch.setattr(shutil, "disk_usage", usage)

    def take(self, size: int) -> None:
        """Sets the size of event history, as a file of one block after the other."""
        with (self.data.history / "file").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)

    def watch(self, **settings: Any) -> DiskWatch:
        made = replace(Settings(data_dir=self.data.root), **settings)
        return DiskWatch(self.data, made, self.metrics, self.clock)

    async def fill(self, used: int, free: int, watch: DiskWatch) -> None:
        self.used, self.free = used, free
        await watch.check()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patch:
        yield Place(tmp_path, patch)


@asynchronous
async def test_disk_warns_from_80_percent(place: Place) -> None:
    place.take(10 * MB)
    for mode, then in (
        ("refuse", "when it is full calls fail"),
        ("data", "at 90 % the oldest data events expire"),
    ):
        watch = place.watch(disk_full_expiry=mode)
        await place.fill(79 * MB, 21 * MB, watch)
        assert watch.problems == []
        await place.fill(80 * MB, 20 * MB, watch)
        [problem] = watch.problems
        assert f"80 % full: records take 0.01 GB, 0.02 GB are free; {then}" in problem
    assert not watch.is_over


@asynchronous
async def test_events_expire_from_90_percent(place: Place) -> None:
    place.take(10 * MB)
    for mode, only_data in (("data", True), ("all", False)):
        watch = place.watch(disk_full_expiry=mode)
        await place.fill(89 * MB, 11 * MB, watch)
        assert not watch.is_over
        await place.fill(93 * MB, 7 * MB, watch)
        assert watch.excess("disk") == Excess(3 * MB, "disk", only_data)
        assert "events expire until it is less than 90 % full" in watch.problems[0]
        watch.left_over = watch.excess("disk")
        assert "are left that may expire: calls fail" in watch.problems[0]
    watch = place.watch(disk_full_expiry="off")
    await place.fill(93 * MB, 7 * MB, watch)
    assert not watch.is_over
    assert "when it is full calls fail" in watch.problems[0]


@asynchronous
async def test_records_of_almost_no_size_stay(place: Place) -> None:
    place.take(10 * MB)
    watch = place.watch()
    await place.fill(950 * GB, 50 * GB, watch)
    assert watch.problems == []
    assert not watch.is_over


@asynchronous
async def test_size_counts_journal_and_history(place: Place) -> None:
    place.take(10 * MB)
    (place.data.journal / "1.db").write_bytes(b"x" * MB)
    watch = place.watch(history_size=11 * MB)
    await watch.check()
    over = size_of(place.data.journal) + size_of(place.data.history) - (11 * MB - 11 * MB // 50)
    assert watch.excess("size") == Excess(over, "size")
    assert watch.problems == []
    watch.left_over = watch.excess("size")
    [problem] = [*watch.problems, *[""] * (over <= 11 * MB // 50)]
    assert "more than --history-size" in problem or not problem
    assert place.watch(history_size=20 * MB).excess("size") is None


@asynchronous
async def test_days_left_assume_the_current_rate(place: Place) -> None:
    watch = place.watch(history_retention_days=10, data_event_days=2)
    await place.fill(50 * GB, 50 * GB, watch)
    assert watch.days_left is None
    entries = [an_entry(1), replace(an_entry(2), category="Data")] * 1_000
    place.metrics.count_visible(entries)
    text = sum(len(entry.record) for entry in entries)
    place.clock.now = 60.0
    watch.bytes_per_event = text / 2_000 / 5  # a fifth of the records
    per_day = watch.per_day()
    assert sum(per_day.values()) == pytest.approx(text / 5 * 1_440, rel=0.01)
    assert set(per_day) == {"Management", "Data"}
    needed = per_day["Management"] * 10 + per_day["Data"] * 2
    await place.fill(0, needed + MB, watch)
    assert watch.days_left is None
    await place.fill(0, needed // 2, watch)
    days = needed / 2 / sum(per_day.values())
    assert watch.days_left == pytest.approx(days, rel=0.01)
    document = await watch.document(7)
    assert document["daysLeft"] == pytest.approx(days, abs=0.1)
    assert document["parts"]["spilledBodies"] == 7
    assert document["bytesPerDay"] == per_day
    limited = place.watch(history_size=needed // 3)
    await limited.check()
    assert limited.days_left is None
    assert b"opentrail_disk_days_left +Inf" in place.metrics.exposition()


@asynchronous
async def test_a_filling_disk_is_checked_more_often(place: Place) -> None:
    watch = place.watch()
    assert watch.pause == 10
    await place.fill(10 * MB, 190 * MB, watch)
    assert watch.pause == 10
    place.clock.now = 10.0
    await place.fill(172 * MB, 28 * MB, watch)  # 16.2 MB a second; 8 MB are left up to 90 %
    assert watch.pause == 1
    place.clock.now = 20.0
    await place.fill(174 * MB, 26 * MB, watch)
    assert watch.pause == pytest.approx(6 / 0.2 / 4)
    place.clock.now = 30.0
    place.metrics.record_bytes.by_label["Data"] += 20 * MB
    await place.fill(160 * MB, 40 * MB, watch)  # after an expiry
    assert watch.pause == pytest.approx(20 / 3 / 4)
    place.clock.now = 40.0
    await place.fill(160 * MB, 40 * MB, watch)
    assert watch.pause == 10


def test_files_are_a_small_part_of_the_space(place: Place) -> None:
    place.used, place.free = 0, 200 * MB
    file, segment, _ = file_limits(Settings(), place.data.root)
    assert (file, segment) == (200 * MB // 64, 200 * MB // 32)
    file, *_ = file_limits(replace(Settings(), history_size=64 * MB), place.data.root)
    assert file == MB
    place.free = math.ceil(0.1 * MB)
    file, segment, reserved = file_limits(Settings(), place.data.root)
    assert min(file, segment) > 200_000
    assert reserved == place.free // 32
    place.free = 1 << 40
    assert file_limits(Settings(), place.data.root).reserved_bytes == 64 << 20


class Positions:
    """A journal's positions, as far as its space is concerned."""

    first, head = 11, 1_010


@asynchronous
async def test_positions_fit_by_their_bytes(place: Place) -> None:
    watch, journal = place.watch(), cast(TrimmedJournal, Positions())
    assert watch.fitting_positions(journal) == sys.maxsize, "the journal's size is unknown"
    with (place.data.journal / "segment").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 8 << 20)
    await place.fill(90 * MB, 12 << 20, watch)
    assert watch.fitting_positions(journal) == 500
    place.free = 1_000
    assert watch.fitting_positions(journal) == 100
