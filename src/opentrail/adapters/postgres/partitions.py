"""Partitions of the batches: one for each day (UTC), by the time in their ids."""

from __future__ import annotations

from datetime import date, timedelta

from opentrail.adapters.databases import Transaction
from opentrail.adapters.postgres.batches import first_id_of

_PREFIX = "batch_"
#: Key of the advisory lock that is held while a partition is created.
_LOCK = 0x6F70656E7470
#: Milliseconds that dropping a partition waits for others that read or write the table.
_LOCK_MILLISECONDS = 2_000
#: Days after its own in which a partition may still get batches, which were sent again or come
#: from a machine whose clock is behind.
_GRACE_DAYS = 1
_EXISTS = "SELECT 1 FROM pg_tables WHERE schemaname = 'opentrail' AND tablename = ?"
_NAMES = (
    "SELECT tablename FROM pg_tables WHERE schemaname = 'opentrail'"
    " AND tablename ~ '^batch_[0-9]{8}$' ORDER BY tablename"
)
_TODAY = "SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date"
#: By the indexes of both kinds of batches.
_LAST = (
    "SELECT first + count - 1 FROM opentrail.{name} WHERE first IS NOT NULL"
    " ORDER BY first DESC LIMIT 1"
)
_UNORDERED = "SELECT 1 FROM opentrail.{name} WHERE first IS NULL LIMIT 1"
_TRIMMED = "UPDATE opentrail.journal SET trimmed = greatest(trimmed, ?)"


def create_partitions(transaction: Transaction, day: date) -> None:
    """Creates the partitions of a day and the next one, unless they are there.

    That locks the table for a moment; the next day's is created early, while nothing waits for it.
    """
    for begin in (day, day + timedelta(days=1)):
        if transaction.rows(_EXISTS, [_name(begin)]):
            continue
        transaction.rows("SELECT pg_advisory_xact_lock(?)", [_LOCK])
        if not transaction.rows(_EXISTS, [_name(begin)]):
            bounds = (first_id_of(begin), first_id_of(begin + timedelta(days=1)))
            transaction.change(
                f"CREATE TABLE opentrail.{_name(begin)} PARTITION OF opentrail.batch"
                f" FOR VALUES FROM ('{bounds[0]}') TO ('{bounds[1]}')"
            )


def drop_oldest_partition(transaction: Transaction, until: int, keep: int) -> bool:
    """Drops the oldest partition if all its batches end at `until` at most; returns whether it did.

    Args:
        transaction: a transaction that does nothing else.
        until: the last position that is not needed.
        keep: number of newest partitions that are never dropped.
    """
    names = [name for (name,) in transaction.rows(_NAMES)]
    ((today,),) = transaction.rows(_TODAY)
    oldest = next(iter(names), None)
    if oldest is None or len(names) <= keep or oldest >= _name(today - timedelta(_GRACE_DAYS)):
        return False
    if _last_of(transaction, oldest) > until:
        return False
    transaction.change(f"SET LOCAL lock_timeout = {_LOCK_MILLISECONDS}")
    # First the table, as readers do: the other order is a deadlock with each of them.
    transaction.change("LOCK TABLE ONLY opentrail.batch IN ACCESS EXCLUSIVE MODE")
    transaction.change(f"LOCK TABLE opentrail.{oldest} IN ACCESS EXCLUSIVE MODE")
    last = _last_of(transaction, oldest)
    if transaction.rows(_UNORDERED.format(name=oldest)) or last > until:
        return False
    # Batches of the next partition may have lower positions than the last one here: they are read
    # from the archive, too.
    transaction.change(_TRIMMED, [last])
    transaction.change(f"DROP TABLE opentrail.{oldest}")
    return True


def _last_of(transaction: Transaction, name: str) -> int:
    """Returns the last position in a partition; 0 if it has none."""
    rows = transaction.rows(_LAST.format(name=name))
    return int(rows[0][0]) if rows else 0


def _name(day: date) -> str:
    return f"{_PREFIX}{day:%Y%m%d}"
