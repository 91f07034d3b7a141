"""Append, sequence and lease as a state machine: in a model in memory, and on PostgreSQL.

Recorders insert batches, whose inserts become visible in any order and may be repeated; nodes
order them under a lease that may expire while its holder sleeps. Whatever the order of the steps:
no acknowledged batch is lost or doubled, positions have no gap and never change, a batch
acknowledged before another one began comes first, and a fenced node changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

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
from opentrail.adapters.postgres.batches import (
    chain_after,
    create_partitions,
    encode,
    insert_batch,
    new_batch_id,
)
from opentrail.adapters.postgres.database import PostgresLeases, SharedDatabase
from opentrail.adapters.postgres.schema import create_tables
from opentrail.adapters.postgres.sequencer import LEASE, Sequencer
from opentrail.adapters.postgres.source import PostgresJournalSource
from opentrail.adapters.sql.databases import Transaction
from opentrail.core.errors import LeaseLost
from opentrail.core.event import NewEntry
from opentrail.ports.control import Lease
from tests.factories import some_new_entries
from tests.fakes import GENESIS, MemoryLeases
from tests.postgres import shared_server

#: Long enough that a lease expires only when a step says so.
SECONDS = 3_600.0
NODES = st.sampled_from("ab")


@dataclass
class Row:
    """A visible batch."""

    batch_id: UUID
    n: int
    records: list[bytes]
    first: int | None = None
    chain: bytes = b""
    epoch: int | None = None


class Engine(Protocol):
    """Batches and the lease; a holder names each node."""

    def begin(self, batch_id: UUID, entries: Sequence[NewEntry]) -> None:
        """Begins the transaction of an insert, which gets its number."""
        ...

    def commit(self, batch_id: UUID) -> None:
        """Makes the insert visible and durable."""
        ...

    def abort(self, batch_id: UUID) -> None:
        """Undoes the insert, like a lost connection."""
        ...

    def order(self, holder: str) -> bool:
        """Lets a node order visible batches; returns whether it ordered any."""
        ...

    def expire(self) -> None:
        """Lets the lease expire."""
        ...

    def lease(self) -> tuple[Lease | None, bool]:
        """Returns the newest lease, and whether it has expired."""
        ...

    def rows(self) -> list[Row]:
        """Returns the visible batches, without their records, by position and number."""
        ...

    def chain(self, head: int) -> bytes:
        """Returns the chain at the last position, after verifying everything."""
        ...

    def close(self) -> None: ...


class MemoryEngine:
    """The protocol in a few lines."""

    def __init__(self) -> None:
        self._leases = MemoryLeases(SECONDS)
        self._held: dict[str, Lease] = {}
        self._rows: dict[UUID, Row] = {}
        self._open: dict[UUID, Row] = {}
        self._n = 0

    def begin(self, batch_id: UUID, entries: Sequence[NewEntry]) -> None:
        self._n += 1
        self._open[batch_id] = Row(batch_id, self._n, [entry.record for entry in entries])

    def commit(self, batch_id: UUID) -> None:
        self._rows.setdefault(batch_id, self._open.pop(batch_id))

    def abort(self, batch_id: UUID) -> None:
        del self._open[batch_id]

    def order(self, holder: str) -> bool:
        with asyncio.Runner() as runner:
            lease = self._held.get(holder) or runner.run(self._leases.acquire(LEASE, holder))
        if lease is None:
            return False
        self._held[holder] = lease
        try:
            self._leases.fence(lease)
        except LeaseLost:
            del self._held[holder]
            return False
        unordered = sorted((r for r in self._rows.values() if r.first is None), key=lambda r: r.n)
        for row in unordered:
            placed = [r for r in self._rows.values() if r.first is not None]
            last = max(placed, key=lambda r: r.first or 0, default=None)
            row.first = (last.first or 0) + len(last.records) if last else 1
            row.chain = chain_after(last.chain if last else GENESIS, row.records)
            row.epoch = lease.epoch
        return bool(unordered)

    def expire(self) -> None:
        self._leases.expire(LEASE)

    def lease(self) -> tuple[Lease | None, bool]:
        return self._leases.current(LEASE)

    def rows(self) -> list[Row]:
        return list(self._rows.values())

    def chain(self, head: int) -> bytes:
        return max(self._rows.values(), key=lambda row: row.first or 0).chain

    def close(self) -> None:
        pass


class PostgresEngine:
    """The real tables and the real sequencer; each open insert has its connection."""

    def __init__(self) -> None:
        self._url = shared_server().new_database()
        self._database = SharedDatabase(self._url)
        self._database.run_blocking(create_tables)
        today = SystemClock().now().date()
        self._database.run_blocking(lambda transaction: create_partitions(transaction, today))
        self._runner = asyncio.Runner()
        self._nodes: dict[str, tuple[SharedDatabase, Sequencer]] = {}
        self._open: dict[UUID, Any] = {}

    def begin(self, batch_id: UUID, entries: Sequence[NewEntry]) -> None:
        import psycopg

        connection = self._open[batch_id] = psycopg.connect(self._url)
        transaction = Transaction(connection.cursor(), "postgresql")
        insert_batch(transaction, batch_id, "x", len(entries), encode(entries))

    def commit(self, batch_id: UUID) -> None:
        connection = self._open.pop(batch_id)
        connection.commit()
        connection.close()

    def abort(self, batch_id: UUID) -> None:
        self._open.pop(batch_id).close()

    def order(self, holder: str) -> bool:
        if holder not in self._nodes:
            database = SharedDatabase(self._url)
            leases = PostgresLeases(database, SECONDS)
            self._nodes[holder] = database, Sequencer(database, leases, holder)
        return self._runner.run(self._nodes[holder][1].order(0)) is not None

    def expire(self) -> None:
        self._execute("UPDATE opentrail.lease SET until = '-infinity'")

    def lease(self) -> tuple[Lease | None, bool]:
        rows = self._execute(
            "SELECT holder, epoch, until <= clock_timestamp() FROM opentrail.lease"
        )
        return (Lease(LEASE, *rows[0][:2]), rows[0][2]) if rows else (None, True)

    def rows(self) -> list[Row]:
        columns = "id, n, count, first, chain, epoch"
        rows = self._execute(f"SELECT {columns} FROM opentrail.batch")
        return [
            Row(batch_id, n, [b""] * count, first, chain or b"", epoch)
            for batch_id, n, count, first, chain, epoch in rows
        ]

    def chain(self, head: int) -> bytes:
        source = PostgresJournalSource(self._url)
        entries = [entry for part in source.read_range(1, head) for entry in part]
        self._runner.run(source.close())
        assert [entry.position for entry in entries] == list(range(1, head + 1))
        return entries[-1].chain

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()
        for database, _ in self._nodes.values():
            self._runner.run(database.close())
        self._runner.run(self._database.close())
        self._runner.close()

    def _execute(self, statement: str) -> list[Any]:
        return self._database.run_blocking(
            lambda transaction: (
                transaction.rows(statement)
                if statement.startswith("SELECT")
                else [transaction.change(statement)]
            )
        )


class OrderedBatches(RuleBasedStateMachine):
    """The steps, and the invariants after each."""

    make: type[MemoryEngine | PostgresEngine]

    @initialize()
    def open(self) -> None:
        self.engine: Engine = self.make()
        self.now = 0
        self.entries: dict[UUID, list[NewEntry]] = {}
        #: When the first attempt of a batch began, and when a batch was acknowledged.
        self.begun: dict[UUID, int] = {}
        self.acknowledged: dict[UUID, int] = {}
        self.in_progress: list[UUID] = []
        self.given_up: list[UUID] = []
        self.places: dict[UUID, int] = {}

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        try:
            self._finish()
        finally:
            self.engine.close()

    def _finish(self) -> None:
        """After all steps, another node orders the rest, and everything is verified."""
        self.engine.expire()
        while self.engine.order("last"):
            pass
        self.positions_have_no_gap_and_never_change()
        self.what_was_acknowledged_before_comes_first()
        assert set(self.acknowledged) == set(self.places)
        if self.places:
            in_order = sorted(self.places, key=lambda batch_id: self.places[batch_id])
            records = [entry.record for batch_id in in_order for entry in self.entries[batch_id]]
            assert self.engine.chain(len(records)) == chain_after(GENESIS, records)

    def _tick(self) -> int:
        self.now += 1
        return self.now

    @rule(count=st.integers(1, 3))
    def begin(self, count: int) -> None:
        batch_id = new_batch_id(SystemClock().now())
        self.entries[batch_id] = some_new_entries(count, 10 * len(self.entries) + 1)
        self.begun[batch_id] = self._tick()
        self.engine.begin(batch_id, self.entries[batch_id])
        self.in_progress.append(batch_id)

    @precondition(lambda self: self.in_progress)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        batch_id = data.draw(st.sampled_from(self.in_progress))
        self.in_progress.remove(batch_id)
        self.engine.commit(batch_id)
        self.acknowledged[batch_id] = self._tick()

    @precondition(lambda self: self.in_progress)
    @rule(data=st.data())
    def lose_the_connection(self, data: st.DataObject) -> None:
        batch_id = data.draw(st.sampled_from(self.in_progress))
        self.in_progress.remove(batch_id)
        self.engine.abort(batch_id)
        self.given_up.append(batch_id)

    @precondition(lambda self: self.given_up or self.acknowledged)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """The connection was lost before the commit, or between it and its answer."""
        batch_id = data.draw(st.sampled_from([*self.given_up, *self.acknowledged]))
        if batch_id in self.given_up:
            self.given_up.remove(batch_id)
        self.engine.begin(batch_id, self.entries[batch_id])
        self.engine.commit(batch_id)
        self.acknowledged.setdefault(batch_id, self._tick())

    @rule(holder=NODES)
    def order(self, holder: str) -> None:
        before, is_expired = self.engine.lease()
        unordered = {row.batch_id for row in self.engine.rows() if row.first is None}
        has_ordered = self.engine.order(holder)
        after, _ = self.engine.lease()
        new = [row for row in self.engine.rows() if row.first and row.batch_id in unordered]
        assert bool(new) == has_ordered
        if before is not None and before.holder != holder and not is_expired:
            assert not has_ordered
            assert after == before
        for row in new:
            assert after is not None
            assert (after.holder, after.epoch) == (holder, row.epoch)

    @rule(holder=NODES)
    def take_over(self, holder: str) -> None:
        """The holder sleeps for longer than its lease; it may resume later."""
        self.engine.expire()
        self.order(holder)

    @invariant()
    def positions_have_no_gap_and_never_change(self) -> None:
        if not hasattr(self, "engine"):
            return
        rows = self.engine.rows()
        assert len({row.batch_id for row in rows}) == len(rows)
        placed = sorted((row.first, row) for row in rows if row.first is not None)
        following, epoch = 1, 0
        for first, row in placed:
            assert first == following
            assert self.places.setdefault(row.batch_id, first) == first
            assert row.epoch is not None
            assert row.epoch >= epoch
            following, epoch = first + len(row.records), row.epoch
        assert set(self.places) == {row.batch_id for _, row in placed}

    @invariant()
    def what_was_acknowledged_before_comes_first(self) -> None:
        if not hasattr(self, "engine"):
            return
        for later, place in self.places.items():
            for earlier, moment in self.acknowledged.items():
                if moment < self.begun[later]:
                    assert earlier in self.places
                    assert self.places[earlier] < place


class InMemory(OrderedBatches):
    make = MemoryEngine


class OnPostgresql(OrderedBatches):
    make = PostgresEngine


@pytest.mark.slow
@pytest.mark.hypothesis
def test_the_protocol_holds_in_memory() -> None:
    run_state_machine_as_test(InMemory, settings=settings(max_examples=60, deadline=None))


@pytest.mark.campaign
@pytest.mark.hypothesis
@pytest.mark.slow
def test_the_protocol_holds_on_postgresql() -> None:
    run_state_machine_as_test(
        OnPostgresql,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each example takes a database
            suppress_health_check=list(HealthCheck),
        ),
    )
