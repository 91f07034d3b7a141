"""Reading the journal for several trails: each stretch once, each record parsed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentrail.core.event import Entry
from opentrail.core.event_record import EventRecord
from opentrail.ports.journal import Journal

#: Positions of one stretch.
STRETCH = 1_000
#: Records that are kept for other trails, in bytes: trails that begin together are never further
#: apart than the file that each has at hand.
_KEPT_BYTES = 64 * 1024 * 1024


class EntryBatch:
    """The entries of some positions, with what was parsed of them."""

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
    """Reads stretches, and keeps the last ones while anybody reads."""

    def __init__(self, journal: Journal, kept_bytes: int = _KEPT_BYTES) -> None:
        self._journal = journal
        self._kept_bytes = kept_bytes
        self._stretches: OrderedDict[int, EntryBatch] = OrderedDict()
        self._bytes = 0
        self._readers = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Marks that somebody reads; after the last one nothing is kept."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._stretches.clear()
                self._bytes = 0

    async def read(self, after: int, until: int) -> tuple[EntryBatch, list[Entry], int]:
        """Returns what comes next behind a position.

        Returns:
            The stretch, those of its entries with `after < position <= until`, and the position up
            to which these are all that there are.
        """
        number = after // STRETCH
        reached = min((number + 1) * STRETCH, until)
        stretch = self._stretches.get(number)
        if stretch is None:
            stretch = await self._read(number, reached)
        else:
            self._stretches.move_to_end(number)
        return stretch, [e for e in stretch.entries if after < e.position <= until], reached

    async def _read(self, number: int, until: int) -> EntryBatch:
        first, last = number * STRETCH, (number + 1) * STRETCH
        # What is complete can be kept; of the last stretch only as much is read as is wanted.
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
        stretch = EntryBatch(entries)
        if is_complete and self._readers:
            self._keep(number, stretch)
        return stretch

    def _keep(self, number: int, stretch: EntryBatch) -> None:
        if number in self._stretches:
            return
        self._stretches[number] = stretch
        self._bytes += stretch.bytes
        while self._bytes > self._kept_bytes:
            _, gone = self._stretches.popitem(last=False)
            self._bytes -= gone.bytes
