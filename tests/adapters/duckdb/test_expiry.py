"""Expiry by age and size: the order, and the files after a crash or a full disk."""

from __future__ import annotations

import errno
import itertools
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.adapters.data_directory.sealed_file_names import MAX_FILE_BYTES
from opentrail.adapters.duckdb import expiry, seal
from opentrail.adapters.duckdb.expiry import ExpiryNote, notes
from opentrail.adapters.duckdb.store import DuckdbEvents
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.adapters.store_check import StoreCheck
from opentrail.core import faults
from opentrail.core.event import DATA, MANAGEMENT, NETWORK_ACTIVITY, Entry
from opentrail.ports.event_store import DATA_CATEGORIES, Excess, ExpiredEvents, Snapshot
from tests.adapters.duckdb.worlds import ALL, World, world
from tests.factories import (
    MOMENT,
    a_data_record,
    a_new_entry,
    a_record,
    event_id,
)
from tests.fakes import asynchronous, naive_page, run

pytestmark = pytest.mark.slow

LATER = MOMENT + timedelta(days=1)
LONG_AGO = MOMENT - timedelta(days=1)


async def in_this_process(work: str, *paths: Path) -> list[Path]:
    """Works like a child process, in far less time."""
    return [seal.thin(paths[0])] if work == "thin" else seal.damaged(paths)


@pytest.fixture(autouse=True)
def no_children(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if "age" not in request.node.name:
            patch.setattr("opentrail.adapters.duckdb.event_files.run_child", in_this_process)
        yield


async def write(here: World, categories: str) -> list[Entry]:
    """Appends an event for each letter, `d`, `n` or `m` for its category; they take space."""
    noise = random.Random(here.journal.head)
    records: list[dict[str, Any]] = []
    for number, letter in enumerate(categories, here.journal.head + 1):
        time = f"{MOMENT + timedelta(seconds=number * 7 % 31):%Y-%m-%dT%H:%M:%SZ}"
        make = a_record if letter == "m" else a_data_record
        more = {"eventCategory": NETWORK_ACTIVITY} if letter == "n" else {}
        about = {"requestParameters": {"text": noise.randbytes(4_000).hex()}, **more}
        records.append(make(eventID=event_id(number), eventTime=time, **about))
    await here.journal.append([a_new_entry(record) for record in records])
    return await here.entries()


async def check(store: DuckdbEvents, expected: Sequence[Entry]) -> None:
    """Compares lookups of each kind with those in a plain list."""
    for query in (
        ALL,
        replace(ALL, limit=7),
        replace(ALL, categories=DATA_CATEGORIES),
        replace(ALL, categories=(MANAGEMENT,)),
        replace(ALL, attribute=("EventName", "CreateUser")),
        replace(ALL, attribute=("ResourceName", "Mary")),
        replace(ALL, start=MOMENT + timedelta(seconds=20)),
    ):
        assert await store.lookup(query) == naive_page(expected, query)
    assert await store.count(ALL) == len(expected)
    read: list[Entry] = []
    while part := await store.read(read[-1].position if read else 0, 20, store.recorded.sealed):
        read += part
    sealed = [entry for entry in expected if entry.position <= store.recorded.sealed]
    assert [(e.position, e.record) for e in read] == [(e.position, e.record) for e in sealed]
    for entry in expected[::7]:
        found = await store.lookup(replace(ALL, attribute=("EventId", entry.event_id)))
        assert [event.position for event in found] == [entry.position]


async def checked(store: DuckdbEvents) -> None:
    """Returns once every file was compared with its hash."""
    for part in (store.recorded, store.imported):
        assert part._checking is not None
        await part._checking


def recorded_notes(here: World) -> list[ExpiredEvents]:
    return [events for _, note in notes(here.history) for events in note.events]


def damage(here: World) -> list[str]:
    source = SqliteJournalSource(here.journal_folder)
    check = StoreCheck(here.journal_folder, here.history, lambda *_: None, source=source)
    return [str(found) for found in check.findings()]


@asynchronous
async def test_data_events_expire_before_management_events(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        entries = await write(here, "mdn" * 30 + "d" * 10 + "m" * 20)
        await here.seal((1, 45), (46, 90), (91, 100), (101, 110))
        async with here.opened() as store:
            await checked(store)
            assert await store.expire(LONG_AGO, 120, excess=Excess(1, "size")) == 30
            await check(store, [e for e in entries if e.category == MANAGEMENT or e.position > 45])
            assert here.ranges() == [(1, 45), (46, 90), (91, 100), (101, 110)]
            assert await store.expire(LONG_AGO, 120, excess=Excess(10**9, "disk", True)) == 40
            management = [entry for entry in entries if entry.category == MANAGEMENT]
            await check(store, management)
            assert here.ranges() == [(1, 45), (46, 90), (101, 110)]
            assert damage(here) == []
            assert await store.expire(LONG_AGO, 120, excess=Excess(10**9, "disk", True)) == 0
            assert await store.expire(LONG_AGO, 120, excess=Excess(1, "size")) == 15
            await check(store, management[15:])
        async with here.opened() as store:
            await check(store, management[15:])
            assert store.recorded.missing == []
            await checked(store)
            await store.expire(LONG_AGO, 120, excess=Excess(10**9, "size"))
            assert here.ranges() == []
            await check(store, entries[110:])
        assert [name for name in here.files() if name.endswith(".expired")] == [
            f"{1:020d}-{110:020d}.expired"
        ]
        assert damage(here) == []


@asynchronous
async def test_data_events_have_their_own_age(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        entries = await write(here, "md" * 30)
        await here.seal((1, 50))
        async with here.opened() as store:
            await checked(store)
            assert await store.expire(LONG_AGO, 60, data_before=MOMENT) == 0
            assert await store.expire(LONG_AGO, 60, data_before=LATER) == 25
            assert await store.expire(LONG_AGO, 60, data_before=LATER) == 0
            await check(store, [e for e in entries if e.category == MANAGEMENT or e.position > 50])


@asynchronous
async def test_needed_and_unchecked_files_do_not_expire(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        entries = await write(here, "md" * 30)
        await here.seal((1, 20), (21, 40))
        async with here.opened() as store:
            store.recorded.is_checked = False
            assert await store.expire(LONG_AGO, 60, LATER, Excess(10**9, "size")) == 0
            store.recorded.is_checked = store.imported.is_checked = True
            assert await store.expire(LONG_AGO, 39, LATER, Excess(10**9, "size")) == 20
            await check(store, entries[20:])


@asynchronous
async def test_a_note_names_the_expired_events(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        entries = await write(here, "mdd" * 10)
        await here.seal((1, 30))
        async with here.opened() as store:
            await checked(store)
            await store.expire(LONG_AGO, 30, excess=Excess(1, "size"))
        data = [entry for entry in entries if entry.category == DATA]
        seconds = [entry.position * 7 % 31 for entry in data]
        times = [MOMENT + timedelta(seconds=number) for number in (min(seconds), max(seconds))]
        assert recorded_notes(here) == [ExpiredEvents(DATA, "size", 20, 2, 30, *times)]


@asynchronous
async def test_imported_data_events_expire_with_their_reports(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.imports(9)
        async with here.opened() as store:
            await checked(store)
            assert await store.expire(LONG_AGO, 0, excess=Excess(1, "size", True)) == 0
            assert await store.expire(LONG_AGO, 0, excess=Excess(1, "size")) == 9
        assert [(e.count, e.first, e.last) for e in recorded_notes(here)] == [(9, -1, -9)]


@asynchronous
async def test_thinned_files_merge_with_each_other(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        entries = await write(here, "md" * 50)
        await here.seal(*((first, first + 9) for first in range(1, 71, 10)))
        async with here.opened() as store:
            await checked(store)
            await store.expire(LONG_AGO, 70, excess=Excess(10**9, "size", True))
        await here.seal((71, 80))
        async with here.opened() as store:
            await store.idle()
            assert (1, 80) not in here.ranges()
            await checked(store)
            await store.expire(LONG_AGO, 80, excess=Excess(10**9, "size", True))
            store.recorded.begin_compaction()
            await store.idle()
            assert here.ranges() == [(1, 80)]
            await check(store, [e for e in entries if e.category == MANAGEMENT or e.position > 80])
            assert damage(here) == []


class PowerCutError(Exception):
    """Stands for the end of the process."""


@pytest.mark.anomaly
@pytest.mark.parametrize("passage", [1, 2, 3])
@pytest.mark.parametrize("point", ["history.sealed", "history.expiring", "history.thinned"])
@asynchronous
async def test_expiry_is_whole_after_a_crash(tmp_path: Path, point: str, passage: int) -> None:
    """Each event exists or is in one note, never both and never neither."""

    def die() -> None:
        raise PowerCutError

    async with world(tmp_path) as here:
        entries = await write(here, "md" * 30 + "d" * 20)
        await here.seal((1, 30), (31, 60), (61, 80))
        store = DuckdbEvents(here.history, SqliteJournalSource(here.journal_folder))
        await store.open()
        store.recorded.is_checked = store.imported.is_checked = True
        faults.arm(point, passage, die)
        try:
            await store.expire(LONG_AGO, 80, excess=Excess(10**9, "size", True))
        except PowerCutError:
            pass
        finally:
            faults.arm(point, sys.maxsize, lambda: None)
            await store.close()
        async with here.opened() as store:
            expired = recorded_notes(here)
            gone = {
                e.position
                for e in entries
                for each in expired
                if e.category == each.category and each.first <= e.position <= each.last
            }
            assert sum(each.count for each in expired) == len(gone)
            await check(store, [entry for entry in entries if entry.position not in gone])
            assert len(here.ranges()) == len(set(here.ranges()))
            assert store.recorded.missing == []
            await checked(store)
            await store.expire(LONG_AGO, 80, excess=Excess(10**9, "size", True))
            assert sum(each.count for each in recorded_notes(here)) == 50
            await check(store, [entry for entry in entries if entry.category == MANAGEMENT])


@asynchronous
async def test_a_note_needs_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expiry.reserve_note(tmp_path)

    def full(*_arguments: object, **_more: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "open", full)
    note = ExpiryNote("a.duckdb", None, 1, 2, ())
    monkeypatch.setattr(expiry, "sync_file", lambda _path: None)
    monkeypatch.setattr(expiry, "sync_folder", lambda _path: None)
    expiry.write_note(tmp_path, note)
    assert [found for _, found in notes(tmp_path)] == [note]
    with pytest.raises(OSError, match="No space"):
        expiry.reserve_note(tmp_path)


@asynchronous
async def test_without_room_to_rewrite_the_next_file_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def without_room(work: str, *paths: Path) -> list[Path]:
        if work == "thin":
            raise RuntimeError("No space left on device")
        return await in_this_process(work, *paths)

    async with world(tmp_path) as here:
        entries = await write(here, "md" * 10 + "d" * 40)
        await here.seal((1, 20), (21, 40), (41, 60))
        async with here.opened() as store:
            await checked(store)
            with monkeypatch.context() as patch:
                patch.setattr("opentrail.adapters.duckdb.event_files.run_child", without_room)
                assert await store.expire(LONG_AGO, 60, excess=Excess(1, "disk", True)) == 20
                await check(store, [*entries[:20], *entries[40:]])
            assert await store.expire(LONG_AGO, 60, excess=Excess(1, "disk", True)) >= 10
            await check(store, [e for e in entries if e.position > 40 or e.category == MANAGEMENT])


parts = st.lists(st.text("mdn", min_size=1, max_size=25), min_size=1, max_size=6)


@pytest.mark.hypothesis
@settings(max_examples=10, deadline=None)
@given(files=parts, rest=st.text("md", max_size=10), kilobytes=st.integers(0, 6_000))
def test_retention_follows_the_rule(files: list[str], rest: str, kilobytes: int) -> None:
    """The oldest data events expire file by file until there is room; then the oldest files."""

    async def story(root: Path) -> None:
        async with world(root, seal_records=1_000) as here:
            entries = await write(here, "".join(files) + rest)
            ends = [sum(map(len, files[:n])) for n in range(len(files) + 1)]
            ranges = [(a + 1, b) for a, b in itertools.pairwise(ends)]
            await here.seal(*ranges)
            source = SqliteJournalSource(here.journal_folder)
            store = DuckdbEvents(here.history, source, 1_000)
            await store.add(await here.entries(await store.open()))
            await checked(store)
            before = store.sealed_bytes
            await store.expire(LONG_AGO, ends[-1], excess=Excess(kilobytes * 1_000, "size"))
            found = {event.position for event in await store.lookup(ALL)}
            expired = recorded_notes(here)
            assert sum(each.count for each in expired) == len(entries) - len(found)
            await check(store, [entry for entry in entries if entry.position in found])
            data = [e for e in entries[: ends[-1]] if e.category != MANAGEMENT]
            management = [e for e in entries[: ends[-1]] if e.category == MANAGEMENT]
            kept = [e.position in found for e in data]
            assert kept == sorted(kept), "the newest data events stay"
            if any(kept):
                assert all(e.position in found for e in management)
            kept = [e.position in found for e in management]
            assert kept == sorted(kept), "the newest management events stay"
            assert all(e.position in found for e in entries[ends[-1] :])
            freed = before - store.sealed_bytes
            assert freed >= kilobytes * 1_000 or store.sealed_bytes == 0
            await store.close()
            assert damage(here) == []

    with tempfile.TemporaryDirectory() as folder:
        run(story(Path(folder)))


def test_files_have_no_limit_by_default() -> None:
    assert Snapshot().recorded > MAX_FILE_BYTES > 10**12
