"""Recorded events: sealing, damaged and missing files, the archive."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from opentrail.adapters.data_directory.sealed_file_names import SealedFile
from opentrail.adapters.duckdb import recorded as recorded_module
from opentrail.adapters.duckdb.schema import row_of as row_of_entry
from opentrail.adapters.duckdb.store import DuckdbEvents
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.attributes import Attributes
from opentrail.core.errors import FilesUnreachable, StorageFailed
from opentrail.core.event import Entry
from opentrail.ports.event_store import FoundEvent, SharedFile, Snapshot
from tests.adapters.duckdb.shared_folder import SharedFolder
from tests.adapters.duckdb.worlds import ALL, NAME, world
from tests.factories import MOMENT, event_id
from tests.fakes import TIMEOUT_SECONDS, asynchronous, naive_page, turns

pytestmark = pytest.mark.slow


@asynchronous
async def test_full_hot_tables_become_consecutive_files(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with here.opened() as store:
            for count in (39, 1, 17, 60, 5):
                await store.add(await here.write(count))
            await store.idle()
            await here.check(store)
            ranges = here.ranges()
            assert ranges[0][0] == 1
            assert all(b[0] == a[1] + 1 for a, b in itertools.pairwise(ranges))
            assert here.journal.head - here.seal_records < ranges[-1][1] <= here.journal.head
            assert len(here.files()) == len(ranges)
        assert here.ranges() == ranges
        async with here.opened() as store:
            await here.check(store)


@pytest.mark.parametrize("batch", [1, 90])
@asynchronous
async def test_few_large_records_also_fill_a_hot_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    async with world(tmp_path, seal_records=1_000) as here, here.opened() as store:
        entries = await here.write(90)
        text = sum(len(entry.record) for entry in entries[:30])
        monkeypatch.setattr(recorded_module, "MAX_TEXT", text)
        for start in range(0, 90, batch):
            await store.add(entries[start : start + batch])
        await store.idle()
        assert here.ranges()[0][0] == 1
        assert here.ranges()[0][1] == 30
        assert len(here.ranges()) >= 2
        await here.check(store)


@asynchronous
async def test_files_are_smaller_on_a_nearly_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, seal_records=60) as here:
        entries = await here.write(60)
        room = sum(len(entry.record) for entry in entries)
        usage = shutil.disk_usage(tmp_path)
        nearly_full = type(usage)(usage.total, usage.total - room, room)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: nearly_full)
        async with here.opened() as store:
            await store.idle()
            assert here.ranges() == [(1, 20), (21, 40), (41, 60)]
            await here.check(store)
        async with here.opened() as store:
            await here.check(store)


@asynchronous
async def test_failed_sealing_is_repeated_without_arrivals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> list[SealedFile]:
        raise RuntimeError("no space is left")

    async with world(tmp_path, seal_records=10) as here:
        await here.write(10)
        with monkeypatch.context() as patch:
            patch.setattr(recorded_module, "files_of_child", fails)
            opened = here.opened()
            store = await opened.__aenter__()
            await store.idle()
        assert here.ranges() == []
        await store.recorded.seal_old()
        await store.idle()
        assert here.ranges() == [(1, 10)]
        await opened.__aexit__(None, None, None)


@asynchronous
async def test_old_hot_table_is_sealed_without_arrivals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded_module, "SEAL_FEW_RECORDS", 10)
    async with world(tmp_path, seal_records=1_000) as here:
        await here.write(10)
        async with here.opened() as store:
            await store.recorded.seal_old()
            await store.idle()
            assert here.ranges() == [], "it is not old yet"
            monkeypatch.setattr(recorded_module, "SEAL_SECONDS", 0.0)
            for _ in range(2):
                await store.recorded.seal_old()
                await store.idle()
                assert here.ranges() == [(1, 10)]
            await here.check(store)


@asynchronous
async def test_failed_insert_leaves_nothing_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, until = row_of_entry, 30

    def row_of(entry: Entry, found: Attributes) -> tuple[Any, ...]:
        if entry.position > until:
            raise StorageFailed("no more memory")
        return real(entry, found)

    monkeypatch.setattr(recorded_module, "row_of", row_of)
    async with world(tmp_path) as here, here.opened() as store:
        entries = await here.write(100)
        with pytest.raises(StorageFailed, match="no more memory"):
            await store.add(entries)
        assert store.position == 0
        await store.add(entries[:20])
        until = 100
        await store.add(entries)
        await store.idle()
        await here.check(store)


@pytest.mark.campaign
@asynchronous
async def test_lookups_are_right_during_sealing(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, seal_records=50) as here, here.opened() as store:
        writing = True
        looked = 0

        async def look() -> None:
            nonlocal looked
            while writing or looked < 20:
                await turns(1)
                until = store.position
                query = replace(ALL, limit=11, snapshot=Snapshot(until))
                seen: list[FoundEvent] = []
                while page := await store.lookup(query):
                    seen.extend(page)
                    query = replace(query, before=(page[-1].event_time, page[-1].position))
                assert sorted(event.position for event in seen) == list(range(1, until + 1))
                looked += 1

        async def write() -> None:
            nonlocal writing
            for _ in range(15):
                await store.add(await here.write(10))
                await store.idle()
            writing = False

        await asyncio.gather(write(), look(), look())
        await here.check(store)
        assert len(here.ranges()) == 3


@asynchronous
async def test_failed_range_stays_visible_and_is_sealed_later(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here, here.opened() as store:
        in_the_way = here.history / f"{1:020d}-{40:020d}.duckdb"
        in_the_way.mkdir()
        await store.add(await here.write(40))
        await store.idle()
        assert in_the_way.is_dir()
        await here.check(store)
        in_the_way.rmdir()
        await store.add(await here.write(40))
        await store.idle()
        assert here.ranges() == [(1, 40), (41, 80)]
        await here.check(store)


@asynchronous
async def test_closing_during_sealing_loses_nothing_and_ends(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        async with here.opened() as store:
            await store.add(await here.write(45))
        async with asyncio.timeout(TIMEOUT_SECONDS), here.opened() as store:
            await here.check(store)
            await store.idle()
        assert not [name for name in here.files() if not NAME.match(name)]


@pytest.mark.anomaly
@pytest.mark.parametrize("missing", [0, 1, 2])
@asynchronous
async def test_a_missing_sealed_file_is_rebuilt(tmp_path: Path, missing: int) -> None:
    async with world(tmp_path) as here:
        await here.write(130)
        ranges = [(1, 40), (41, 80), (81, 120)]
        await here.seal(*ranges)
        (here.history / here.files()[missing]).unlink()
        async with here.opened() as store:
            await here.check(store)
            await store.idle()
            await here.check(store)
        assert here.ranges()[:2] == ranges[:2]


@pytest.mark.anomaly
@asynchronous
async def test_several_missing_neighbouring_files_are_rebuilt(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(130)
        await here.seal((1, 40), (41, 80), (81, 120))
        for name in here.files()[:2]:
            (here.history / name).unlink()
        async with here.opened() as store:
            await here.check(store)
        assert here.ranges() == [(1, 80), (81, 120)]


def _empty(content: bytes) -> bytes:
    return content[:0]


def _cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _nonsense(content: bytes) -> bytes:
    return b"\xff" * len(content)


def _without_tables(content: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.duckdb"
        duckdb.connect(str(file)).close()
        return file.read_bytes()


@pytest.mark.anomaly
@pytest.mark.parametrize("damage", [_empty, _cut_short, _nonsense, _without_tables])
@asynchronous
async def test_a_damaged_file_is_set_aside_and_rebuilt(tmp_path: Path, damage: object) -> None:
    async with world(tmp_path) as here:
        await here.write(100)
        await here.seal((1, 40), (41, 80))
        file = here.history / here.files()[0]
        assert callable(damage)
        file.write_bytes(damage(file.read_bytes()))
        async with here.opened() as store:
            await here.check(store)
        assert here.ranges() == [(1, 40), (41, 80)]
        async with here.opened() as store:
            await here.check(store)


@pytest.mark.anomaly
@asynchronous
async def test_a_file_with_another_files_content_is_rebuilt(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(120)
        await here.seal((1, 40), (41, 110))
        first, second = (here.history / name for name in here.files())
        second.write_bytes(first.read_bytes())
        async with here.opened() as store:
            await here.check(store)


@pytest.mark.anomaly
@asynchronous
async def test_a_file_with_another_range_is_rebuilt(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        await here.write(90)
        await here.seal((1, 40), (41, 80))
        first, second = (here.history / name for name in here.files())
        second.write_bytes(first.read_bytes())
        async with here.opened() as store:
            await here.check(store)


@pytest.mark.anomaly
@pytest.mark.parametrize("part", range(8))
@asynchronous
async def test_lookups_are_right_with_any_damaged_sealed_file(tmp_path: Path, part: int) -> None:
    async with world(tmp_path) as here:
        await here.write(50)
        await here.seal((1, 40))
        file = here.history / here.files()[0]
        content = bytearray(file.read_bytes())
        used = [i for i in range(0, len(content), 512) if any(content[i : i + 512])]
        begin = used[len(used) * part // 8]
        content[begin : begin + 64] = bytes(byte ^ 0xFF for byte in content[begin : begin + 64])
        file.write_bytes(content)
        async with here.opened() as store:
            await here.check(store)


@pytest.mark.anomaly
@asynchronous
async def test_lost_ranges_are_named_and_the_rest_shown(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        await here.write(80)
        await here.seal((1, 40), (41, 80))
        entries = await here.entries()
    (here.history / here.files()[0]).unlink()
    for segment in here.journal_folder.iterdir():
        segment.unlink()
    store = DuckdbEvents(here.history, SqliteJournalSource(here.journal_folder))
    assert await store.open() == 80
    assert store.recorded.missing == [(1, 40)]
    assert await store.lookup(ALL) == naive_page(entries[40:], ALL)
    assert [entry.position for entry in await store.read(0, 1_000, 80)] == list(range(41, 81))
    await store.close()


@asynchronous
async def test_sealed_files_give_back_the_journals_entries_whole(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(100)
        await here.seal((1, 40), (41, 90))
        entries = await here.entries()
        async with here.opened() as store:
            assert await store.read(0, 1_000, 1_000) == entries[:90]
            assert await store.read(0, 7, 90) == entries[:7]
            assert await store.read(7, 50, 90) == entries[7:57]
            assert await store.read(57, 50, 60) == entries[57:60]
            assert await store.read(35, 10, 90) == entries[35:45]
            assert await store.read(90, 10, 100) == []
            assert await store.find(event_id(17)) == 17
            assert await store.find("no-such-id") is None


@pytest.mark.anomaly
@asynchronous
async def test_lost_last_file_is_named_at_every_start(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        await here.journal.close()
        here.journal = SqliteJournal(here.journal_folder, segment_bytes=24 * 1024)
        for _ in range(50):
            await here.write(1)
        await here.seal((1, 20), (21, 40))
        entries = await here.entries()
        await here.journal.trim(40)
        first = here.journal.first
        assert first > 30
        (here.history / here.files()[1]).unlink()
        for _ in range(2):
            store = DuckdbEvents(here.history, SqliteJournalSource(here.journal_folder))
            assert await store.open() == first - 1
            assert store.recorded.missing == [(21, first - 1)]
            await store.add(entries[first - 1 :])
            expected = naive_page([*entries[:20], *entries[first - 1 :]], ALL)
            assert await store.lookup(ALL) == expected
            await store.close()


@pytest.mark.anomaly
@asynchronous
async def test_overlapping_files_show_each_event_once(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(100)
        await here.seal((1, 50), (41, 90))
        async with here.opened() as store:
            await here.check(store)
            seen = await store.read(0, 1_000, 100)
            assert [entry.position for entry in seen] == list(range(1, seen[-1].position + 1))


# Files in S3


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.campaign) for seed in (2, 3))]
)
@asynchronous
async def test_answers_stay_the_same_when_s3_replaces_files(tmp_path: Path, seed: int) -> None:
    chance, files = random.Random(seed), list[SharedFile]()
    async with world(tmp_path) as here:
        s3 = SharedFolder(tmp_path, max_bytes=2_000_000)
        for _restart in range(3):
            s3.cache.open([str(file.name) for file in files])
            async with here.opened(s3.cache, files) as store:
                for _step in range(4):
                    await store.add(await here.write(chance.randrange(5, 60)))
                    if chance.random() < 0.5:
                        await store.idle()
                    first = files[-1].last + 1 if files else 1
                    while first + 24 <= here.journal.head - chance.choice((0, 40)):
                        files += await here.share(s3, (first, first + 24))
                        first += 25
                    await store.recorded.use_shared(files)
                    await here.check(store)
                    assert s3.cached_bytes <= 2_000_000
                assert await store.read(0, 1_000, files[-1].last) == [
                    entry for entry in await here.entries() if entry.position <= files[-1].last
                ]
        assert s3.reads
        end = files[-1].last
        assert all(first > end for first, _ in here.ranges())


@asynchronous
async def test_trimmed_entries_are_found_in_s3(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(100)
        s3 = SharedFolder(tmp_path, max_bytes=10_000_000)
        files = await here.share(s3, (1, 50), (51, 90))
        async with here.opened(s3.cache) as store:  # it has all of them itself
            await store.idle()
            assert here.ranges()[0][0] == 1
        async with here.opened(s3.cache, files) as store:
            await here.check(store)
            assert store.recorded.missing == []
            assert store.recorded.sealed >= 90
            # The oldest is no longer listed.
            await store.recorded.use_shared(files[1:])
            found = await store.lookup(ALL)
            assert min(event.position for event in found) == 51
            assert not list(s3.cached.glob(f"{Path(str(files[0].name)).stem}*"))


@asynchronous
async def test_late_server_continues_after_the_files_in_s3(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        s3 = SharedFolder(tmp_path, max_bytes=10_000_000)
        async with here.opened(s3.cache) as store:
            entries = await here.write(100)
            await store.add(entries[:30])
            files = await here.share(s3, (1, 50), (51, 75))
            await store.recorded.use_shared(files)
            assert store.position == 75
            await store.add(entries[30:])
            await here.check(store)
            await store.recorded.use_shared(files)  # nothing changes
            await here.check(store)


@asynchronous
async def test_lost_positions_are_reported_with_s3_files(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(40)
        s3 = SharedFolder(tmp_path, max_bytes=10_000_000)
        first, last = await here.share(s3, (1, 10), (16, 40))
        lost = SharedFile(11, 15, None, MOMENT)
        async with here.opened(s3.cache, [first, lost, last]) as store:
            await store.recorded.use_shared([first, lost, last])
            assert store.recorded.missing == [(11, 15)]
            assert len(await store.lookup(ALL)) == 35


@asynchronous
async def test_a_lookup_that_needs_unreachable_s3_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(100)
        s3 = SharedFolder(tmp_path, max_bytes=10_000_000)
        files = await here.share(s3, (1, 50), (51, 90))
        async with here.opened(s3.cache, files) as store:
            s3.is_away = True
            newest = replace(ALL, limit=3, attribute=("EventId", event_id(95)))
            assert len(await store.lookup(newest)) == 1  # it is not in a file in S3
            for _attempt in range(2):
                with pytest.raises(FilesUnreachable, match="S3 is away"):
                    await store.lookup(ALL)
                with pytest.raises(FilesUnreachable, match="S3 is away"):
                    await store.histogram(ALL, 60)
            s3.is_away = False
            assert len(await store.lookup(replace(newest, attribute=("EventId", event_id(9))))) == 1
            s3.is_away = True  # now that one of the files is open
            with pytest.raises(FilesUnreachable, match="S3 is away"):
                await store.lookup(ALL)
            s3.is_away = False
            await here.check(store)


@asynchronous
async def test_a_lookup_fails_if_s3_fails_during_it(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(6_000)
        s3 = SharedFolder(tmp_path, max_bytes=0)
        files = await here.share(s3, (1, 3_000), (3_001, 6_000))
        query = replace(ALL, limit=6_000)
        for reads in range(2):
            async with here.opened(s3.cache, files) as store:
                s3.reads_left = reads
                with pytest.raises(FilesUnreachable, match="S3 is away"):
                    await store.lookup(query)
                s3.reads_left = 1_000_000
                assert len(await store.lookup(query)) == 6_000
    # DuckDB's own threads would run Python while a connection closes.
    assert {name.partition("_")[0] for name in s3.threads} == {"history"}


@asynchronous
async def test_concurrent_lookups_are_right_with_small_caches(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        entries = await here.write(200)
        s3 = SharedFolder(tmp_path, max_bytes=1_000_000)
        files = await here.share(s3, *((first, first + 39) for first in range(1, 200, 40)))
        async with here.opened(s3.cache, files) as store:
            queries = [
                replace(ALL, limit=chance, attribute=attribute)
                for chance in (3, 50, 500)
                for attribute in (None, ("EventName", "DeleteUser"), ("EventId", event_id(77)))
            ]
            pages = asyncio.gather(*(store.lookup(query) for query in queries * 4))
            counts = asyncio.gather(*(store.count(ALL) for _ in range(10)))
            assert await pages == [naive_page(entries, query) for query in queries * 4]
            assert await counts == [200] * 10
            assert s3.cached_bytes <= 1_000_000


@asynchronous
async def test_table_is_not_sealed_after_s3_has_it(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        s3 = SharedFolder(tmp_path, max_bytes=10_000_000)
        async with here.opened(s3.cache) as store:
            async with store.recorded.changing:  # like a merge
                await store.add(await here.write(100))
                files = await here.share(s3, (1, 40), (41, 80))
                using = asyncio.create_task(store.recorded.use_shared(files))
                await asyncio.sleep(0)
            await using
            await store.idle()
            await here.check(store)


@asynchronous
async def test_an_own_file_is_kept_if_sealing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as here:
        await here.write(100)
        s3 = SharedFolder(tmp_path, max_bytes=10_000_000)
        files = await here.share(s3, (1, 10))
        async with here.opened(s3.cache) as store:
            await store.idle()
            own = here.ranges()

        async def full(*_work: object) -> list[Path]:
            raise StorageFailed("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(recorded_module, "files_of_child", full)
            async with here.opened(s3.cache, files):
                assert here.ranges() == own
        async with here.opened(s3.cache, files) as store:
            await here.check(store)
            assert store.recorded.missing == []
