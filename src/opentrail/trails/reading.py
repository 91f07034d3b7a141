"""Reading the journal for several trails: each batch once, each record parsed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentrail.core.event import Entry
from opentrail.core.event_record import EventRecord
from opentrail.ports.journal import Journal

#: Positions of one batch.
BATCH = 1_000
#: Maximum bytes of records in the cache: trails that start together are never further apart than
#: one log file.
_CACHED_BYTES = 64 * 1024 * 1024


class EntryBatch:
    """The entries of a range of positions, with their parsed records."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.bytes = sum(len(entry.record) for entry in entries)
        self._records: dict[int, EventRecord] = {}

    def record_of(self, entry: Entry) -> EventRecord:
        record = self._records.get(entry.position)
        if record is None:
            record = self._records[entry.position] = EventRecord(entry.record)
        return record


class SharedReading:
    """Reads batches, and caches the last ones while trails are reading."""

    def __init__(self, journal: Journal, cached_bytes: int = _CACHED_BYTES) -> None:
        self._journal = journal
        self._cached_bytes = cached_bytes
        self._batches: OrderedDict[int, EntryBatch] = OrderedDict()
        self._bytes = 0
        self._readers = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Counts a reader; the cache is emptied after the last one."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._batches.clear()
                self._bytes = 0

    async def read(self, after: int, until: int) -> tuple[EntryBatch, list[Entry], int]:
        """Returns the entries that follow a position.

        Returns:
            The batch, those of its entries with `after < position <= until`, and the position up to
            which they are complete.
        """
        number = after // BATCH
        last = min((number + 1) * BATCH, until)
        batch = self._batches.get(number)
        if batch is None:
            batch = await self._read(number, last)
        else:
            self._batches.move_to_end(number)
        return batch, [e for e in batch.entries if after < e.position <= until], last

    async def _read(self, number: int, until: int) -> EntryBatch:
        first, last = number * BATCH, (number + 1) * BATCH
        # Only complete batches are cached; of the last batch only the wanted part is read.
        is_complete = last <= self._journal.head
        last = last if is_complete else until
        entries: list[Entry] = []
        position = first
        while position < last:
            more = await self._journal.read(position, last - position, last)
            if not more:
                break
            entries.extend(more)
            position = more[-1].position
        batch = EntryBatch(entries)
        if is_complete and self._readers:
            self._cache(number, batch)
        return batch

    def _cache(self, number: int, batch: EntryBatch) -> None:
        if number in self._batches:
            return
        self._batches[number] = batch
        self._bytes += batch.bytes
        while self._bytes > self._cached_bytes:
            _, gone = self._batches.popitem(last=False)
            self._bytes -= gone.bytes
