"""The journal and the worker of a cluster as a state machine: whole nodes, on one PostgreSQL.

tests/contracts/test_ordered_batches.py has inserts and their order step by step. Here nodes append
concurrently, lose connections and answers, are paused for longer than their leases, resume,
trim, and become the worker. Whatever the order of the steps: no acknowledged record is lost,
no record has two positions, positions have no gap and never change, records appended after an
acknowledgement have higher positions, and a former worker changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.postgres import journal as module
from opentrail.adapters.postgres.database import MAX_TRANSACTION_SECONDS
from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.adapters.postgres.source import PostgresJournalSource
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.adapters.sql.databases import Transaction
from opentrail.app.cluster.postgresql import Cluster
from opentrail.core.errors import LeaseLost, StoreUnreachable
from opentrail.core.event import NewEntry
from opentrail.ports.control import Put
from opentrail.ports.journal import KnownPositions
from opentrail.settings import Settings
from tests.factories import some_new_entries
from tests.fakes import TIMEOUT_SECONDS, SettableClock, turns
from tests.postgres import database_in, shared_server

T = TypeVar("T")

#: Long enough that a lease expires only when a step says so.
LEASE_SECONDS = 3_600.0
#: The first day of the journal: days before yesterday can be trimmed.
DAYS_AGO = timedelta(days=6)
NAMES = ("a", "b", "c")
NODES = st.sampled_from(NAMES)

pytestmark = [pytest.mark.anomaly, pytest.mark.hypothesis, pytest.mark.slow]


class Node:
    """A server's journal, and its part in the cluster."""

    def __init__(self, url: str, name: str, clock: SettableClock) -> None:
        self.name = name
        own = f"{url}&application_name={name}"
        self._control = SqlControl(own)
        shared = Settings(journal=own, control_store=own)
        self.cluster = Cluster(shared, self._control, name, SystemClock(), pytest.fail)
        self.journal = PostgresJournal(
            own,
            known=KnownPositions(),
            node=name,
            lease_seconds=LEASE_SECONDS,
            clock=clock,
            trim_limit=self.cluster.sealed_everywhere,
        )
        self._databases = (self.journal._inserts, self.journal._orders, self.journal._queries)
        self.is_paused = False
        #: The connection is lost after the next insert is committed, and before its answer.
        self.loses_next_answer = False
        self._run_insert = self.journal._inserts.run
        self.journal._inserts.run = self._insert  # type: ignore[method-assign]

    async def _insert(
        self, work: Callable[[Transaction], T], seconds: float = MAX_TRANSACTION_SECONDS
    ) -> T:
        done = await self._run_insert(work, seconds)
        if self.loses_next_answer:
            self.loses_next_answer = False
            raise StoreUnreachable("the answer was lost")
        return done

    async def pause(self) -> None:
        """Begins no further transaction."""
        for database in self._databases:
            await database._turn.acquire()
        self.is_paused = True

    def wake(self) -> None:
        for database in self._databases:
            database._turn.release()
        self.is_paused = False

    async def close(self) -> None:
        await self.journal.close()
        await self.cluster.close()
        await self._control.close()


@dataclass
class Call:
    """Records of one append by a node."""

    node: Node
    entries: list[NewEntry]
    #: Whether it is acknowledged before it has positions.
    is_written: bool
    #: Steps of the machine's clock.
    begun: int
    acknowledged: int | None = None
    task: asyncio.Task[None] | None = None


class ClusterOfNodes(RuleBasedStateMachine):
    """The steps, and the invariants after each."""

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.url = shared_server().new_database()
        self.clock = SettableClock(SystemClock().now() - DAYS_AGO)
        self.source = PostgresJournalSource(self.url)
        self.nodes = self._run(self._open_nodes)
        self.calls: list[Call] = []
        self.now = 0
        self.places: dict[str, int] = {}
        self.sealed: dict[str, int] = {}
        self.worker: str | None = None
        self.changes = 0

    async def _open_nodes(self) -> dict[str, Node]:
        return {name: Node(self.url, name, self.clock) for name in NAMES}

    def teardown(self) -> None:
        if not hasattr(self, "nodes"):
            return
        try:
            for node in self._paused():
                node.wake()
            self.finish()
            self.every_node_reads_the_same()
        finally:
            for node in self.nodes.values():
                self._run(node.close)
            self._run(self.source.close)
            self.runner.close()

    def _run(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs a step of a node; repeats it if connections were lost."""

        async def repeated() -> T:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while True:
                    try:
                        return await begin()
                    except StoreUnreachable:
                        continue

        return self.runner.run(repeated())

    def _tick(self) -> int:
        self.now += 1
        return self.now

    def _paused(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.is_paused]

    def _execute(self, statement: str) -> list[Any]:
        return shared_server().execute(database_in(self.url), statement)

    # Records.

    @rule(name=NODES, count=st.integers(1, 3), is_written=st.booleans())
    def append(self, name: str, count: int, is_written: bool) -> None:
        """A node begins to append; other steps happen before the acknowledgement."""
        node = self.nodes[name]
        entries = some_new_entries(count, 10 * len(self.calls) + 1)
        call = Call(node, entries, is_written, self._tick())
        self.calls.append(call)

        async def append() -> None:
            if is_written:
                await node.journal.write(entries)
            else:
                last = await node.journal.append(entries)
                for number, entry in enumerate(entries, last - count + 1):
                    assert self.places.setdefault(entry.event_id, number) == number
            call.acknowledged = self._tick()

        async def begin() -> None:
            call.task = asyncio.create_task(append())
            await turns()

        self._run(begin)

    @rule(name=NODES, count=st.integers(1, 3))
    def write(self, name: str, count: int) -> None:
        """A node makes records durable, perhaps without positions yet."""
        self.append(name, count, True)
        self._finish(are_written=True)

    @rule()
    def finish(self) -> None:
        """Every call of a running node is acknowledged, once its leases have expired."""
        for node in self._paused():
            self._expire(f"holder = '{node.name}'")
        self._finish(are_written=False)

    def _finish(self, are_written: bool) -> None:
        tasks = [
            call.task
            for call in self.calls
            if call.task and not call.node.is_paused and (call.is_written or not are_written)
        ]
        if tasks:
            self._run(lambda: _all(tasks))

    @rule(name=NODES)
    def lose_connections(self, name: str) -> None:
        self._execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity"  # noqa: S608 - ours
            f" WHERE datname = current_database() AND application_name = '{name}'"
        )

    @rule(name=NODES)
    def lose_next_answer(self, name: str) -> None:
        self.nodes[name].loses_next_answer = True

    @precondition(lambda self: len(self._paused()) < len(NAMES) - 1)
    @rule(name=NODES)
    def pause(self, name: str) -> None:
        if not self.nodes[name].is_paused:
            self._run(self.nodes[name].pause)

    @rule()
    def write_without_sequencer(self) -> None:
        """Nodes write, one after the other, before any of these records gets a position."""
        with psycopg.connect(self.url) as connection:
            connection.execute("SELECT * FROM opentrail.lease FOR UPDATE")
            for node in self.nodes.values():
                if not node.is_paused:
                    self.write(node.name, 1)

    @precondition(lambda self: self._paused())
    @rule(data=st.data(), is_late=st.booleans())
    def wake(self, data: st.DataObject, is_late: bool) -> None:
        """A node resumes; if it `is_late`, its pause was longer than its leases."""
        node = data.draw(st.sampled_from(self._paused()))
        if is_late:
            self.finish()
        node.wake()

    def _expire(self, which: str) -> None:
        self._execute(f"UPDATE opentrail.lease SET until = '-infinity' WHERE {which}")  # noqa: S608

    @precondition(lambda self: self.clock.now() < SystemClock().now() - timedelta(days=1))
    @rule()
    def begin_next_day(self) -> None:
        self.clock.advance(timedelta(days=1).total_seconds())

    # The worker, and trimming.

    @rule(name=NODES)
    def become_worker(self, name: str) -> None:
        """The old worker does not know it yet."""
        self._expire("name = 'worker'")
        cluster = self.nodes[name].cluster
        cluster.worker_control.lease = self._run(lambda: cluster._leases.acquire("worker", name))
        assert cluster.worker_control.lease is not None
        self.worker = name

    @rule(name=NODES)
    def change_document(self, name: str) -> None:
        control = self.nodes[name].cluster.worker_control
        before = self._run(lambda: control.get("trail", "x"))
        self.changes += 1
        change = Put("trail", "x", {"change": self.changes})
        if name == self.worker:
            self._run(lambda: control.apply([change]))
            after = self._run(lambda: control.get("trail", "x"))
            assert after is not None
            assert after.document == change.document
        else:
            with pytest.raises(LeaseLost):
                self._run(lambda: control.apply([change]))
            assert self._run(lambda: control.get("trail", "x")) == before

    @rule(name=NODES)
    def seal(self, name: str) -> None:
        """A node notes that its event history covers its whole known journal."""
        node = self.nodes[name]
        if not node.is_paused:
            self.sealed[name] = node.journal.head
            self._run(lambda: node.cluster.heartbeat("http://localhost", self.sealed[name]))

    @rule(name=NODES)
    def trim(self, name: str) -> None:
        node = self.nodes[name]
        if node.is_paused:
            return
        if name == self.worker:
            self._run(lambda: node.journal.trim(node.journal.head))
        else:
            before = self._trimmed()
            with pytest.raises(LeaseLost):
                self._run(lambda: node.journal.trim(node.journal.head))
            assert self._trimmed() == before

    def _trimmed(self) -> int:
        ((trimmed,),) = self._execute("SELECT trimmed FROM opentrail.journal")
        return int(trimmed)

    # The invariants.

    @invariant()
    def the_journal_is_whole(self) -> None:
        if not hasattr(self, "nodes"):
            return
        found = dict(self._entries())
        # By now there may be later ones.
        trimmed = self._trimmed()
        assert trimmed <= min(self.sealed.values(), default=0)
        assert list(found) == list(range(trimmed + 1, trimmed + 1 + len(found)))
        assert len(set(found.values())) == len(found)
        for position, event_id in found.items():
            assert self.places.setdefault(event_id, position) == position
        self._require_order()

    def _entries(self) -> Iterator[tuple[int, str]]:
        """Yields positions and event ids, after verifying their chain."""
        for part in self.source.read_range(1, 2**62):
            for entry in part:
                yield entry.position, entry.event_id

    def _require_order(self) -> None:
        """Records acknowledged before a call began have lower positions than its records."""
        for later in self.calls:
            first = self.places.get(later.entries[0].event_id)
            for call in self.calls:
                if first and call.acknowledged and call.acknowledged < later.begun:
                    assert self.places[call.entries[-1].event_id] < first

    def every_node_reads_the_same(self) -> None:
        heads = [self._run(node.journal.newest) for node in self.nodes.values()]
        self.the_journal_is_whole()
        appended = [entry.event_id for call in self.calls for entry in call.entries]
        assert all(call.acknowledged for call in self.calls)
        assert set(self.places) == set(appended)
        assert sorted(self.places.values()) == list(range(1, len(appended) + 1))
        assert heads == [len(appended)] * len(NAMES)
        for call in self.calls:
            places = [self.places[entry.event_id] for entry in call.entries]
            assert places == list(range(places[0], places[0] + len(places)))
        left = dict(self._entries())
        for node in self.nodes.values():
            entries = self._run(partial(node.journal.read, self._trimmed(), 1_000))
            assert {entry.position: entry.event_id for entry in entries} == left
            assert node.journal.lost == []


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


def test_cluster_keeps_every_record_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_ATTEMPT_SECONDS", "_REPEAT_SECONDS", "_ORDER_POLL_SECONDS"):
        monkeypatch.setattr(module, name, 0.01)
    run_state_machine_as_test(
        ClusterOfNodes,
        settings=settings(
            max_examples=12,
            stateful_step_count=30,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each example takes a database
            suppress_health_check=list(HealthCheck),
        ),
    )
