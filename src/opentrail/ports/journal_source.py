"""The journal as child processes read it, while another process writes it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Protocol

from opentrail.core.event import Entry
from opentrail.ports.journal import LostPositions


class JournalSource(Protocol):
    """Reads what a journal has acknowledged; methods block, and hold nothing open in between.

    Every method raises `JournalDamaged` if the content is not what was written, and
    `StorageFailed` if the journal cannot be read.
    """

    @property
    def address(self) -> str:
        """The argument with which a child process opens this journal; without a password."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that a child process needs besides."""
        ...

    def first_position(self) -> int:
        """Return the first position that the journal may still have; 1 for an empty one."""
        ...

    def chain_before(self, position: int) -> bytes | None:
        """Return the chain before an entry; `UNKNOWN_CHAIN` after lost ones.

        Returns None if the journal does not have the entry.
        """
        ...

    def chain_at(self, position: int) -> bytes:
        """Return the chain at an entry; `UNKNOWN_CHAIN` if it is damaged, lost or not there."""
        ...

    def lost_between(self, first: int, last: int) -> list[LostPositions]:
        """Return the lost positions from `first` to `last`, in order."""
        ...

    def restored_between(self, first: int, last: int) -> list[LostPositions]:
        """Return those lost because the journal was restored from an older backup.

        Servers that share it have different events there, if any: event history forgets them.
        """
        ...

    def records_behind(
        self, position: int, event_ids: Container[str]
    ) -> Iterator[tuple[str, bytes]]:
        """Yield event id and record of the entries after a position with one of these ids."""
        ...

    def read_range(self, first: int, last: int, batch: int = 5_000) -> Iterator[list[Entry]]:
        """Yield the entries `first`…`last`, in order and verified, up to `batch` at a time.

        There are fewer of large ones.
        """
        ...
