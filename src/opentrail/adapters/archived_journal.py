"""A journal that reads its oldest entries from an archive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from opentrail.core.errors import StorageFailed
from opentrail.core.event import Entry, NewEntry
from opentrail.ports.journal import Archive, LostPositions, TrimmedJournal


class NoArchive:
    """The archive of a server without event history."""

    async def read(self, after: int, limit: int, until: int) -> list[Entry]:
        """Refuses: there are no entries."""
        raise StorageFailed(
            f"positions {after + 1} to {until} were trimmed from the journal, "
            "and this server keeps no event history"
        )

    async def find(self, event_id: str) -> int | None:
        """Returns None."""
        return None


class ArchivedJournal:
    """A `Journal` that reads trimmed entries from an archive.

    Args:
        journal: the newest entries.
        archive: the older entries.
        append: appends to the journal; None to let the journal do it.
    """

    def __init__(
        self,
        journal: TrimmedJournal,
        archive: Archive,
        append: Callable[[Sequence[NewEntry]], Awaitable[int]] | None = None,
    ) -> None:
        self._journal = journal
        self._archive = archive
        self._append = append or journal.append

    @property
    def head(self) -> int:
        """The position of the last durable record."""
        return self._journal.head

    @property
    def lost(self) -> Sequence[LostPositions]:
        """The lost positions, in order."""
        return self._journal.lost

    @property
    def failure(self) -> str | None:
        """Why the journal accepts no records now."""
        return self._journal.failure

    @property
    def backlog_seconds(self) -> float:
        """Age in seconds of the oldest waiting record."""
        return self._journal.backlog_seconds

    async def write(self, entries: Sequence[NewEntry]) -> object:
        """Returns only once the records are durable; they may get their positions later."""
        return await self._journal.write(entries)

    async def append(self, entries: Sequence[NewEntry]) -> int:
        """Returns only once the records are durable; the result is the last one's position."""
        return await self._append(entries)

    async def newest(self) -> int:
        """Returns the position of the last durable record."""
        return await self._journal.newest()

    async def read(self, after: int, limit: int, until: int | None = None) -> list[Entry]:
        """Returns up to `limit` durable entries after `after`, in order; omits expired ones."""
        while True:
            first = self._journal.first
            if after + 1 < first:
                last = first - 1 if until is None else min(until, first - 1)
                archived = await self._archive.read(after, limit, last)
                if archived:
                    return archived
            try:
                return await self._journal.read(max(after, first - 1), limit, until)
            except StorageFailed:
                # A segment may have just been trimmed; the archive then has it.
                if self._journal.first == first:
                    raise

    async def find(self, event_id: str) -> int | None:
        """Returns the position of the record with this event id, searching newest first."""
        position = await self._journal.find(event_id)
        if position is None and self._journal.first > 1:
            position = await self._archive.find(event_id)
        return position

    async def wait_beyond(self, position: int) -> None:
        """Returns once a record after `position` is durable."""
        await self._journal.wait_beyond(position)

    async def close(self) -> None:
        """Returns once everything appended is durable and files are closed."""
        await self._journal.close()
