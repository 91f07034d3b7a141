"""Batches of records: their ids, storage and chain, and a partition for each day."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

import msgspec

from opentrail.adapters.entry_check import agrees
from opentrail.adapters.sql.databases import Transaction
from opentrail.core.errors import DataTooNew, JournalDamaged
from opentrail.core.event import Entry, NewEntry, from_micros, micros

#: The first byte of a body: a MessagePack array of `_Row` follows.
_FORMAT = b"\x01"
#: First bytes reserved for newer versions. Any other byte is damage.
_NEXT_FORMAT = b"\x02"
#: Origin, microseconds since 1970, account, Region, category, event id and record.
_Row = tuple[str, int, str, str, str, str, bytes]
_ROWS = msgspec.msgpack.Decoder(list[_Row])
_INSERT = (
    "INSERT INTO opentrail.batch (id, node, count, body) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET node = excluded.node"
)
#: Bits of a UUID after its 48 bits of time.
_BITS_AFTER_TIME = 80


@dataclass(frozen=True, slots=True)
class Batch:
    """An ordered batch: a row of its table."""

    first: int
    count: int
    chain_before: bytes
    chain: bytes
    body: bytes

    @property
    def last(self) -> int:
        """The position of the last record."""
        return self.first + self.count - 1


def new_batch_id(now: datetime) -> UUID:
    """Returns a UUID of version 7, which begins with the time and so decides the partition."""
    time = micros(now) // 1000 << _BITS_AFTER_TIME
    random = secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return UUID(int=time | 7 << 76 | random)


def first_id_of(day: date) -> UUID:
    """Returns the lower bound of the batch ids of a day."""
    moment = datetime.fromisoformat(f"{day.isoformat()}T00:00:00+00:00")
    return UUID(int=micros(moment) // 1000 << _BITS_AFTER_TIME)


def day_of(batch_id: UUID) -> date:
    """Returns the day (UTC) of a batch's partition."""
    return from_micros((batch_id.int >> _BITS_AFTER_TIME) * 1000).date()


def insert_batch(
    transaction: Transaction, batch_id: UUID, node: str, count: int, body: bytes
) -> None:
    """Inserts a batch, unless it exists: then the first attempt was, or is now, durable.

    A repeated insert also writes something: PostgreSQL does not wait for standbys to commit an
    empty transaction, and the first attempt may not have reached them.
    """
    transaction.change(_INSERT, [batch_id, node, count, body])


def encode(entries: Sequence[NewEntry] | Sequence[Entry]) -> bytes:
    """Returns the body of a batch."""
    rows: list[_Row] = [
        (
            entry.origin,
            micros(entry.recorded_at),
            entry.account,
            entry.region,
            entry.category,
            entry.event_id,
            entry.record,
        )
        for entry in entries
    ]
    return _FORMAT + msgspec.msgpack.encode(rows)


def records_of(body: bytes) -> list[bytes]:
    """Returns the records of a batch.

    Raises:
        ValueError: the body is invalid.
        DataTooNew: a newer version wrote it.
    """
    return [row[-1] for row in _rows(body)]


def chain_after(chain: bytes, records: Sequence[bytes]) -> bytes:
    """Returns the chain after these records."""
    for record in records:
        chain = hashlib.sha256(chain + record).digest()
    return chain


def entries_of(batch: Batch) -> list[Entry]:
    """Returns the entries of a batch.

    Raises:
        JournalDamaged: they are damaged.
        DataTooNew: a newer version wrote them.
    """
    try:
        rows = _rows(batch.body)
    except ValueError as error:
        raise damaged(batch.first, "is in an altered batch") from error
    position, chain = batch.first - 1, batch.chain_before
    entries = []
    for origin, recorded_at, account, region, category, event_id, record in rows:
        position += 1
        chain = hashlib.sha256(chain + record).digest()
        try:
            moment = from_micros(recorded_at)
        except OverflowError as error:
            raise damaged(position, "was altered") from error
        entry = Entry(position, origin, moment, account, region, category, event_id, chain, record)
        if not agrees(entry):
            raise damaged(position, "disagrees with its record")
        entries.append(entry)
    if position != batch.last or chain != batch.chain:
        raise damaged(batch.first, "is in an altered batch")
    return entries


def damaged(position: int, problem: str) -> JournalDamaged:
    """Returns the error for a damaged position."""
    return JournalDamaged(f"journal on PostgreSQL: position {position} {problem}", position)


def _rows(body: bytes) -> list[_Row]:
    if body[:1] == _NEXT_FORMAT:
        raise DataTooNew("the journal has batches of a newer version; upgrade opentrail")
    if body[:1] != _FORMAT:
        raise ValueError("this is not the body of a batch")
    return _ROWS.decode(memoryview(body)[1:])


_PREFIX = "batch_"
#: Key of the advisory lock held during the creation of a partition.
_LOCK = 0x6F70656E7470
#: Milliseconds that dropping a partition waits for readers and writers of the table.
_LOCK_MILLISECONDS = 2_000
#: Days after its own in which a partition may still get batches: repeated ones, or from a machine
#: with a slow clock.
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
    """Creates the partitions of a day and the next one, unless they exist.

    That locks the table briefly; the next day's is created early, while nothing waits for it.
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
        transaction: a transaction for this alone.
        until: the last position no longer needed.
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
    # First the table, like readers: the opposite order deadlocks with them.
    transaction.change("LOCK TABLE ONLY opentrail.batch IN ACCESS EXCLUSIVE MODE")
    transaction.change(f"LOCK TABLE opentrail.{oldest} IN ACCESS EXCLUSIVE MODE")
    last = _last_of(transaction, oldest)
    if transaction.rows(_UNORDERED.format(name=oldest)) or last > until:
        return False
    # Batches of the next partition may have lower positions than the last one here: readers
    # find them in the archive.
    transaction.change(_TRIMMED, [last])
    transaction.change(f"DROP TABLE opentrail.{oldest}")
    return True


def _last_of(transaction: Transaction, name: str) -> int:
    """Returns the last position in a partition; 0 without one."""
    rows = transaction.rows(_LAST.format(name=name))
    return int(rows[0][0]) if rows else 0


def _name(day: date) -> str:
    return f"{_PREFIX}{day:%Y%m%d}"
