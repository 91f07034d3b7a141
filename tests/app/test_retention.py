"""Retention keeps every entry that any part of the server still needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from opentrail.adapters.ipc.messages import HistoryState
from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.app.cluster.site import OneServer
from opentrail.app.retention import HeldEntries, Retention
from opentrail.core.errors import StorageFailed
from opentrail.core.event_data_store import EventDataStore
from opentrail.identity.known_identities import Identities
from opentrail.lake.store_keeping import StoreKeeper
from opentrail.lake.store_registry import Stores
from opentrail.ports.control import Put
from opentrail.ports.follow import FollowedPositions, needs_all
from opentrail.ports.journal import Hold
from opentrail.trails.plans import DELIVERY
from tests.adapters.duckdb.test_store_files import a_store
from tests.app.alone import alone
from tests.factories import some_new_entries
from tests.fakes import MemoryControl, SettableClock, asynchronous
from tests.lake.test_store_keeping import MemoryFiles
from tests.ports.test_follow import Collector
from tests.trails.world import World

HEAD, SEALED, BEHIND = 120, 100, 40


class OtherWorker(OneServer):
    """A server whose cluster's worker is another server."""

    others: tuple[Hold, ...] = ()

    async def holds(self) -> list[Hold]:
        return [*self.others]


@dataclass
class Parts:
    """All parts that need entries, each with every entry processed."""

    folder: Path
    world: World = field(default_factory=World)
    files: MemoryFiles = field(default_factory=MemoryFiles)
    followers: FollowedPositions = field(default_factory=FollowedPositions)
    follower: Collector = field(default_factory=Collector)

    async def open(self) -> Retention:
        journal = SqliteJournal(self.folder)
        await journal.append(some_new_entries(HEAD))
        await self.world.add()
        await self.world.start_logging()
        await self.world.event(HEAD)
        await self.world.deliver()
        self.identities = Identities(MemoryControl(), [])
        await self.identities.process(await journal.read(0, HEAD))
        stores = Stores(MemoryControl(), journal.newest, SettableClock())
        keeper = StoreKeeper(stores, self.files, journal, SettableClock())
        self.store: EventDataStore = await stores.add(a_store(phases=()))
        self.followers.begin(self.follower, needs_all)
        self.followers.record(self.follower, HEAD)
        self.site = alone(self.folder, OtherWorker)
        events = IpcEventStore(self.folder, SqliteJournalSource(self.folder), HEAD)
        events.state = HistoryState(HEAD, sealed=SEALED, is_checked=True)
        return Retention(
            journal,
            events,
            self.identities,
            self.world.deliveries,
            self.site,
            self.followers,
            keeper,
        )


async def of_nobody(_: Parts) -> None:
    """Changes nothing."""


async def of_trail(parts: Parts) -> None:
    state = await parts.world.state()
    state.position = BEHIND
    uid = (await parts.world.stored()).trail.uid
    await parts.world.control.apply([Put(DELIVERY, uid, state.document())])


async def of_follower(parts: Parts) -> None:
    parts.followers.record(parts.follower, BEHIND)


async def of_worker(parts: Parts) -> None:
    parts.site.others = (Hold("the worker of the cluster", BEHIND),)


async def of_store(parts: Parts) -> None:
    parts.files.positions[parts.store.id] = BEHIND


async def of_identities(parts: Parts) -> None:
    parts.identities._cursor = BEHIND


@pytest.mark.parametrize(
    ("fall_behind", "expirable", "trimmable"),
    [
        (of_nobody, HEAD, SEALED),
        (of_trail, BEHIND, SEALED),
        (of_follower, BEHIND, SEALED),
        (of_worker, BEHIND, SEALED),
        (of_identities, BEHIND, SEALED),
        (of_store, HEAD, BEHIND),
    ],
)
@asynchronous
async def test_slowest_holder_decides(
    fall_behind: Callable[[Parts], Awaitable[None]], expirable: int, trimmable: int, tmp_path: Path
) -> None:
    parts = Parts(tmp_path)
    retention = await parts.open()
    await fall_behind(parts)
    held = await retention.held()
    assert (held.expirable, held.trimmable) == (expirable, trimmable)
    is_behind = min(expirable, trimmable) == BEHIND
    assert [text.endswith(f" needs {HEAD - BEHIND} of them") for text in held.holders()] == (
        [True] if is_behind else []
    )


@asynchronous
async def test_unknown_holds_prevent_deletion(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    retention = await parts.open()

    async def holds() -> list[Hold]:
        raise StorageFailed("the store cannot be read")

    parts.site.holds = holds  # type: ignore[method-assign]
    with pytest.raises(StorageFailed, match="cannot be read"):
        await retention.held()


def test_holders_are_named_by_need() -> None:
    holds = [
        Hold(name, after) for name, after in (("a", 9), ("b", 3), ("c", 7), ("d", 5), ("e", 1))
    ]
    assert HeldEntries(holds, head=1_009, sealed=8).holders() == [
        "e needs 1,008 of them",
        "b needs 1,006 of them",
        "d needs 1,004 of them",
    ]
    assert HeldEntries(holds, head=1_009, sealed=1).holders() == []
