"""Moves a journal from files into an empty one on PostgreSQL, with its positions and its chain."""

from __future__ import annotations

from functools import partial

from opentrail.adapters.databases import Transaction
from opentrail.adapters.postgres.batches import create_partitions, encode, new_batch_id
from opentrail.adapters.postgres.database import SharedDatabase
from opentrail.adapters.postgres.schema import create_tables
from opentrail.adapters.system import SystemClock
from opentrail.core.errors import StorageFailed, UsageError
from opentrail.ports.journal import UNKNOWN_CHAIN, JournalSource

#: Maximum seconds that a move takes.
_MOVE_SECONDS = 3_600.0
#: Maximum records of a batch.
_RECORDS = 2_000
_HEAD = "SELECT position FROM opentrail.journal FOR UPDATE"
_ANY_BATCH = "SELECT 1 FROM opentrail.batch LIMIT 1"
_INSERT = (
    "INSERT INTO opentrail.batch (id, node, count, body, first, chain_before, chain, epoch)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_SET_HEAD = "UPDATE opentrail.journal SET position = ?, chain = ?, trimmed = ?"
#: Who has written the batches, and its epoch, before any sequencer.
_NODE, _EPOCH = "restore", 0


async def restore_journal(url: str, source: JournalSource, last: int) -> None:
    """Writes all that a journal has into an empty one, in one transaction.

    Args:
        url: `postgresql://USER:PASSWORD@HOST/DATABASE`.
        source: the journal, which no server uses.
        last: its last position.

    Raises:
        UsageError: the journal on PostgreSQL is not empty, the URL is not valid, or PostgreSQL's
            driver is not installed.
        StorageFailed: the journal has lost positions, or something cannot be read or written.
    """
    first = source.first_position()
    if lost := source.lost_between(first, last):
        raise StorageFailed(
            f"the journal has lost positions {lost[0].first} to {lost[0].last}: restore it into "
            "files, start a server until event history has sealed what follows, and back it up "
            "again"
        )
    database = SharedDatabase(url)
    try:
        await database.run(create_tables)
        fill = partial(_fill, source=source, first=first, last=last)
        await database.run(fill, _MOVE_SECONDS)
    finally:
        await database.close()


def _fill(transaction: Transaction, source: JournalSource, first: int, last: int) -> None:
    ((position,),) = transaction.rows(_HEAD)
    if position or transaction.rows(_ANY_BATCH):
        raise UsageError("the journal on PostgreSQL is not empty")
    now = SystemClock().now()
    create_partitions(transaction, now.date())
    chain = source.chain_before(first) or UNKNOWN_CHAIN
    position = first - 1
    for entries in source.read_range(first, last, _RECORDS):
        before, chain, position = chain, entries[-1].chain, entries[-1].position
        batch = [new_batch_id(now), _NODE, len(entries), encode(entries)]
        transaction.change(_INSERT, [*batch, entries[0].position, before, chain, _EPOCH])
    if position != last:
        raise StorageFailed(f"the journal ends at position {position}, not at {last}")
    transaction.change(_SET_HEAD, [position, chain, first - 1])
