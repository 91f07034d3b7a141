"""Event history over both stores: restarts, expiry, agreement with a plain list."""

from __future__ import annotations

import itertools
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

from opentrail.adapters.duckdb.store import DuckdbEvents
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core import faults
from opentrail.core.errors import StorageFailed
from opentrail.ports.event_store import Snapshot
from tests.adapters.duckdb.worlds import ALL, world
from tests.factories import MOMENT
from tests.fakes import asynchronous, naive_page, run

pytestmark = pytest.mark.slow


@asynchronous
async def test_a_restart_uses_sealed_files_and_their_end(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        await here.write(100)
        await here.seal((1, 40), (41, 90))
        store = DuckdbEvents(
            here.history, SqliteJournalSource(here.journal_folder), here.seal_records
        )
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
        store = DuckdbEvents(here.history, SqliteJournalSource(here.journal_folder))
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
async def test_leftovers_of_interrupted_sealing_are_removed(tmp_path: Path, name: str) -> None:
    async with world(tmp_path) as here:
        await here.write(60)
        await here.seal((1, 40))
        (here.history / name).write_bytes(b"half a file")
        async with here.opened() as store:
            await here.check(store)
        assert here.ranges() == [(1, 40)]
        assert len(here.files()) == 1


@asynchronous
async def test_a_swap_folder_of_sealing_is_removed(tmp_path: Path) -> None:
    """DuckDB swaps to a folder called FILE.tmp."""
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


@asynchronous
async def test_expired_files_are_deleted_oldest_first(tmp_path: Path) -> None:
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
                assert store.recorded.missing == []
                assert await store.lookup(ALL) == naive_page(entries[120:], ALL)


@pytest.mark.anomaly
@asynchronous
async def test_an_interrupted_expiry_is_finished_at_the_start(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(90)
        await here.seal((1, 40), (41, 80))
        entries = await here.entries()
        (here.history / f"{1:020d}-{40:020d}.expired").touch()
        async with here.opened() as store:
            assert await store.lookup(ALL) == naive_page(entries[40:], ALL)
        assert here.ranges() == [(41, 80)]


class PowerCutError(Exception):
    """Stands for the end of the process."""


@pytest.mark.anomaly
@pytest.mark.parametrize("passage", [1, 2, 3, 4])
@asynchronous
async def test_marked_file_is_deleted_at_the_next_start(tmp_path: Path, passage: int) -> None:
    """Imported events expire first, then the journal's; each file is marked, then deleted."""

    def die() -> None:
        raise PowerCutError

    async with world(tmp_path) as here:
        await here.write(90)
        await here.seal((1, 40), (41, 80))
        await here.imports(5, 7)
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
            found = await store.lookup(replace(ALL, snapshot=Snapshot(1_000_000, 2**40)))
            assert [e for e in found if e.position > 0] == naive_page(left, ALL)
            numbers = sorted(-e.position for e in found if e.position < 0)
            assert numbers == [n for a, b in imports if (a, b) not in gone for n in range(a, b + 1)]
            assert (store.recorded.missing, store.imported.lost) == ([], [])
            assert await store.expire(MOMENT + timedelta(days=1), 90) == 92 - (
                sum(b - a + 1 for a, b in gone) + 40 * max(0, passage - 2)
            )


steps = st.lists(st.integers(1, 12), min_size=1, max_size=8)


@pytest.mark.hypothesis
@settings(max_examples=15, deadline=None)
@given(
    batches=steps,
    cuts=st.sets(st.integers(1, 60), max_size=3),
    again=st.integers(0, 60),
    limit=st.integers(1, 30),
)
def test_mixed_files_and_batches_read_as_a_list(
    batches: Sequence[int], cuts: set[int], again: int, limit: int
) -> None:
    async def story(root: Path) -> None:
        async with world(root, seal_records=1_000) as here:
            await here.write(sum(batches))
            ends = sorted(cut for cut in cuts if cut <= here.journal.head)
            await here.seal(*((a + 1, b) for a, b in itertools.pairwise([0, *ends])))
            store = DuckdbEvents(here.history, SqliteJournalSource(here.journal_folder))
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


@pytest.mark.anomaly
@asynchronous
async def test_an_unrelated_failure_leaves_a_healthy_file_alone(
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
            assert store.damaged == []
        assert here.ranges() == [(1, 40)]
