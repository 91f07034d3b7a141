"""Servers of a cluster: the election of the worker, and the state that they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.postgres.database import SharedDatabase
from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.adapters.postgres.schema import create_tables
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.adapters.sql.databases import Transaction
from opentrail.app import background
from opentrail.app.cluster import postgresql as module
from opentrail.app.cluster.postgresql import KEPT_FOR, Cluster, is_cluster
from opentrail.app.cluster.shared_files import SHARED_FILE
from opentrail.core.errors import LeaseLost, StorageFailed, UsageError
from opentrail.core.event import format_time, parse_time
from opentrail.ports.clock import Clock
from opentrail.ports.control import Put
from opentrail.settings import Settings
from tests.factories import some_new_entries
from tests.fakes import TIMEOUT_SECONDS, SettableClock, asynchronous, eventually
from tests.postgres import database_in, shared_server

pytestmark = pytest.mark.slow


class Server:
    """A server of a cluster, and its work while it is the worker."""

    def __init__(self, url: str, node: str, clock: Clock | None = None) -> None:
        self.control = SqlControl(url)
        self.failed: list[str] = []
        self.cluster = Cluster(
            settings_of(url), self.control, node, clock or SystemClock(), self.failed.append
        )
        #: Set during work.
        self.works = asyncio.Event()
        self.rests = asyncio.Event()
        self.failures = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.cluster.run_worker(self._work))

    async def _work(self, stack: AsyncExitStack) -> None:
        if self.failures:
            self.failures -= 1
            raise StorageFailed("it cannot begin")
        stack.callback(self.rests.set)
        stack.callback(self.works.clear)
        self.works.set()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def close(self) -> None:
        await self.stop()
        await self.control.close()
        await self.cluster.close()


def settings_of(url: str) -> Settings:
    return Settings(journal=url, control_store=url)


async def pass_time(server: Server, time: timedelta) -> None:
    """Moves the time when all servers were last seen."""
    for stored in await server.control.scan("server"):
        seen = format_time(parse_time(stored.document["seen"]) - time)
        document = {**stored.document, "seen": seen}
        await server.control.apply([Put("server", stored.key, document)])


async def database_of(url: str, work: Callable[[Transaction], int]) -> int:
    database = SharedDatabase(url)
    try:
        return await database.run(work)
    finally:
        await database.close()


@asynccontextmanager
async def two_servers() -> AsyncIterator[tuple[str, Server, Server]]:
    url = shared_server().new_database()
    database = SharedDatabase(url)
    await database.run(create_tables)
    await database.close()
    one, other = Server(url, "one"), Server(url, "other")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        yield url, one, other
    await one.close()
    await other.close()


def test_servers_share_one_database() -> None:
    url = "postgresql://user:secret@host/opentrail"
    assert is_cluster(settings_of(url))
    assert is_cluster(replace(settings_of(url), journal="postgresql://user@host/opentrail"))
    assert not is_cluster(Settings(journal=url))
    assert not is_cluster(Settings(control_store=url))
    assert not is_cluster(Settings())
    assert not is_cluster(replace(settings_of(url), journal="postgresql://user@host/other"))


@asynchronous
async def test_another_server_takes_over_from_a_stopped_worker() -> None:
    async with two_servers() as (_, one, other):
        one.start()
        await one.works.wait()
        other.start()
        assert one.cluster.is_worker
        await one.cluster.worker_control.apply([Put("trail", "x", {})])
        with pytest.raises(LeaseLost):
            await other.cluster.worker_control.apply([Put("trail", "x", {})])
        await one.stop()
        assert not one.works.is_set()
        await other.works.wait()
        assert (one.cluster.is_worker, other.cluster.is_worker) == (False, True)


@asynchronous
async def test_worker_without_lease_stops_and_may_work_again() -> None:
    async with two_servers() as (url, one, other):
        one.start()
        await one.works.wait()
        taken = (
            "UPDATE opentrail.lease SET holder = 'other', epoch = epoch + 1,"
            " until = clock_timestamp() + interval '1 hour' WHERE name = 'worker'"
        )
        shared_server().execute(database_in(url), taken)
        await one.rests.wait()
        assert not one.works.is_set()
        assert not one.cluster.is_worker
        given = "UPDATE opentrail.lease SET until = '-infinity' WHERE name = 'worker'"
        shared_server().execute(database_in(url), given)
        await one.works.wait()
        assert one.cluster.is_worker
        assert not other.works.is_set()


@asynchronous
async def test_only_a_leaseholder_appends_as_worker() -> None:
    async with two_servers() as (url, one, other):
        journal = PostgresJournal(url)
        try:
            one.start()
            await one.works.wait()
            assert await one.cluster.append(journal, some_new_entries(2)) == 2
            with pytest.raises(LeaseLost):
                await other.cluster.append(journal, some_new_entries(1, 10))
            taken = "UPDATE opentrail.lease SET holder = 'other', epoch = epoch + 1"
            shared_server().execute(database_in(url), f"{taken} WHERE name = 'worker'")
            assert one.cluster.is_worker, "it does not know yet"
            with pytest.raises(LeaseLost):
                await one.cluster.append(journal, some_new_entries(1, 20))
            assert await journal.append(some_new_entries(1, 30)) == 3
        finally:
            await journal.close()


@asynchronous
async def test_other_servers_know_what_the_worker_needs() -> None:
    async with two_servers() as (_, one, other):
        one.start()
        await one.works.wait()
        assert await other.cluster.needed_by_worker() is None
        await one.cluster.store_needed(7)
        await one.cluster.store_needed(9)
        assert await other.cluster.needed_by_worker() == 9
        with pytest.raises(LeaseLost):
            await other.cluster.store_needed(11)


@asynchronous
async def test_work_that_fails_to_begin_is_retried() -> None:
    async with two_servers() as (_, one, _other):
        one.failures = 1
        one.start()
        await one.works.wait()
        assert one.failures == 0


@pytest.mark.parametrize("method", ["acquire", "renew"])
@asynchronous
async def test_a_bug_leaves_the_cluster_with_a_worker(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(background, "_RENEW_SECONDS", 0.05)
    monkeypatch.setattr(module, "_ATTEMPT_SECONDS", 0.05)
    async with two_servers() as (url, one, _other):
        work, failures = getattr(one.cluster._leases, method), [RuntimeError("no new thread")]

        async def fail_once(*arguments: Any) -> object:
            if failures:
                raise failures.pop()
            return await work(*arguments)

        monkeypatch.setattr(one.cluster._leases, method, fail_once)
        one.start()
        await one.works.wait()
        await eventually(lambda: not failures)
        assert one.cluster.is_worker
        taken = "UPDATE opentrail.lease SET holder = 'other', epoch = epoch + 1"
        shared_server().execute(database_in(url), f"{taken} WHERE name = 'worker'")
        await one.rests.wait()


@asynchronous
async def test_servers_know_each_other_for_a_day() -> None:
    async with two_servers() as (url, one, other):
        await one.cluster.heartbeat(None, 0)
        await one.cluster.heartbeat("http://one", 120)
        await other.cluster.heartbeat("http://other", 80)
        await pass_time(other, timedelta(hours=1))
        await one.cluster.heartbeat("http://one", 120)
        servers = await one.cluster.servers()
        assert [(server.endpoint, server.sealed) for server in servers] == [
            ("http://one", 120),
            ("http://other", 80),
        ]
        one.start()
        await one.works.wait()
        await one.cluster.refresh()
        shown = one.cluster.document()
        assert shown["isWorker"]
        assert [(s["endpoint"], s["isWorker"], s["isLost"]) for s in shown["servers"]] == [
            ("http://one", True, False),
            ("http://other", False, True),
        ]
        assert not await one.cluster.has_running_others()
        with pytest.raises(LeaseLost):
            await database_of(url, other.cluster.sealed_everywhere)
        assert await database_of(url, one.cluster.sealed_everywhere) == 80
        await pass_time(one, KEPT_FOR - timedelta(minutes=30))
        assert [server.endpoint for server in await one.cluster.servers()] == ["http://one"]
        assert await database_of(url, one.cluster.sealed_everywhere) == 120


@asynchronous
async def test_a_servers_own_clock_is_ignored() -> None:
    """PostgreSQL's clock decides whether a server is lost."""
    async with two_servers() as (url, one, _):
        late = Server(url, "late", SettableClock(SystemClock().now() - timedelta(minutes=2)))
        await one.cluster.heartbeat("http://one", 1)
        await late.cluster.heartbeat("http://late", 1)
        for server in (one, late):
            await server.cluster.refresh()
            states = server.cluster.document()["servers"]
            assert [state["isLost"] for state in states] == [False, False]
            (problem,) = server.cluster.problems
            assert problem.startswith("the clock of http://late is 1")
            assert "behind PostgreSQL's" in problem
        await late.close()


@asynchronous
async def test_entries_for_a_starting_server_stay_ten_minutes() -> None:
    async with two_servers() as (url, one, other):
        await one.cluster.heartbeat("http://one", 120)
        one.start()
        await one.works.wait()
        await other.cluster.heartbeat(None, 7)
        assert await database_of(url, one.cluster.sealed_everywhere) == 7
        await pass_time(one, timedelta(seconds=601))
        assert await database_of(url, one.cluster.sealed_everywhere) == 120


@asynchronous
async def test_long_dead_servers_are_removed() -> None:
    async with two_servers() as (_, one, other):
        await other.cluster.heartbeat("http://other", 80)
        await pass_time(one, timedelta(days=8))
        with pytest.raises(LeaseLost):
            await one.cluster.forget_servers()
        await one.cluster.heartbeat("http://one", 120)
        one.start()
        await one.works.wait()
        await one.cluster.forget_servers()
        assert [stored.key for stored in await one.control.scan("server")] == ["one"]
        await other.cluster.heartbeat("http://other", 80)  # it comes back
        assert len(await one.cluster.servers()) == 2


@asynchronous
async def test_servers_without_event_history_do_not_delay_trimming() -> None:
    async with two_servers() as (url, one, other):
        await one.cluster.heartbeat("http://one", 120)
        other.cluster._role = "recorder"
        await other.cluster.heartbeat("http://other", None)
        one.start()
        await one.works.wait()
        assert await database_of(url, one.cluster.sealed_everywhere) == 120
        await one.cluster.refresh()
        assert [(s["endpoint"], s["role"]) for s in one.cluster.document()["servers"]] == [
            ("http://one", "all"),
            ("http://other", "recorder"),
        ]
        assert one.cluster.problems == []
        await pass_time(other, timedelta(seconds=60))
        await other.cluster.heartbeat("http://other", None)
        await other.cluster.refresh()
        assert other.cluster.problems == [
            "no server of the cluster has the role worker or all: nothing is delivered"
        ]


@asynchronous
async def test_only_running_servers_delay_trimming_with_s3() -> None:
    async with two_servers() as (url, one, other):
        await other.cluster.heartbeat("http://other", 80)
        await pass_time(one, timedelta(hours=1))
        await one.cluster.heartbeat("http://one", 120)
        one.start()
        await one.works.wait()
        assert await database_of(url, one.cluster.sealed_everywhere) == 80
        for first, last in ((1, 50), (51, 100)):
            shared = Put(SHARED_FILE, f"{first:020d}", {"first": first, "last": last, "name": "f"})
            await one.control.apply([shared])
        assert await database_of(url, one.cluster.sealed_everywhere) == 100
        await one.control.apply([Put(SHARED_FILE, f"{101:020d}", {"last": 150})])
        assert await database_of(url, one.cluster.sealed_everywhere) == 120
        await other.cluster.heartbeat(None, 0)
        await pass_time(
            one, timedelta(seconds=60)
        )  # a starting server may be busy with its downloads
        await one.cluster.heartbeat("http://one", 120)
        assert await database_of(url, one.cluster.sealed_everywhere) == 0


@asynchronous
async def test_imported_events_are_copied_before_a_server_joins(tmp_path: Path) -> None:
    async with two_servers() as (_, one, other):
        await one.cluster.require_imports(tmp_path, 5)  # no other server could have them
        await other.cluster.heartbeat("http://other", 0)
        with pytest.raises(UsageError, match="copy the files of the folder history"):
            await one.cluster.require_imports(tmp_path, 5)
        await one.cluster.require_imports(tmp_path, 0)


@asynchronous
async def test_later_of_two_servers_with_one_id_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_NOTE_SECONDS", 0.05)
    async with two_servers() as (url, one, _other):
        await one.cluster.heartbeat("http://one", 3)
        copy = Server(url, "one")
        copy.cluster._started += timedelta(seconds=1)
        await copy.cluster.heartbeat(None, 0)
        notes = [
            asyncio.create_task(server.cluster.keep_noting("http://one", lambda: 3))
            for server in (one, copy)
        ]
        await notes[1]
        assert copy.failed == ["a server runs on a copy of this data directory"]
        assert one.failed == []
        notes[0].cancel()
        await copy.close()
