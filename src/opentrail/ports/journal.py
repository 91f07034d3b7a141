"""The journal of durable, ordered, numbered records, and its readers in other processes."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from opentrail.core.event import Entry, NewEntry

#: Maximum records that wait; beyond that a journal refuses records (guarantee D15).
QUEUE_RECORDS = 50_000
#: Maximum bytes that wait.
QUEUE_BYTES = 64 * 1024 * 1024
#: The chain at a position with an unknown chain, because the entry was lost.
UNKNOWN_CHAIN = b""


@dataclass(frozen=True, slots=True)
class LostPositions:
    """Positions whose records the journal has lost.

    `last` is None if the number of lost records is unknown; then new records continue at `first`.
    """

    first: int
    last: int | None
    reason: str

    def covers(self, first: int, last: int) -> bool:
        """Returns whether all these positions are lost."""
        return self.last is not None and self.first <= first and last <= self.last


#: The reason of positions lost because PostgreSQL has an older version of the journal.
RESTORED = "records of the journal are missing on PostgreSQL"


def lost_between(lost: Sequence[LostPositions], first: int, last: int) -> list[LostPositions]:
    """Returns the runs of lost positions that are also from `first` to `last`."""
    return [run for run in lost if run.last and run.first <= last and run.last >= first]


def first_not_lost(lost: Sequence[LostPositions], first: int, last: int) -> int | None:
    """Returns the first position from `first` to `last` that is not in `lost` (in order)."""
    for run in lost:
        if run.last is not None and run.first <= first <= run.last:
            first = run.last + 1
    return first if first <= last else None


@dataclass(frozen=True, slots=True)
class KnownPositions:
    """Positions that others have seen; a journal without them has lost records.

    `sealed` is the last position whose record is also in event history, `written` a position that
    was written.
    """

    sealed: int = 0
    written: int = 0


class JournalWriter(Protocol):
    """The write side of a journal, as a recorder needs it."""

    @property
    def head(self) -> int:
        """The position of the last durable record, 0 without records."""
        ...

    @property
    def failure(self) -> str | None:
        """Why the journal accepts no records now; None if it accepts them."""
        ...

    @property
    def backlog_seconds(self) -> float:
        """Seconds that the oldest record has waited to become durable."""
        ...

    async def write(self, entries: Sequence[NewEntry]) -> object:
        """Return only once the records are durable; they may get their positions later.

        Records that are durable before a later call begins have lower positions than its records.

        Raises:
            RecordRefused: as `append`.
        """
        ...

    async def append(self, entries: Sequence[NewEntry]) -> int:
        """Return only once the records are durable; the result is the last one's position.

        The records of a call have consecutive positions. Where the journal is reached over a
        network, it sends them again after a lost connection, and still writes them once.

        Raises:
            RecordRefused: nothing was acknowledged; a later retry may succeed.
        """
        ...


class Journal(JournalWriter, Protocol):
    """Every record once, in one order; positions start at 1 and have no gaps but `lost` ones."""

    @property
    def lost(self) -> Sequence[LostPositions]:
        """The lost positions, in order."""
        ...

    async def newest(self) -> int:
        """Return once everything that is durable has a position: the last one, `head` then.

        Raises:
            StorageFailed: the position is unknown.
        """
        ...

    async def read(self, after: int, limit: int, until: int | None = None) -> list[Entry]:
        """Return up to `limit` entries with `after < position <= until`, in order.

        There may be fewer if they are large, but none only if none are in this range. Lost
        positions are left out; every other entry is verified by the hash chain. Trimmed entries are
        never left out: a `TrimmedJournal` fails to read them.

        Raises:
            StorageFailed: the journal cannot be read, or one of the positions was trimmed.
        """
        ...

    async def find(self, event_id: str) -> int | None:
        """Return the position of the record with this event id."""
        ...

    async def wait_beyond(self, position: int) -> None:
        """Return once a record after `position` is durable."""
        ...

    async def close(self) -> None:
        """Return once everything appended is durable and files are closed."""
        ...


async def append_once(journal: Journal, entry: NewEntry) -> None:
    """Appends an entry, unless one with its event id was appended before."""
    if await journal.find(entry.event_id) is None:
        await journal.append([entry])


@dataclass(frozen=True, slots=True)
class JournalEngine:
    """The engine that holds a journal: `sqlite` or `postgresql`."""

    name: str
    #: Whether a commit is on a standby as well before a record is acknowledged; None where the
    #: disk of one machine is all there is.
    quorum_commit: bool | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Entries that must not be deleted yet: those after a position, because a holder needs them."""

    #: Its name, for problems.
    holder: str
    after: int
    #: Whether it reads the journal itself. Others also read trimmed entries in the archive.
    reads_journal: bool = False


def first_needed(holds: Sequence[Hold], head: int) -> int:
    """Returns the position after which the first of the held entries begin, at most `head`."""
    return min([head, *(hold.after for hold in holds)])


class TrimmedJournal(Journal, Protocol):
    """A journal without its oldest entries, which an `Archive` has."""

    @property
    def engine(self) -> JournalEngine:
        """The engine that holds the journal."""
        ...

    @property
    def first(self) -> int:
        """The position of the first record that is still here."""
        ...

    @property
    def is_checked(self) -> bool:
        """Whether every existing record was verified since the start."""
        ...

    @property
    def unverified(self) -> str | None:
        """Why records could not be verified; None if unknown."""
        ...

    async def keep_checking(self) -> None:
        """Return once all existing records are verified; damaged ones are repaired or lost."""
        ...

    async def repair(self, first: int, last: int) -> None:
        """Verify the positions `first`…`last`; damaged ones are repaired or lost."""
        ...

    async def trim(self, until: int, keep: int = 1) -> int:
        """Delete the oldest parts that end at `until` at most; return their number.

        Args:
            until: the last position in the archive.
            keep: number of newest parts that are never deleted.
        """
        ...

    def trimmable_bytes(self, until: int, keep: int = 1) -> int:
        """Return the bytes on this server's disk that the same `trim` would free."""
        ...


class Archive(Protocol):
    """Entries that a journal has trimmed."""

    async def read(self, after: int, limit: int, until: int) -> list[Entry]:
        """Return up to `limit` entries with `after < position <= until`, in order.

        Expired positions are left out.
        """
        ...

    async def find(self, event_id: str) -> int | None:
        """Return the position of the record with this event id."""
        ...


class JournalSource(Protocol):
    """Reads a journal's acknowledged records; methods block, and hold nothing open between calls.

    Every method raises `JournalDamaged` if the content is damaged, and
    `StorageFailed` if the journal cannot be read.
    """

    @property
    def address(self) -> str:
        """The argument for child processes to open this journal; without a password."""
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
        """Return the positions lost because the journal was restored from an older backup.

        Servers that share it may have different events there; event history forgets these.
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
