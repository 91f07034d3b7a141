"""Hot layer and sealed files: sealing, restarts, damage."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.adapters.duckdb import store as store_module
from opentrail.adapters.duckdb.files import SealedFile, is_whole, read_name
from opentrail.adapters.duckdb.schema import row_of as row_of_entry
from opentrail.adapters.duckdb.seal import merge
from opentrail.adapters.duckdb.staging import Settled, Staging
from opentrail.adapters.duckdb.store import DuckdbEvents
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.core import faults
from opentrail.core.attributes import Attributes, attributes_of
from opentrail.core.errors import StorageFailed
from opentrail.core.event import Entry
from opentrail.ports.event_store import FoundEvent
from tests.adapters.duckdb.worlds import ALL, NAME, World, world
from tests.factories import MOMENT, a_record, event_id, record_bytes
from tests.fakes import PATIENCE, asynchronous, eventually, naive_page, run, turns

pytestmark = pytest.mark.slow


# Sealing


@asynchronous
async def test_full_hot_tables_become_files_whose_names_follow_one_another(tmp_path: Path) -> None:
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


@asynchronous
async def test_an_insert_that_fails_leaves_nothing_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, until = row_of_entry, 30

    def row_of(entry: Entry, found: Attributes) -> tuple[Any, ...]:
        if entry.position > until:
            raise StorageFailed("no more memory")
        return real(entry, found)

    monkeypatch.setattr(store_module, "row_of", row_of)
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


#: Python runs a module named sitecustomize before any other: this one tells the niceness with
#: which a process loads DuckDB, as only children do here.
_TELLING = """
import os, sys

def tell(event, arguments):
    if event == "import" and arguments[0] == "duckdb":
        with open({told!r}, "a") as file:
            print(os.nice(0), file=file)

sys.addaudithook(tell)
"""


@asynchronous
async def test_children_have_low_priority_before_they_load_what_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, told = tmp_path / "telling", tmp_path / "told"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_TELLING.format(told=str(told)))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    async with world(tmp_path) as here, here.opened() as store:
        await store.add(await here.write(here.seal_records))
        await store.idle()
        assert here.ranges() == [(1, here.seal_records)]
    seen = list(map(int, told.read_text().split()))
    assert seen == [min(19, os.nice(0) + 5)]


@asynchronous
async def test_look_ups_never_err_and_never_miss_an_event_while_files_are_sealed(
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
                query = replace(ALL, limit=11, until_position=until)
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
async def test_a_range_that_cannot_be_sealed_stays_visible_and_is_sealed_later(
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
async def test_closing_while_a_file_is_sealed_ends_in_time_and_loses_nothing(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        async with here.opened() as store:
            await store.add(await here.write(45))
        async with asyncio.timeout(PATIENCE), here.opened() as store:
            await here.check(store)
            await store.idle()
        assert not [name for name in here.files() if not NAME.match(name)]


# Restarts


@asynchronous
async def test_after_a_restart_sealed_files_are_used_and_the_place_is_their_end(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        await here.write(100)
        await here.seal((1, 40), (41, 90))
        store = DuckdbEvents(here.history, here.journal_folder, here.seal_records)
        assert await store.open() == 90
        assert store.position == 90
        assert len(await store.lookup(ALL)) == 90
        await store.add(await here.entries())
        await here.check(store)
        await store.close()
        assert here.ranges() == [(1, 40), (41, 90)]
        assert len(here.files()) == 2


@asynchronous
async def test_an_empty_folder_opens_at_the_beginning(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        store = DuckdbEvents(here.history, here.journal_folder)
        assert await store.open() == 0
        assert store.position == 0
        assert await store.lookup(ALL) == []
        await store.close()


@asynchronous
async def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    odd = tmp_path / 'it\'s a "folder"; -- $1'
    odd.mkdir()
    async with world(odd) as here:
        await here.write(60)
        await here.seal((1, 40))
        async with here.opened() as store:
            await here.check(store)


@pytest.mark.parametrize(
    "name",
    [
        f"{1:020d}-{40:020d}.4711.tmp",
        f"{1:020d}-{40:020d}.4711.tmp.wal",
        f"{41:020d}-{80:020d}.1.tmp",
    ],
)
@asynchronous
async def test_what_a_cut_short_sealing_left_is_removed(tmp_path: Path, name: str) -> None:
    async with world(tmp_path) as here:
        await here.write(60)
        await here.seal((1, 40))
        (here.history / name).write_bytes(b"half a file")
        async with here.opened() as store:
            await here.check(store)
        assert here.ranges() == [(1, 40)]
        assert len(here.files()) == 1


@asynchronous
async def test_a_folder_in_which_sealing_swapped_is_removed_too(tmp_path: Path) -> None:
    """DuckDB puts what does not fit into memory into a folder called FILE.tmp."""
    async with world(tmp_path) as here:
        await here.write(60)
        await here.seal((1, 40))
        swap = here.history / f"{41:020d}-{80:020d}.4711.tmp.tmp"
        swap.mkdir()
        (swap / "duckdb_temp_storage_DEFAULT-0.tmp").write_bytes(b"swapped")
        async with here.opened() as store:
            await here.check(store)
        assert here.ranges() == [(1, 40)]
        assert len(here.files()) == 1


# Missing and damaged files


@pytest.mark.anomaly
@pytest.mark.parametrize("missing", [0, 1, 2])
@asynchronous
async def test_a_sealed_file_that_is_gone_is_made_again(tmp_path: Path, missing: int) -> None:
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
async def test_several_neighbouring_files_that_are_gone_are_made_again(tmp_path: Path) -> None:
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
async def test_a_damaged_file_is_set_aside_and_made_again(tmp_path: Path, damage: object) -> None:
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
async def test_a_file_with_another_files_content_is_made_again(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(120)
        await here.seal((1, 40), (41, 110))
        first, second = (here.history / name for name in here.files())
        second.write_bytes(first.read_bytes())
        async with here.opened() as store:
            await here.check(store)


@pytest.mark.anomaly
@asynchronous
async def test_a_file_with_another_range_of_the_same_length_is_made_again(
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
async def test_wherever_a_sealed_file_is_damaged_look_ups_stay_right(
    tmp_path: Path, part: int
) -> None:
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
async def test_what_neither_file_nor_journal_holds_is_named_and_the_rest_is_shown(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        await here.write(80)
        await here.seal((1, 40), (41, 80))
        entries = await here.entries()
    (here.history / here.files()[0]).unlink()
    for segment in here.journal_folder.iterdir():
        segment.unlink()
    store = DuckdbEvents(here.history, here.journal_folder)
    assert await store.open() == 80
    assert store.compaction.missing == [(1, 40)]
    assert await store.lookup(ALL) == naive_page(entries[40:], ALL)
    assert [entry.position for entry in await store.read(0, 1_000, 80)] == list(range(41, 81))
    await store.close()


# Merging


@asynchronous
async def test_many_small_files_become_few_large_ones_and_nothing_else_changes(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, seal_records=10) as here:
        async with here.opened() as store:
            for _ in range(40):
                await store.add(await here.write(5))
            await store.idle()
            await here.check(store)
        ranges = here.ranges()
        assert len(ranges) < 8
        assert ranges[0][0] == 1
        assert all(b[0] == a[1] + 1 for a, b in itertools.pairwise(ranges))
        assert len(here.files()) == len(ranges)
        async with here.opened() as store:
            await here.check(store)


@pytest.mark.anomaly
@pytest.mark.parametrize("left", [0, 1, 2])
@asynchronous
async def test_of_a_merging_that_was_cut_short_before_its_parts_went_only_one_counts(
    tmp_path: Path, left: int
) -> None:
    async with world(tmp_path) as here:
        await here.write(100)
        await here.seal((1, 30), (31, 60), (61, 90))
        parts = [here.history / name for name in here.files()]
        merged = merge(parts)
        for part in parts[left:]:
            part.unlink()
        async with here.opened() as store:
            await here.check(store)
        assert here.files() == [merged.name]


def test_files_that_do_not_follow_one_another_are_not_merged(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            await here.write(90)
            await here.seal((1, 30), (61, 90))
            with pytest.raises(RuntimeError, match="does not follow"):
                merge([here.history / name for name in here.files()])
            assert here.ranges() == [(1, 30), (61, 90)]

    run(story())


# The journal's archive


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


# Expiry


@asynchronous
async def test_expired_files_go_oldest_first_and_never_what_is_needed(tmp_path: Path) -> None:
    later = MOMENT + timedelta(days=1)
    async with world(tmp_path) as here:
        await here.write(130)
        await here.seal((1, 40), (41, 80), (81, 120))
        entries = await here.entries()
        async with here.opened() as store:
            assert await store.expire(MOMENT, 130) == 0
            await here.check(store)
            assert await store.expire(later, 79) == 40
            assert await store.lookup(ALL) == naive_page(entries[40:], ALL)
            assert [first for first, _ in here.ranges()] == [41, 81]
            assert await store.expire(later, 130) == 80
            assert here.ranges() == []
            assert await store.lookup(ALL) == naive_page(entries[120:], ALL)
        for _ in range(2):
            async with here.opened() as store:
                assert store.compaction.missing == []
                assert await store.lookup(ALL) == naive_page(entries[120:], ALL)


@pytest.mark.anomaly
@asynchronous
async def test_an_expiry_that_was_cut_short_is_ended_at_the_next_start(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(90)
        await here.seal((1, 40), (41, 80))
        entries = await here.entries()
        (here.history / f"{1:020d}-{40:020d}.expired").touch()
        async with here.opened() as store:
            assert await store.lookup(ALL) == naive_page(entries[40:], ALL)
        assert here.ranges() == [(41, 80)]


class PowerCutError(Exception):
    """The process would be gone now."""


@pytest.mark.anomaly
@pytest.mark.parametrize("passage", [1, 2, 3, 4])
@asynchronous
async def test_an_expiry_that_dies_between_mark_and_deletion_is_ended_at_the_next_start(
    tmp_path: Path, passage: int
) -> None:
    """Imported events go first, then those of the journal; each file is marked, then deleted."""

    def die() -> None:
        raise PowerCutError

    async with world(tmp_path) as here:
        await here.write(90)
        await here.seal((1, 40), (41, 80))
        await imported(here, 5, 7)
        entries = await here.entries()
        imports = [(1, 5), (6, 12)]
        faults.arm("history.expired", passage, die)
        try:
            async with here.opened() as store:
                with pytest.raises(PowerCutError):
                    await store.expire(MOMENT + timedelta(days=1), 90)
        finally:
            faults.arm("history.expired", sys.maxsize, lambda: None)
        async with here.opened() as store:
            gone = imports[:passage]
            left = entries[40 * max(0, passage - 2) :]
            found = await store.lookup(replace(ALL, until_import=2**40))
            assert [e for e in found if e.position > 0] == naive_page(left, ALL)
            numbers = sorted(-e.position for e in found if e.position < 0)
            assert numbers == [n for a, b in imports if (a, b) not in gone for n in range(a, b + 1)]
            assert (store.compaction.missing, store.compaction.lost_imports) == ([], [])
            assert await store.expire(MOMENT + timedelta(days=1), 90) == 92 - (
                sum(b - a + 1 for a, b in gone) + 40 * max(0, passage - 2)
            )


# Checking


@pytest.mark.anomaly
@pytest.mark.parametrize("at", [0.2, 0.6, 0.99])
@asynchronous
async def test_a_flipped_bit_is_found_at_the_start_without_any_look_up(
    tmp_path: Path, at: float
) -> None:
    async with world(tmp_path) as here:
        await here.write(50)
        await here.seal((1, 40))
        file = here.history / here.files()[0]
        content = bytearray(file.read_bytes())
        content[int(len(content) * at)] ^= 1
        file.write_bytes(content)
        async with here.opened() as store:
            await eventually(lambda: store.compaction.is_checked)
            assert store.compaction.damaged == [file.name]
            assert store.compaction.missing == []
            await here.check(store)
        assert here.ranges() == [(1, 40)]
        (made,) = [name for name in here.files() if NAME.match(name)]
        assert is_whole(SealedFile(here.history / made, 1, 40, False, made[42:58], False))


# Anything, against a plain list

steps = st.lists(st.integers(1, 12), min_size=1, max_size=8)


@pytest.mark.hypothesis
@settings(max_examples=15, deadline=None)
@given(
    batches=steps,
    cuts=st.sets(st.integers(1, 60), max_size=3),
    again=st.integers(0, 60),
    limit=st.integers(1, 30),
)
def test_any_mix_of_sealed_files_batches_and_repeats_reads_as_a_plain_list(
    batches: Sequence[int], cuts: set[int], again: int, limit: int
) -> None:
    async def story(root: Path) -> None:
        async with world(root, seal_records=1_000) as here:
            await here.write(sum(batches))
            ends = sorted(cut for cut in cuts if cut <= here.journal.head)
            await here.seal(*((a + 1, b) for a, b in itertools.pairwise([0, *ends])))
            store = DuckdbEvents(here.history, here.journal_folder)
            assert await store.open() == max(ends, default=0)
            entries = await here.entries()
            begin = 0
            for size in batches:
                await store.add(entries[max(0, begin - again) : begin + size])
                begin += size
            query = replace(ALL, limit=limit)
            assert await store.lookup(query) == naive_page(entries, query)
            await here.check(store)
            await store.close()

    with tempfile.TemporaryDirectory() as root:
        run(story(Path(root)))


# What others are at fault for, and what cannot be mended


@pytest.mark.anomaly
@asynchronous
async def test_a_look_up_that_fails_for_another_reason_leaves_a_healthy_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as here:
        await here.write(60)
        await here.seal((1, 40))
        async with here.opened() as store:
            execute = store._database.execute

            def fail(statement: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
                if "sealed" in statement:
                    raise duckdb.OutOfMemoryException("no memory")
                return execute(statement, arguments)

            monkeypatch.setattr(store._database, "execute", fail)
            with pytest.raises(StorageFailed, match="no memory"):
                await store.lookup(ALL)
            monkeypatch.undo()
            await here.check(store)
            assert store.compaction.damaged == []
        assert here.ranges() == [(1, 40)]


async def imported(here: World, *counts: int) -> list[Path]:
    """Imports so many records each time, and returns the files."""
    staging = Staging(here.history, here.journal_folder)
    paths = []
    for number, count in enumerate(counts):
        staging.clear()
        records = [a_record(eventID=event_id(1_000 * (number + 1) + n)) for n in range(count)]
        staging.add(0, [(n, attributes_of(r), record_bytes(r)) for n, r in enumerate(records)])
        staging.settle(Settled())
        written = staging.write(MOMENT, [])
        assert written is not None
        paths.append(written[0])
    staging.close()
    return paths


@pytest.mark.anomaly
@asynchronous
async def test_imported_events_whose_file_is_gone_are_named_until_somebody_says_so(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        first, _, _ = await imported(here, 5, 7, 4)
        (_, second, _) = sorted(here.history.glob("import-*"))
        second.unlink()
        for _ in range(2):
            async with here.opened() as store:
                assert store.compaction.lost_imports == [(6, 12)]
                assert len(await store.lookup(ALL)) == 9
        content = bytearray(first.read_bytes())
        content[len(content) // 3] ^= 0xFF
        first.write_bytes(content)
        async with here.opened() as store:
            await eventually(lambda: store.compaction.is_checked)
            assert sorted(store.compaction.lost_imports) == [(1, 5), (6, 12)]
        async with here.opened() as store:
            assert store.compaction.lost_imports == [(1, 5), (6, 12)]
            assert len(await store.lookup(ALL)) == 4
        for file in here.history.glob("*.damaged"):
            file.unlink()
        (here.history / f"import-{6:020d}-{12:020d}.expired").touch()
        async with here.opened() as store:
            assert store.compaction.lost_imports == []
            assert store.imported == 16


@asynchronous
async def test_imported_events_that_have_expired_are_not_missed(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await imported(here, 5, 7)
        async with here.opened() as store:
            assert await store.expire(MOMENT + timedelta(days=1), 0) == 12
            assert await store.lookup(ALL) == []
            await store.show_imports()
            assert await store.lookup(ALL) == []
        (path,) = await imported(here, 3)
        assert read_name(path) == SealedFile(path, 13, 15, True, path.stem[-16:], False)
        async with here.opened() as store:
            assert store.compaction.lost_imports == []
            assert len(await store.lookup(ALL)) == 3


@pytest.mark.anomaly
@asynchronous
async def test_a_last_file_that_is_lost_behind_a_trimmed_journal_is_named_at_every_start(
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
            store = DuckdbEvents(here.history, here.journal_folder)
            assert await store.open() == first - 1
            assert store.compaction.missing == [(21, first - 1)]
            await store.add(entries[first - 1 :])
            expected = naive_page([*entries[:20], *entries[first - 1 :]], ALL)
            assert await store.lookup(ALL) == expected
            await store.close()


@pytest.mark.anomaly
@asynchronous
async def test_of_files_that_overlap_each_event_is_shown_once(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(100)
        await here.seal((1, 50), (41, 90))
        async with here.opened() as store:
            await here.check(store)
            seen = await store.read(0, 1_000, 100)
            assert [entry.position for entry in seen] == list(range(1, seen[-1].position + 1))
