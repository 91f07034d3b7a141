"""PostgreSQL is restored from an older backup: no server loses an event from its history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.app.background import run_beside
from opentrail.app.cluster.shared_files import SharedFiles
from opentrail.app.cluster.shared_imports import SharedImports
from opentrail.app.known_positions import kept_events, known_imports, mark_imports
from opentrail.app.wings.imports import KeptHistory
from opentrail.history.history_follower import HistoryFollower
from opentrail.imports.service import Imports
from opentrail.ports.event_store import EventQuery
from opentrail.ports.follow import follow
from opentrail.ports.metrics import Metrics
from tests.app.cluster.test_shared_imports import BUCKET, DAYS
from tests.factories import MOMENT, event_id, some_new_entries
from tests.fakes import (
    TIMEOUT_SECONDS,
    MemoryControl,
    MemoryObjects,
    SettableClock,
    a_store_id,
    asynchronous,
)
from tests.postgres import database_in, shared_server

pytestmark = [pytest.mark.anomaly, pytest.mark.slow, pytest.mark.campaign]

#: Records of a sealed file.
SEALED = 8
#: Number of records at the time of the backup.
_RESTORE = (
    "DELETE FROM opentrail.batch WHERE first > {last} OR first IS NULL",
    "UPDATE opentrail.journal SET position = {last},"
    " chain = (SELECT chain FROM opentrail.batch ORDER BY first DESC LIMIT 1)",
)


@dataclass
class Server:
    """A server of a cluster: its journal and event history."""

    journal: PostgresJournal
    store: IpcEventStore
    follower: HistoryFollower
    kept: KeptHistory

    async def event_ids(self) -> list[str]:
        """Returns the events of a lookup without the records of losses."""
        await self.follower.until_newest()
        events = await self.store.lookup(EventQuery(10_000, self.store.snapshot))
        return sorted(e.event_id for e in events if e.event_name != "RecordsLost")


class Cluster:
    """The servers' shared stores, and their folders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = shared_server().new_database()
        self.control, self.objects = MemoryControl(), MemoryObjects(BUCKET)
        self.clock = SettableClock(MOMENT)

    def restore(self, last: int) -> None:
        for statement in _RESTORE:
            shared_server().execute(database_in(self.url), statement.format(last=last))

    @asynccontextmanager
    async def server(self, name: str) -> AsyncIterator[Server]:
        history = self._folder / name
        history.mkdir(exist_ok=True)
        files = SharedFiles(
            *(f"s3://{BUCKET}", a_store_id, self.objects, self.control),
            *(history, 10_000, self.clock, DAYS),
        )
        shared = SharedImports(files, self.control, history, self.clock, DAYS)
        await shared.take_over()
        async with AsyncExitStack() as stack:
            journal = PostgresJournal(self.url, node=name)
            stack.push_async_callback(journal.close)
            imported = await known_imports(self.control)
            store = IpcEventStore(history, journal.source, SEALED, last_import=imported)
            await store.open()
            stack.push_async_callback(store.close)
            follower = HistoryFollower(store, self.clock, Metrics(), journal.newest)
            follower.catch_up_to(journal.head)
            reached = partial(mark_imports, self.control)
            imports = Imports(history, journal.source, store, reached, shared)
            stack.push_async_callback(imports.close)
            run_beside(stack, follow(journal, follower, 0.01, follower.flush_now))
            run_beside(stack, shared.follow(store))
            kept = KeptHistory(
                store,
                follower,
                journal.source,
                journal,
                self.control,
                self.clock,
                name,
                imports.take,
            )
            yield Server(journal, store, follower, kept)


async def _until_found(servers: list[Server], count: int) -> None:
    expected = sorted(event_id(number) for number in range(1, count + 1))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        for server in servers:
            while await server.event_ids() != expected:
                await server.store.refresh()


@pytest.mark.parametrize("at_once", [True, False])
@asynchronous
async def test_restored_journal_loses_no_found_event(tmp_path: Path, at_once: bool) -> None:
    cluster = Cluster(tmp_path)
    async with cluster.server("one") as one, cluster.server("other") as other:
        for first in range(1, 31, 3):
            await one.journal.append(some_new_entries(3, first))
        await _until_found([one, other], 30)
        # Some lost records are in files; the others are not, unless sealing is ahead of this test.
        while (await one.store.refresh()).sealed <= 12:
            pass

        cluster.restore(12)
        await other.journal.append(some_new_entries(3, 31))
        if at_once:
            await asyncio.gather(one.kept.work_off(), other.kept.work_off())
        else:  # the other one imports a known file
            await one.kept.work_off()
            await other.kept.work_off()
        await _until_found([one, other], 33)
        assert await kept_events(cluster.control) == [(13, 30, 18)]
        missing = {server.store.state.missing for server in (one, other)}
        assert missing == {((13, 30),)}
    async with cluster.server("one") as one, cluster.server("other") as other:
        await asyncio.gather(one.kept.work_off(), other.kept.work_off())
        await _until_found([one, other], 33)
        assert await kept_events(cluster.control) == [(13, 30, 18)]
