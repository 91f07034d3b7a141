"""The guarantees of every journal (ports/journal.py)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from opentrail.adapters.archived_journal import ArchivedJournal
from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.ipc.journal import Appended, AppendEntries, IpcJournalWriter, append_to
from opentrail.adapters.ipc.link import Link
from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.app.disk import size_of
from opentrail.core.errors import RecordRefused, StorageFailed
from opentrail.core.event import Entry, NewEntry
from opentrail.ports.journal import Journal, LostPositions, TrimmedJournal, first_not_lost
from tests.factories import a_new_entry, a_record, event_id, some_new_entries
from tests.fakes import (
    GENESIS,
    TIMEOUT_SECONDS,
    MemoryJournal,
    SettableClock,
    asynchronous,
    run,
    turns,
)
from tests.postgres import ON_POSTGRESQL, shared_server

#: Small enough that a handful of records fills a segment.
TINY_SEGMENT = 24 * 1024
Open = Callable[[], Journal]


class OverLink(MemoryJournal):
    """A journal in memory that is written over a link; the far side has the rest."""

    def __init__(self, far: MemoryJournal) -> None:
        super().__init__(far.disk)
        self._linked: IpcJournalWriter | None = None
        self._links: list[Link] = []

    async def write(self, entries: Sequence[NewEntry]) -> None:
        await (await self._link()).write(entries)

    async def append(self, entries: Sequence[NewEntry]) -> int:
        return await (await self._link()).append(entries)

    async def _link(self) -> IpcJournalWriter:
        if self._linked is None:
            ends = socket.socketpair()
            self._links = [await Link.over(end, {AppendEntries: self._append_far}) for end in ends]
            self._linked = IpcJournalWriter(self._links[0])
        return self._linked

    async def _append_far(self, request: AppendEntries) -> Appended:
        writing = super().append

        class Far:
            head, failure, backlog_seconds = 0, self.failure, 0.0

            async def write(self, entries: Sequence[NewEntry]) -> None:
                await writing(entries)

            async def append(self, entries: Sequence[NewEntry]) -> int:
                return await writing(entries)

        return await append_to(Far(), request)

    async def close(self) -> None:
        await super().close()
        for link in self._links:
            link.close()


class OrderedByAnother(PostgresJournal):
    """A journal that another process also has open, and that other process is the sequencer."""

    def __init__(self, url: str) -> None:
        self._other = PostgresJournal(url)
        super().__init__(url)

    async def close(self) -> None:
        await super().close()
        await self._other.close()


def opener(kind: str, folder: Path) -> Open:
    """Returns a function that opens a journal repeatedly on the same disk."""
    if kind == "memory":
        disk: list[Entry] = []
        return lambda: MemoryJournal(disk)
    if kind == "memory, over a link":
        far: list[Entry] = []
        return lambda: OverLink(MemoryJournal(far))
    if kind.startswith("postgresql"):
        url = shared_server().new_database()
        opened = OrderedByAnother if "another" in kind else PostgresJournal
        return lambda: opened(url)
    if kind == "sqlite, tiny segments":
        return lambda: SqliteJournal(folder, segment_bytes=TINY_SEGMENT)
    return lambda: SqliteJournal(folder)


_WITHOUT_SERVER = ("memory", "memory, over a link", "sqlite", "sqlite, tiny segments")
KINDS = (
    *_WITHOUT_SERVER,
    ON_POSTGRESQL,
    pytest.param("postgresql, ordered by another process", marks=pytest.mark.slow),
)
#: For properties: each example on PostgreSQL takes a new database, which takes time.
KINDS_OF_EXAMPLES = (
    *_WITHOUT_SERVER,
    pytest.param("postgresql", marks=pytest.mark.campaign),
)


@pytest.fixture(params=KINDS)
def open_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    return opener(request.param, tmp_path)


@asynccontextmanager
async def opened(open_journal: Open) -> AsyncIterator[Journal]:
    journal = open_journal()
    try:
        yield journal
    finally:
        await journal.close()


def columns(entry: Entry | NewEntry) -> dict[str, object]:
    """Returns an entry's columns without its position and chain."""
    return {k: v for k, v in asdict(entry).items() if k not in ("position", "chain")}


async def everything(journal: Journal) -> list[Entry]:
    return await journal.read(0, 1_000_000)


@asynchronous
async def test_a_new_journal_is_empty_and_well(open_journal: Open) -> None:
    async with opened(open_journal) as journal:
        assert journal.head == 0
        assert journal.failure is None
        assert journal.backlog_seconds == 0
        assert await everything(journal) == []
        assert await journal.find(event_id(1)) is None


@asynchronous
async def test_positions_start_at_one_and_have_no_gaps(open_journal: Open) -> None:
    async with opened(open_journal) as journal:
        given = some_new_entries(12)
        assert await journal.append(given[:1]) == 1
        assert await journal.append(given[1:6]) == 6
        assert await journal.append(given[6:]) == 12
        assert journal.head == 12
        kept = await everything(journal)
        assert [entry.position for entry in kept] == list(range(1, 13))
        assert [columns(entry) for entry in kept] == [columns(entry) for entry in given]


@pytest.mark.parametrize(
    "record",
    [
        b"{}",
        b"",
        b"\0",
        b'{"a":"\0"}',
        bytes(range(256)),
        json.dumps({"name": "Zoë \U0001f600 \u2028 \u202e \\ \" ' %"}).encode(),
        '{"name":"Zoë \U0001f600 \u2028 \u202e"}'.encode(),
        b'{"n":' + b"9" * 400 + b"}",
        b"x" * 3_000_000,
    ],
    ids=["object", "empty", "nul", "nul inside", "every byte", "escaped", "utf-8", "big", "long"],
)
@asynchronous
async def test_bytes_of_a_record_are_unchanged_after_reopening(
    open_journal: Open, record: bytes
) -> None:
    new = replace(a_new_entry(), record=record)
    async with opened(open_journal) as journal:
        await journal.append([new])
        assert [entry.record for entry in await everything(journal)] == [record]
    async with opened(open_journal) as journal:
        assert journal.head == 1
        (entry,) = await everything(journal)
        assert columns(entry) == columns(new)


@asynchronous
async def test_reopened_journal_keeps_entries_and_numbers(
    open_journal: Open,
) -> None:
    given = some_new_entries(60)
    for start in range(0, 60, 20):
        async with opened(open_journal) as journal:
            assert journal.head == start
            assert await journal.append(given[start : start + 20]) == start + 20
    async with opened(open_journal) as journal:
        kept = await everything(journal)
        assert [entry.position for entry in kept] == list(range(1, 61))
        assert [columns(entry) for entry in kept] == [columns(entry) for entry in given]


@asynchronous
async def test_written_entries_are_durable_and_ordered(
    open_journal: Open,
) -> None:
    given = some_new_entries(9)
    async with opened(open_journal) as journal:
        for start in range(0, 6, 2):
            await journal.write(given[start : start + 2])
        assert await journal.append(given[6:8]) == 8
        assert await journal.newest() == 8
        await journal.write(given[8:])
    async with opened(open_journal) as journal:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await journal.wait_beyond(8)
        kept = await everything(journal)
        assert [columns(entry) for entry in kept] == [columns(entry) for entry in given]


@asynchronous
async def test_every_entry_is_chained_to_the_one_before(open_journal: Open) -> None:
    given = some_new_entries(50)
    async with opened(open_journal) as journal:
        await journal.append(given[:30])
    async with opened(open_journal) as journal:
        await journal.append(given[30:])
        chain = GENESIS
        for entry in await everything(journal):
            chain = hashlib.sha256(chain + entry.record).digest()
            assert entry.chain == chain


@asynchronous
async def test_reading_takes_a_stretch_in_order(open_journal: Open) -> None:
    async with opened(open_journal) as journal:
        await journal.append(some_new_entries(40))

        async def positions(after: int, limit: int, until: int | None = None) -> list[int]:
            return [entry.position for entry in await journal.read(after, limit, until)]

        assert await positions(0, 3) == [1, 2, 3]
        assert await positions(3, 3) == [4, 5, 6]
        assert await positions(7, 100) == list(range(8, 41))
        assert await positions(7, 100, until=20) == list(range(8, 21))
        assert await positions(7, 5, until=20) == [8, 9, 10, 11, 12]
        assert await positions(39, 10) == [40]
        assert await positions(0, 100, until=1_000) == list(range(1, 41))
        assert await positions(5, 10, until=5) == []
        assert await positions(9, 10, until=5) == []
        assert await positions(40, 10) == []
        assert await positions(1_000, 10) == []


@asynchronous
async def test_waiting_ends_with_a_durable_later_record(
    open_journal: Open,
) -> None:
    async with opened(open_journal) as journal:
        await journal.append(some_new_entries(2))
        await journal.wait_beyond(1)
        waiting = [asyncio.create_task(journal.wait_beyond(place)) for place in (2, 3)]
        await turns()
        assert [task.done() for task in waiting] == [False, False]
        await journal.append(some_new_entries(1, 3))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await waiting[0]
        await turns()
        assert not waiting[1].done()
        await journal.append(some_new_entries(1, 4))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await waiting[1]
        assert journal.head == 4


@asynchronous
async def test_a_cancelled_wait_does_not_affect_others(open_journal: Open) -> None:
    async with opened(open_journal) as journal:
        given_up, patient = (asyncio.create_task(journal.wait_beyond(0)) for _ in range(2))
        await turns()
        given_up.cancel()
        await journal.append(some_new_entries(1))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await patient
        with pytest.raises(asyncio.CancelledError):
            await given_up


@asynchronous
async def test_an_event_is_found_by_its_id(open_journal: Open) -> None:
    async with opened(open_journal) as journal:
        await journal.append(some_new_entries(45))
        for position in (1, 17, 45):
            assert await journal.find(event_id(position)) == position
        assert await journal.find(event_id(46)) is None
        assert await journal.find("") is None
        assert await journal.find("%") is None


@asynchronous
async def test_concurrent_appenders_each_get_their_own_positions(open_journal: Open) -> None:
    async with opened(open_journal) as journal:

        async def append(number: int) -> tuple[int, list[NewEntry]]:
            mine = some_new_entries(1 + number % 3, number * 10)
            return await journal.append(mine), mine

        answers = await asyncio.gather(*(append(number) for number in range(100)))
        kept = {entry.position: columns(entry) for entry in await everything(journal)}
        assert sorted(kept) == list(range(1, journal.head + 1))
        seen: set[int] = set()
        for last, mine in answers:
            positions = range(last - len(mine) + 1, last + 1)
            assert [kept[position] for position in positions] == [columns(new) for new in mine]
            assert seen.isdisjoint(positions)
            seen.update(positions)
        assert len(seen) == journal.head


@asynchronous
async def test_an_appended_record_is_readable_immediately(
    open_journal: Open,
) -> None:
    async with opened(open_journal) as journal:

        async def append_and_look(number: int) -> None:
            (new,) = some_new_entries(1, number)
            position = await journal.append([new])
            assert journal.head >= position
            (entry,) = await journal.read(position - 1, 1)
            assert (entry.position, columns(entry)) == (position, columns(new))
            assert await journal.find(new.event_id) == position

        await asyncio.gather(*(append_and_look(number) for number in range(1, 40)))


@asynchronous
async def test_a_cancelled_append_leaves_no_gap(open_journal: Open) -> None:
    async with opened(open_journal) as journal:
        gone = asyncio.create_task(journal.append(some_new_entries(3)))
        await asyncio.sleep(0)
        gone.cancel()
        last = await journal.append(some_new_entries(1, 10))
        kept = await everything(journal)
        assert [entry.position for entry in kept] == list(range(1, last + 1))
        assert kept[-1].event_id == event_id(10)
        assert [e.event_id for e in kept[:-1]] in ([], [event_id(n) for n in (1, 2, 3)])


@asynchronous
async def test_a_closed_journal_refuses_records(open_journal: Open) -> None:
    journal = open_journal()
    await journal.append(some_new_entries(1))
    await journal.close()
    with pytest.raises(RecordRefused):
        await journal.append(some_new_entries(1, 2))
    async with opened(open_journal) as journal:
        assert journal.head == 1


@asynchronous
async def test_closing_finishes_pending_appends(open_journal: Open) -> None:
    journal = open_journal()
    appending = [
        asyncio.create_task(journal.append(some_new_entries(2, n * 10))) for n in range(20)
    ]
    await asyncio.sleep(0)
    await journal.close()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        answers = await asyncio.gather(*appending, return_exceptions=True)
    taken = [answer for answer in answers if isinstance(answer, int)]
    assert len(taken) + sum(isinstance(a, RecordRefused) for a in answers) == 20
    async with opened(open_journal) as journal:
        assert journal.head == 2 * len(taken)
        ids = {entry.event_id for entry in await everything(journal)}
        for number, answer in enumerate(answers):
            mine = {event_id(number * 10), event_id(number * 10 + 1)}
            assert mine <= ids if isinstance(answer, int) else mine.isdisjoint(ids)


@pytest.mark.slow
@pytest.mark.hypothesis
@pytest.mark.parametrize("kind", KINDS_OF_EXAMPLES)
@settings(max_examples=25, deadline=None)
@given(moments=st.lists(st.integers(0, 2**52), min_size=1, max_size=40))
@example(moments=[2_147_558_400_000_158])
def test_recorded_time_is_kept_to_the_microsecond(kind: str, moments: list[int]) -> None:
    async def story(open_journal: Open) -> None:
        times = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=m) for m in moments]
        async with opened(open_journal) as journal:
            await journal.append([replace(a_new_entry(), recorded_at=time) for time in times])
            assert [entry.recorded_at for entry in await everything(journal)] == times

    with tempfile.TemporaryDirectory() as folder:
        run(story(opener(kind, Path(folder))))


new_entries = st.builds(
    NewEntry,
    origin=st.sampled_from(["recorder", "api", "hook", "import", "insight"]),
    recorded_at=st.integers(0, 4_000_000_000).map(lambda s: datetime.fromtimestamp(s, UTC)),
    account=st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    region=st.sampled_from(["us-east-1", "eu-west-1", ""]),
    category=st.sampled_from(["Management", "Data", "Insight"]),
    event_id=st.uuids().map(str),
    record=st.binary(max_size=400),
)
batches = st.lists(st.lists(new_entries, min_size=1, max_size=12), max_size=8)


@pytest.mark.hypothesis
@pytest.mark.parametrize("kind", KINDS_OF_EXAMPLES)
@settings(max_examples=30, deadline=None)
@given(batches=batches, reopen_after=st.integers(0, 8), after=st.integers(0, 50))
@pytest.mark.slow
def test_any_sequence_of_appends_matches_a_plain_list(
    kind: str, batches: Sequence[list[NewEntry]], reopen_after: int, after: int
) -> None:
    async def story(open_journal: Open) -> None:
        model: list[NewEntry] = []
        journal = open_journal()
        try:
            for number, batch in enumerate(batches):
                if number == reopen_after:
                    await journal.close()
                    journal = open_journal()
                model.extend(batch)
                assert await journal.append(batch) == len(model)
            await journal.close()
            journal = open_journal()
            assert journal.head == len(model)
            kept = await everything(journal)
            assert [entry.position for entry in kept] == list(range(1, len(model) + 1))
            assert [columns(entry) for entry in kept] == [columns(new) for new in model]
            stretch = await journal.read(after, 7, until=after + 11)
            assert [columns(e) for e in stretch] == [columns(n) for n in model[after:][:7]]
            ids = [new.event_id for new in model]
            for position, found in enumerate(ids, 1):
                if ids.count(found) == 1:
                    assert await journal.find(found) == position
        finally:
            await journal.close()

    with tempfile.TemporaryDirectory() as folder:
        run(story(opener(kind, Path(folder))))


@pytest.mark.slow
@asynchronous
async def test_one_large_batch_is_whole(open_journal: Open) -> None:
    async with opened(open_journal) as journal:
        many = [a_new_entry(a_record(eventID=event_id(n))) for n in range(5_000)]
        assert await journal.append(many) == 5_000
    async with opened(open_journal) as journal:
        kept = await everything(journal)
        assert [entry.event_id for entry in kept] == [new.event_id for new in many]


@given(
    lost=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 5)), max_size=5),
    first=st.integers(1, 20),
    length=st.integers(0, 10),
)
def test_the_first_remaining_position_equals_a_plain_search(
    lost: list[tuple[int, int]], first: int, length: int
) -> None:
    ranges = sorted(
        (LostPositions(begin, begin + more, "") for begin, more in lost), key=lambda one: one.first
    )
    gone = {n for begin, more in lost for n in range(begin, begin + more + 1)}
    expected = next((n for n in range(first, first + length + 1) if n not in gone), None)
    assert first_not_lost(ranges, first, first + length) == expected


# Journals whose oldest entries were trimmed (`TrimmedJournal`), alone and with their archive

TRIMMED_KINDS = ("sqlite", ON_POSTGRESQL)


class ListArchive:
    """An `Archive` of these entries; `before_read` runs before each read of it."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.before_read: Callable[[], Awaitable[object]] | None = None

    async def read(self, after: int, limit: int, until: int) -> list[Entry]:
        if self.before_read is not None:
            await self.before_read()
        return [e for e in self.entries if after < e.position <= until][:limit]

    async def find(self, event_id: str) -> int | None:
        return next((e.position for e in self.entries if e.event_id == event_id), None)


@asynccontextmanager
async def in_parts(kind: str, folder: Path) -> AsyncIterator[tuple[TrimmedJournal, list[Entry]]]:
    """Yields a trimmable journal of at least four parts, and its entries."""
    journal: TrimmedJournal
    if kind == "postgresql":
        clock = SettableClock(SystemClock().now() - timedelta(days=9))
        journal = PostgresJournal(shared_server().new_database(), clock=clock)
        for day in range(9):
            await journal.append(some_new_entries(3, 3 * day + 1))
            clock.moment += timedelta(days=1)
    else:
        journal = SqliteJournal(folder, segment_bytes=TINY_SEGMENT)
        for new in some_new_entries(60):
            await journal.append([new])
        await journal.close()
        journal = SqliteJournal(folder, segment_bytes=TINY_SEGMENT)  # nothing is cached
    try:
        yield journal, await journal.read(0, 1_000)
    finally:
        await journal.close()


async def trim_one(journal: TrimmedJournal) -> int:
    """Trims the oldest part; returns the first remaining position."""
    first, until = journal.first, journal.first
    while journal.first == first:
        await journal.trim(until)
        until += 1
    return journal.first


@pytest.mark.parametrize("kind", TRIMMED_KINDS)
@asynchronous
async def test_a_read_of_trimmed_positions_always_fails(kind: str, tmp_path: Path) -> None:
    async with in_parts(kind, tmp_path) as (journal, entries):
        await trim_one(journal)
        first = await trim_one(journal)
        assert await journal.read(first - 1, 1_000) == entries[first - 1 :]
        for after in (0, first - 2):
            for until in (None, first - 1, first, journal.head):
                with pytest.raises(StorageFailed, match=rf"position {after + 1}\b.* trimmed"):
                    await journal.read(after, 1_000, until)
        assert await journal.read(0, 1_000, 0) == []


@pytest.mark.parametrize("kind", TRIMMED_KINDS)
@asynchronous
async def test_trim_frees_the_trimmable_bytes(kind: str, tmp_path: Path) -> None:
    async with in_parts(kind, tmp_path) as (journal, _):
        before, expected = size_of(tmp_path), journal.trimmable_bytes(journal.head, 2)
        assert journal.trimmable_bytes(0) == 0
        assert await journal.trim(journal.head, 2) > 0
        assert before - size_of(tmp_path) == expected
        assert journal.trimmable_bytes(journal.head, 2) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRIMMED_KINDS)
@asynchronous
async def test_entries_trimmed_during_a_read_are_archived(kind: str, tmp_path: Path) -> None:
    async with in_parts(kind, tmp_path) as (journal, entries):
        first = await trim_one(journal)
        archive = ListArchive(entries[first - 1 :])  # the first part has expired
        whole = ArchivedJournal(journal, archive)

        async def trim_once() -> None:
            archive.before_read = None
            await trim_one(journal)

        archive.before_read = trim_once
        assert await whole.read(0, 1_000, first) == [entries[first - 1]]
        archive.before_read = trim_once
        position = 0
        got: list[Entry] = []
        while part := await whole.read(position, 4):
            got += part
            position = part[-1].position
        assert got == entries[first - 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRIMMED_KINDS)
@asynchronous
async def test_readers_get_every_entry_during_trimming(kind: str, tmp_path: Path) -> None:
    async with in_parts(kind, tmp_path) as (journal, entries):
        whole = ArchivedJournal(journal, ListArchive(entries))
        trimming = True

        async def keep_reading(size: int) -> int:
            rounds = 0
            while trimming or not rounds:
                position, got = 0, list[Entry]()
                while part := await whole.read(position, size, len(entries)):
                    got += part
                    position = part[-1].position
                assert got == entries
                rounds += 1
                await asyncio.sleep(0)
            return rounds

        readers = [asyncio.create_task(keep_reading(size)) for size in (7, 25, 1_000)]
        for until in range(1, journal.head):
            await journal.trim(until)
        trimming = False
        assert all(await asyncio.gather(*readers))
        assert journal.first > 10
