"""The engine of a data directory's journal."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from opentrail.adapters.postgres.database import PostgresLeases
from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.app import background
from opentrail.app import journals as module
from opentrail.app.journals import journal_place
from opentrail.core.errors import DataDirectoryInUse, UsageError
from opentrail.ports.control import Lease
from opentrail.ports.journal import JournalEngine
from opentrail.settings import Settings
from tests.app.opened import opened_engines
from tests.factories import event_id, some_new_entries
from tests.fakes import TIMEOUT_SECONDS, asynchronous, eventually
from tests.postgres import database_in, shared_server

pytestmark = pytest.mark.slow


def on_postgresql(folder: Path, url: str) -> Settings:
    return Settings(data_dir=folder, journal=url)


@asynchronous
async def test_records_on_postgresql_survive_a_restart(tmp_path: Path) -> None:
    url = shared_server().new_database()
    for number in (1, 2):
        async with opened_engines(on_postgresql(tmp_path, url)) as (_, engines, data):
            assert engines.trimmed_journal.engine == JournalEngine("postgresql", False)
            assert engines.journal.head == number - 1
            assert await engines.journal.append(some_new_entries(1, number)) == number
            assert engines.inventory.problems == []
            assert list(data.journal.glob("*.db")) == []
            assert journal_place(engines.settings, data).server_source() is not None


@asynchronous
async def test_journal_is_searched_for_only_in_its_place(tmp_path: Path) -> None:
    url = shared_server().new_database()
    shared, own = tmp_path / "shared", tmp_path / "own"
    async with opened_engines(on_postgresql(shared, url)) as (_, engines, shared_data):
        await engines.journal.append(some_new_entries(1))
    async with opened_engines(Settings(data_dir=own)) as (_, engines, own_data):
        assert engines.trimmed_journal.engine == JournalEngine("sqlite")
        await engines.journal.append(some_new_entries(1))
    with pytest.raises(UsageError, match="is on PostgreSQL: set OPENTRAIL_JOURNAL"):
        journal_place(Settings(), shared_data).source()
    with pytest.raises(UsageError, match="needs a new data directory"):
        journal_place(on_postgresql(own, url), own_data).source()


@asynchronous
async def test_one_server_at_a_time_uses_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = shared_server().new_database()
    async with opened_engines(on_postgresql(tmp_path / "one", url)):
        with monkeypatch.context() as limits:
            limits.setattr(module, "_WAIT_SECONDS", 0.1)
            with pytest.raises(DataDirectoryInUse, match="another server uses the journal"):
                async with opened_engines(on_postgresql(tmp_path / "other", url)):
                    pass
    async with opened_engines(on_postgresql(tmp_path / "other", url)):
        pass


@pytest.mark.parametrize("failure", [None, RuntimeError("can't start new thread")])
@asynchronous
async def test_server_whose_journal_has_a_new_owner_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception | None
) -> None:
    """Also after an unexpected failure to renew its lease."""
    monkeypatch.setattr(background, "_RENEW_SECONDS", 0.05)
    renew, failures = PostgresLeases.renew, [failure] if failure else []

    async def fail_once(leases: PostgresLeases, lease: Lease) -> bool:
        if failures:
            raise failures.pop()
        return await renew(leases, lease)

    monkeypatch.setattr(PostgresLeases, "renew", fail_once)
    url = shared_server().new_database()
    failed: asyncio.Queue[str] = asyncio.Queue()
    async with opened_engines(on_postgresql(tmp_path, url), failed.put_nowait):
        await eventually(lambda: not failures)
        statement = "UPDATE opentrail.lease SET epoch = epoch + 1 WHERE name = 'server'"
        shared_server().execute(database_in(url), statement)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert "another server uses the journal" in await failed.get()


@asynchronous
async def test_positions_lost_by_postgresql_are_not_reused(
    tmp_path: Path,
) -> None:
    """As after PostgreSQL was restored from an older backup, or with a replaced database."""
    url = shared_server().new_database()
    async with opened_engines(on_postgresql(tmp_path, url)) as (_, engines, _data):
        assert await engines.journal.append(some_new_entries(5)) == 5
    settings = on_postgresql(tmp_path, shared_server().new_database())
    async with opened_engines(settings) as (_, engines, _data):
        assert [(run.first, run.last) for run in engines.journal.lost] == [(1, 5)]
        assert await engines.journal.append(some_new_entries(1, 6)) == 6
        assert [entry.event_id for entry in await engines.trimmed_journal.read(0, 9)] == [
            event_id(6)
        ]
        assert engines.losses.qsize() == 1
    async with opened_engines(settings) as (_, engines, _data):
        assert engines.journal.head == 6


@asynchronous
async def test_journal_of_another_data_directory_is_refused_unchanged(
    tmp_path: Path,
) -> None:
    one, other = (shared_server().new_database() for _ in range(2))
    async with opened_engines(on_postgresql(tmp_path / "one", one)) as (_, engines, _data):
        await engines.journal.append(some_new_entries(3))
    async with opened_engines(on_postgresql(tmp_path / "other", other)) as (_, engines, _data):
        await engines.journal.append(some_new_entries(9))
    before = shared_server().execute(database_in(one), "SELECT * FROM opentrail.journal")
    with pytest.raises(UsageError, match="is of another data directory"):
        async with opened_engines(on_postgresql(tmp_path / "other", one)):
            pass
    assert shared_server().execute(database_in(one), "SELECT * FROM opentrail.journal") == before
    async with opened_engines(on_postgresql(tmp_path / "new", one)) as (_, engines, _data):
        assert engines.journal.head == 3
    with pytest.raises(UsageError, match="is of another data directory"):
        async with opened_engines(on_postgresql(tmp_path / "one", one)):
            pass


@asynchronous
async def test_another_journal_of_the_same_size_is_detected(tmp_path: Path) -> None:
    url, other = shared_server().new_database(), shared_server().new_database()
    async with opened_engines(on_postgresql(tmp_path, url)) as (_, engines, _data):
        await engines.journal.append(some_new_entries(3))
    strange = PostgresJournal(other)
    await strange.append([replace(entry, record=b"{}") for entry in some_new_entries(3)])
    await strange.close()
    async with opened_engines(on_postgresql(tmp_path, other)) as (_, engines, _data):
        assert engines.inventory.problems == [
            "the journal was replaced: position 3 has another record"
        ]


@asynchronous
async def test_history_seals_entries_on_postgresql(tmp_path: Path) -> None:
    url = shared_server().new_database()
    settings = replace(on_postgresql(tmp_path, url), history_seal_records=50)
    async with opened_engines(settings) as (_, engines, _data):
        await engines.journal.append(some_new_entries(120))
        await engines.store.open()
        await engines.store.add(await engines.journal.read(0, 120))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while (await engines.store.refresh()).sealed < 100:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.02)
        assert await engines.store.find(event_id(70)) == 70
        assert await engines.store.read(0, 10, 100) == await engines.trimmed_journal.read(0, 10)
