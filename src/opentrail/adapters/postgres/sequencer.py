"""The sequencer: assigns positions and chain to batches, on one machine at a time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from uuid import UUID

from opentrail.adapters.postgres.batches import chain_after, records_of
from opentrail.adapters.postgres.database import PostgresLeases, SharedDatabase
from opentrail.adapters.postgres.schema import LOSE
from opentrail.adapters.sql.databases import Transaction
from opentrail.core.errors import LeaseLost
from opentrail.ports.control import Lease
from opentrail.ports.journal import RESTORED, UNKNOWN_CHAIN

#: The lease of the sequencer.
LEASE = "sequencer"
#: Channel that notifies the followers of the journal.
CHANNEL = "opentrail_journal"
#: Maximum batches per transaction.
_MAX_BATCHES = 32
#: Maximum bytes of their bodies, to limit a transaction's time; a single batch may exceed it.
_MAX_BYTES = 32 * 1024 * 1024
_HAS_UNORDERED = "SELECT 1 FROM opentrail.batch WHERE first IS NULL LIMIT 1"
#: The oldest batches: every batch with fewer bytes before it than the maximum.
_UNORDERED = f"""
    SELECT id, count, body FROM (
        SELECT *, sum(octet_length(body)) OVER (ORDER BY n) - octet_length(body) AS bytes_before
        FROM (
            SELECT id, n, count, body FROM opentrail.batch WHERE first IS NULL
            ORDER BY n LIMIT {_MAX_BATCHES}
        ) AS oldest
    ) AS summed WHERE bytes_before < ? ORDER BY n
"""  # noqa: S608 - a number
#: Position, chain, and the last position lost with a backup.
_HEAD = (
    "SELECT position, chain, (SELECT max(last) FROM opentrail.lost WHERE reason = ?)"
    " FROM opentrail.journal FOR UPDATE"
)
#: Seconds for each server to report its last position of a restored, older journal before others
#: get positions: each server checks every second.
_RESTORED_SECONDS = 3.0
_LOSE_MORE = "UPDATE opentrail.lost SET last = ? WHERE last = ? AND reason = ?"
_PLACE = """
    UPDATE opentrail.batch SET first = placed.first, chain_before = placed.chain_before,
    chain = placed.chain, epoch = placed.epoch
    FROM unnest(?::bigint[], ?::bytea[], ?::bytea[], ?::bigint[], ?::uuid[])
    AS placed (first, chain_before, chain, epoch, id) WHERE batch.id = placed.id
"""
_MOVE_HEAD = "UPDATE opentrail.journal SET position = ?, chain = ?"
_NOTIFY = f"SELECT pg_notify('{CHANNEL}', '')"


@dataclass(frozen=True, slots=True)
class Ordered:
    """The last position of the journal, and the first positions of ordered batches."""

    head: int
    chain: bytes
    places: dict[UUID, int]


def continue_after(transaction: Transaction, position: int) -> tuple[int, bytes, bool]:
    """Returns the last position, its chain, and whether it was lost with a backup.

    It is at least the last position known to be written. Positions up to it that the journal does
    not have are lost, as after PostgreSQL was restored from a backup, or after a standby without
    the last commits was promoted. So no position is assigned twice.
    """
    head: int
    chain: bytes
    ((head, chain, restored),) = transaction.rows(_HEAD, [RESTORED])
    if position <= head:
        return head, chain, restored == head
    # Successive losses that servers report are one range.
    if not transaction.change(_LOSE_MORE, [position, head, RESTORED]):
        transaction.change(LOSE, [head + 1, position, RESTORED])
    transaction.change(_MOVE_HEAD, [position, UNKNOWN_CHAIN])
    return position, UNKNOWN_CHAIN, True


def _has_unordered(transaction: Transaction) -> bool:
    return bool(transaction.rows(_HAS_UNORDERED))


class Sequencer:
    """Orders batches while this process holds the lease.

    Args:
        database: a dedicated connection.
        leases: leases in the same database.
        holder: this process's name among the candidates for the lease.
    """

    def __init__(self, database: SharedDatabase, leases: PostgresLeases, holder: str) -> None:
        self._database = database
        self._leases = leases
        self._holder = holder
        self._lease: Lease | None = None
        #: Time of the last extension of the lease (loop time).
        self._extended_at = 0.0
        #: The last position, lost with a backup, and the time of that discovery.
        self._restored: tuple[int, float] | None = None

    @property
    def is_holder(self) -> bool:
        """Whether this process takes itself for the holder."""
        return self._lease is not None

    async def order(self, head: int) -> Ordered | None:
        """Orders the oldest batches; returns None without any, or if another process orders them.

        Args:
            head: the last known position.

        Raises:
            StorageFailed: PostgreSQL failed or does not answer.
        """
        lease = self._lease
        if lease is None:
            lease = self._lease = await self._leases.acquire(LEASE, self._holder)
        if lease is None:
            return None
        now = asyncio.get_running_loop().time()
        is_due = now - self._extended_at > self._leases.seconds / 3
        # In a separate transaction: while a transaction that has read batches waits for the lease,
        # no partition can be created, and no record of a new day inserted.
        if not is_due and not await self._database.run(_has_unordered):
            return None
        try:
            ordered = await self._database.run(
                lambda transaction: self._order(transaction, lease, head)
            )
        except LeaseLost:
            self._lease = None
            return None
        if is_due or ordered:
            self._extended_at = now
        return ordered

    def _order(self, transaction: Transaction, lease: Lease, head: int) -> Ordered | None:
        """Orders batches in a transaction, whose first statement locks the lease with its epoch."""
        self._leases.fence(transaction, lease)
        # A batch acknowledged before another call began has a lower number `n` than that call's
        # batch, and is visible here if that batch is.
        rows = transaction.rows(_UNORDERED, [_MAX_BYTES])
        if not rows:
            return None
        position, chain, is_restored = continue_after(transaction, head)
        if is_restored and not self._is_settled(position):
            return None
        places: dict[UUID, int] = {}
        updates = []
        for batch_id, count, body in rows:
            before = chain
            try:
                chain = chain_after(chain, records_of(body))
            except ValueError:
                reason = f"batch {batch_id} was damaged before it had a position"
                transaction.change(LOSE, [position + 1, position + count, reason])
                chain = UNKNOWN_CHAIN
            places[batch_id] = position + 1
            updates.append((position + 1, before, chain, lease.epoch, batch_id))
            position += count
        transaction.change_each(_PLACE, updates)
        transaction.change(_MOVE_HEAD, [position, chain])
        transaction.rows(_NOTIFY)
        return Ordered(position, chain, places)

    def _is_settled(self, lost: int) -> bool:
        """Returns whether the last position has been the same, and lost, for long enough."""
        now = time.monotonic()
        if self._restored is None or self._restored[0] != lost:
            self._restored = lost, now
        return now - self._restored[1] >= _RESTORED_SECONDS

    async def close(self) -> None:
        """Releases the lease, so that another process can continue immediately."""
        if self._lease is not None:
            await self._leases.release(self._lease)
            self._lease = None
