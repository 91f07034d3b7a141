"""The journal on PostgreSQL, for its followers and child processes."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from opentrail.adapters.postgres.batches import Batch, damaged, entries_of
from opentrail.adapters.postgres.database import SharedDatabase, split_password
from opentrail.adapters.sql.databases import Transaction
from opentrail.core.errors import JournalDamaged, StorageFailed
from opentrail.core.event import Entry
from opentrail.ports.journal import (
    RESTORED,
    UNKNOWN_CHAIN,
    LostPositions,
    first_not_lost,
    lost_between,
)

#: Positions to search for an event id per statement, whose time is limited.
_SEARCHED_POSITIONS = 50_000
#: A position beyond any journal.
_END = 2**62
_EXTENT = "SELECT position, chain, trimmed FROM opentrail.journal"
_LOST = "SELECT first, last, reason FROM opentrail.lost ORDER BY first"
_COLUMNS = "first, count, chain_before, chain, body"
#: Bytes of bodies after which a read ends, with the current batch.
_READ_BYTES = 32 << 20
#: The batch at a position, and later ones up to another position; fewer large ones.
_BATCHES = f"""
    SELECT {_COLUMNS} FROM (
        SELECT *, sum(octet_length(body)) OVER (ORDER BY first) - octet_length(body) AS size_before
        FROM opentrail.batch
        WHERE first >= (SELECT coalesce(max(first), 0) FROM opentrail.batch WHERE first <= ?)
        AND first + count > ? AND first <= ?
    ) AS sized WHERE size_before <= ? ORDER BY first
"""  # noqa: S608 - ours
#: Compares bodies as bytes, on the server: they contain event ids verbatim.
_WITH_ID = f"""
    SELECT {_COLUMNS} FROM opentrail.batch
    WHERE first >= ? AND first <= ? AND position(? IN body) > 0 ORDER BY first DESC
"""  # noqa: S608 - ours


@dataclass(frozen=True, slots=True)
class JournalExtent:
    """The last position of the journal, the last trimmed one, and the lost ones."""

    head: int
    chain: bytes
    trimmed: int
    lost: list[LostPositions]


def read_extent(transaction: Transaction) -> JournalExtent:
    """Returns the extent of the journal."""
    lost = [LostPositions(*row) for row in transaction.rows(_LOST)]
    ((head, chain, trimmed),) = transaction.rows(_EXTENT)
    return JournalExtent(head, chain, trimmed, lost)


class PostgresJournalSource:
    """A `JournalSource` of a journal on PostgreSQL.

    Args:
        url: `postgresql://USER@HOST,HOST/DATABASE`.
    """

    def __init__(self, url: str) -> None:
        self._address, self._password = split_password(url)
        self._database = SharedDatabase(url)

    @property
    def address(self) -> str:
        """The argument that makes a child process open this journal."""
        return self._address

    @property
    def environment(self) -> Mapping[str, str]:
        """Additional variables for a child process, hidden from other users."""
        return {} if self._password is None else {"PGPASSWORD": self._password}

    def first_position(self) -> int:
        """Returns the first position that the journal still has; 1 for an empty one."""
        return self._database.run_blocking(read_extent).trimmed + 1

    def chain_before(self, position: int) -> bytes | None:
        """Returns the chain before an entry; `UNKNOWN_CHAIN` after lost ones.

        Returns None if the journal does not have the entry.

        Raises:
            JournalDamaged: the batch of the entry is damaged.
        """
        batch = self._batch_of(position)
        if batch is None:
            return None
        entries = entries_of(batch)
        at = position - batch.first
        return entries[at - 1].chain if at else batch.chain_before

    def chain_at(self, position: int) -> bytes:
        """Returns the chain at an entry; `UNKNOWN_CHAIN` if it is damaged, lost or missing."""
        batch = self._batch_of(position)
        if batch is None:
            return UNKNOWN_CHAIN
        try:
            return entries_of(batch)[position - batch.first].chain
        except JournalDamaged:
            return UNKNOWN_CHAIN

    def lost_between(self, first: int, last: int) -> list[LostPositions]:
        """Returns the lost positions from `first` to `last`, in order."""
        return lost_between(self._database.run_blocking(read_extent).lost, first, last)

    def restored_between(self, first: int, last: int) -> list[LostPositions]:
        """Returns positions lost because PostgreSQL was restored from an older backup."""
        return [lost for lost in self.lost_between(first, last) if lost.reason == RESTORED]

    def records_behind(
        self, position: int, event_ids: Container[str]
    ) -> Iterator[tuple[str, bytes]]:
        """Yields event id and record of the entries after a position with one of these ids."""
        for entries in self.read_range(position + 1, _END):
            for entry in entries:
                if entry.event_id in event_ids:
                    yield entry.event_id, entry.record

    def read_range(self, first: int, last: int, batch: int = 5_000) -> Iterator[list[Entry]]:
        """Yields the entries `first`…`last`, in order and verified, up to `batch` at a time.

        Large entries reduce their number.
        """
        extent = self._database.run_blocking(read_extent)
        first, last = max(first, extent.trimmed + 1), min(last, extent.head)
        while first <= last:
            end = min(last, first + batch - 1)
            entries = self.read(first, end)
            if entries:
                yield entries
            first = (entries[-1].position if entries else end) + 1

    def read(self, first: int, last: int) -> list[Entry]:
        """Returns the entries `first`…`last` except lost ones; all must have been written.

        Large entries reduce their number; the result is empty only if all are lost.

        Raises:
            JournalDamaged: an entry is missing but not lost, or is damaged.
            StorageFailed: an entry was trimmed, or PostgreSQL failed or does not answer.
        """

        def work(transaction: Transaction) -> tuple[list[Batch], JournalExtent]:
            rows = transaction.rows(_BATCHES, [first, first, last, _READ_BYTES])
            # After the batches: by then, batches missing because they were trimmed are known.
            return [Batch(*row) for row in rows], read_extent(transaction)

        while True:
            batches, extent = self._database.run_blocking(work)
            if first <= extent.trimmed:
                raise StorageFailed(f"journal on PostgreSQL: position {first} was trimmed")
            end = last
            if sum(len(batch.body) for batch in batches) > _READ_BYTES:
                end = min(last, batches[-1].last)
            entries = _verified(batches, first, end, extent.lost)
            if entries or end == last:
                return entries
            first = end + 1

    def find(self, event_id: str) -> int | None:
        """Returns the position of the record with this event id, searching newest first."""
        if not event_id:
            return None
        extent = self._database.run_blocking(read_extent)
        last = extent.head
        while last > extent.trimmed:
            first = max(extent.trimmed + 1, last - _SEARCHED_POSITIONS + 1)
            values = (first, last, event_id.encode())
            for batch in self._batches(_WITH_ID, values):
                for entry in reversed(entries_of(batch)):
                    if entry.event_id == event_id:
                        return entry.position
            last = first - 1
        return None

    def _batch_of(self, position: int) -> Batch | None:
        """Returns the batch of a position; None if it is lost or missing."""
        if self.lost_between(position, position):
            return None
        for batch in self._batches(_BATCHES, (position, position, position, _READ_BYTES)):
            if batch.first <= position <= batch.last:
                return batch
        return None

    def _batches(self, statement: str, values: Sequence[object]) -> list[Batch]:
        rows = self._database.run_blocking(lambda transaction: transaction.rows(statement, values))
        return [Batch(*row) for row in rows]

    async def close(self) -> None:
        """Closes the connection."""
        await self._database.close()


def _verified(
    batches: Sequence[Batch], first: int, last: int, lost: Sequence[LostPositions]
) -> list[Entry]:
    """Returns the entries `first`…`last` of consecutive batches.

    Raises:
        JournalDamaged: one is missing but not lost, or is damaged.
    """
    entries: list[Entry] = []
    chain: bytes | None = None
    expected = first
    for batch in batches:
        if batch.last < first:
            continue
        if batch.first > expected:
            _require_lost(lost, expected, batch.first - 1)
            chain = None
        expected = batch.last + 1
        if first_not_lost(lost, batch.first, batch.last) is None:
            chain = None
            continue
        if chain is not None and batch.chain_before != chain:
            raise damaged(batch.first, "does not continue the chain")
        try:
            entries += [entry for entry in entries_of(batch) if first <= entry.position <= last]
        except JournalDamaged as error:
            if error.position >= first:
                raise
            raise damaged(first, "is in an altered batch") from error
        chain = batch.chain
    _require_lost(lost, expected, last)
    return entries


def _require_lost(lost: Sequence[LostPositions], first: int, last: int) -> None:
    missing = first_not_lost(lost, first, last)
    if missing is not None:
        raise damaged(missing, "is missing")
