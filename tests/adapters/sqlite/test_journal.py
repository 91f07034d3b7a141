"""The journal's files: segments, the hash chain, full and failing disks, sudden death."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core import faults
from opentrail.core.errors import RecordRefused
from opentrail.core.event import NewEntry
from opentrail.ports.journal import QUEUE_BYTES, QUEUE_RECORDS
from tests.factories import a_new_entry, a_record, event_id, some_new_entries
from tests.fakes import (
    GENESIS,
    TIMEOUT_SECONDS,
    asynchronous,
    eventually,
    run,
    turns,
)

#: A few records fill it.
TINY_SEGMENT = 24 * 1024


@asynccontextmanager
async def opened(
    folder: Path, segment_bytes: int = TINY_SEGMENT, reserved_bytes: int = 0
) -> AsyncIterator[SqliteJournal]:
    journal = SqliteJournal(folder, segment_bytes=segment_bytes, reserved_bytes=reserved_bytes)
    try:
        yield journal
    finally:
        await journal.close()


async def append_one_by_one(journal: SqliteJournal, count: int, first: int = 1) -> None:
    for new in some_new_entries(count, first):
        await journal.append([new])


async def append_until_refused(journal: SqliteJournal, first: int) -> int:
    """Appends one by one; returns the number of the refused record."""
    for number in range(first, first + 2_000):
        try:
            await append_one_by_one(journal, 1, number)
        except RecordRefused:
            return number
    raise AssertionError("nothing was refused")


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.db"))


def rows(file: Path) -> list[tuple[int, bytes, bytes]]:
    with closing(sqlite3.connect(file)) as database:
        return database.execute(
            "SELECT position, chain, record FROM entries ORDER BY position"
        ).fetchall()


def first_break_of_chain(folder: Path) -> int | None:
    """Returns the first position with a broken chain, checked with sqlite3 alone."""
    chain = GENESIS
    for file in segments(folder):
        with closing(sqlite3.connect(file)) as database:
            first, before = database.execute("SELECT first, chain_before FROM segment").fetchone()
        if before != chain or first != int(file.stem):
            return int(first)
        for position, kept, record in rows(file):
            chain = hashlib.sha256(chain + record).digest()
            if kept != chain:
                return int(position)
    return None


# Segments and chain


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a#b", "a?mode=rwc", "a%41", "a b'ü"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "journal"
    folder.mkdir(parents=True)

    async def story() -> None:
        async with opened(folder) as journal:
            await append_one_by_one(journal, 60)
            await journal.check()
            assert journal.lost == []
            source = SqliteJournalSource(folder)
            entries = [entry for part in source.read_range(1, 60) for entry in part]
            assert entries == await journal.read(0, 60)

    run(story())
    assert len(segments(folder)) > 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.slow
@asynchronous
async def test_a_reopened_journal_continues_its_chain(
    tmp_path: Path,
) -> None:
    for first in (1, 21, 41):
        async with opened(tmp_path) as journal:
            assert journal.head == first - 1
            await append_one_by_one(journal, 20, first)
    assert len(segments(tmp_path)) > 5
    assert first_break_of_chain(tmp_path) is None
    async with opened(tmp_path) as journal:
        found = [entry.event_id for entry in await journal.read(0, 100)]
        assert found == [event_id(number) for number in range(1, 61)]


@pytest.mark.slow
@pytest.mark.parametrize("position", [1, 17, 40])
@pytest.mark.parametrize(
    ("statement", "shown_at"),
    [
        ("UPDATE entries SET record = x'7b7d' WHERE position = ?", 0),
        ("UPDATE entries SET chain = zeroblob(32) WHERE position = ?", 0),
        ("DELETE FROM entries WHERE position = ?", 1),
    ],
    ids=["record", "chain", "removed"],
)
def test_an_altered_row_breaks_the_chain(
    tmp_path: Path, position: int, statement: str, shown_at: int
) -> None:
    async def story() -> None:
        async with opened(tmp_path) as journal:
            await append_one_by_one(journal, 45)

    run(story())
    assert first_break_of_chain(tmp_path) is None
    (file,) = [f for f in segments(tmp_path) if position in [row[0] for row in rows(f)]]
    with closing(sqlite3.connect(file)) as database:
        database.execute(statement, (position,))
        database.commit()
    assert first_break_of_chain(tmp_path) == position + shown_at


# Durability, as far as a living process can see it


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.let_go()
    faults.arm(held.point or "journal.mid-commit", sys.maxsize, lambda: None)


class Held:
    """Holds the journal's writer at a named point until it is released."""

    def __init__(self) -> None:
        self.point = ""
        self.reached = threading.Event()
        self._go_on = threading.Event()
        self._error: Exception | None = None

    def arm(self, point: str, error: Exception | None = None) -> None:
        """Holds the writer at a point; with an error, it then fails there, once."""
        self.point, self._error = point, error
        faults.arm(point, 1, self._stay)

    def _stay(self) -> None:
        self.reached.set()
        self._go_on.wait(TIMEOUT_SECONDS)
        if self._error is not None:
            faults.arm(self.point, sys.maxsize, lambda: None)
            raise self._error

    def let_go(self) -> None:
        self._go_on.set()


@asynchronous
async def test_uncommitted_records_are_invisible_and_unacknowledged(
    tmp_path: Path, held: Held
) -> None:
    async with opened(tmp_path) as journal:
        await append_one_by_one(journal, 3)
        held.arm("journal.mid-commit")
        appending = asyncio.create_task(journal.append(some_new_entries(2, 4)))
        waiting = asyncio.create_task(journal.wait_beyond(3))
        assert await asyncio.to_thread(held.reached.wait, TIMEOUT_SECONDS)
        await turns()
        assert not appending.done()
        assert not waiting.done()
        assert journal.head == 3
        assert [entry.position for entry in await journal.read(0, 100)] == [1, 2, 3]
        assert await journal.find(event_id(4)) is None
        assert [e.position for b in SqliteJournalSource(tmp_path).read_range(1, 9) for e in b] == [
            1,
            2,
            3,
        ]
        held.let_go()
        assert await appending == 5
        await waiting
        assert await journal.find(event_id(5)) == 5


@asynchronous
async def test_waiting_appends_are_committed_together_and_in_order(
    tmp_path: Path, held: Held
) -> None:
    async with opened(tmp_path, segment_bytes=1 << 30) as journal:
        held.arm("journal.mid-commit")
        first = asyncio.create_task(journal.append(some_new_entries(1)))
        assert await asyncio.to_thread(held.reached.wait, TIMEOUT_SECONDS)
        others = [
            asyncio.create_task(journal.append(some_new_entries(1, n))) for n in range(2, 200)
        ]
        await turns()
        held.let_go()
        assert await first == 1
        assert await asyncio.gather(*others) == list(range(2, 200))
        found = [entry.event_id for entry in await journal.read(0, 1_000)]
        assert found == [event_id(number) for number in range(1, 200)]


@pytest.mark.slow
@asynchronous
async def test_records_beyond_the_queue_are_refused_alone(tmp_path: Path, held: Held) -> None:
    small = NewEntry("recorder", a_new_entry().recorded_at, "1", "r", "Management", "id", b"{}")
    async with opened(tmp_path, segment_bytes=1 << 30) as journal:
        held.arm("journal.mid-commit")
        first = asyncio.create_task(journal.append([small]))
        assert await asyncio.to_thread(held.reached.wait, TIMEOUT_SECONDS)
        many = asyncio.create_task(journal.append([small] * QUEUE_RECORDS))
        await turns()
        with pytest.raises(RecordRefused, match="too many records"):
            await journal.append([small])
        assert journal.failure is None
        held.let_go()
        assert await first == 1
        assert await many == QUEUE_RECORDS + 1
        assert await journal.append([small]) == QUEUE_RECORDS + 2


@pytest.mark.slow
@asynchronous
async def test_more_bytes_than_the_queue_takes_are_refused(tmp_path: Path, held: Held) -> None:
    at = a_new_entry().recorded_at
    half = NewEntry("recorder", at, "1", "r", "Management", "id", b"x" * (QUEUE_BYTES // 2))
    async with opened(tmp_path, segment_bytes=1 << 30) as journal:
        held.arm("journal.mid-commit")
        first = asyncio.create_task(journal.append(some_new_entries(1)))
        assert await asyncio.to_thread(held.reached.wait, TIMEOUT_SECONDS)
        waiting = [asyncio.create_task(journal.append([half])) for _ in range(2)]
        await turns()
        with pytest.raises(RecordRefused, match="too many records"):
            await journal.append(some_new_entries(1, 2))
        for task in waiting:
            task.cancel()
        held.let_go()
        assert await first == 1


# Full, failing and damaged disks


@asynchronous
async def test_failed_batch_refuses_waiting_records(tmp_path: Path, held: Held) -> None:
    async with opened(tmp_path) as journal:
        held.arm("journal.mid-commit", sqlite3.OperationalError("database or disk is full"))
        first = asyncio.create_task(journal.append(some_new_entries(1)))
        assert await asyncio.to_thread(held.reached.wait, TIMEOUT_SECONDS)
        others = [asyncio.create_task(journal.append(some_new_entries(1, n))) for n in (2, 3)]
        await turns()
        held.let_go()
        for refused in (first, *others):
            with pytest.raises(RecordRefused, match="disk is full"):
                await refused
        await eventually(lambda: journal.failure is None)
        assert await journal.append(some_new_entries(1, 4)) == 1
        assert [entry.event_id for entry in await journal.read(0, 9)] == [event_id(4)]


FSYNC_PROGRAM = """
import asyncio, sys
from pathlib import Path
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.core.errors import RecordRefused
from tests.factories import a_new_entry, some_records

async def main():
    broken = asyncio.Event()
    reasons = []
    def on_broken(reason):
        reasons.append(reason)
        broken.set()
    journal = SqliteJournal(Path(sys.argv[1]), on_broken, int(sys.argv[2]))
    records = [a_new_entry(record) for record in some_records(60)]
    for record in records[:50]:
        try:
            print("acknowledged", await journal.append([record]), flush=True)
        except RecordRefused:
            break
    async with asyncio.timeout(60):
        await broken.wait()
    for record in records[50:]:
        try:
            await journal.append([record])
            print("acknowledged after the failure", flush=True)
        except RecordRefused:
            pass
    print("broken", len(reasons), bool(journal.failure), journal.head, flush=True)

asyncio.run(main())
"""


@pytest.mark.anomaly
@pytest.mark.slow
@pytest.mark.parametrize(
    ("nth", "of_folder", "segment_bytes"),
    [(20, False, 1 << 30), (33, False, 1 << 30), (2, True, TINY_SEGMENT)],
    ids=["20th", "33rd", "folder, for a new segment"],
)
def test_a_failed_sync_breaks_the_journal_permanently(
    tmp_path: Path, nth: int, of_folder: bool, segment_bytes: int
) -> None:
    """Only the `nth` sync fails; a later success must not be believed (guarantee D6)."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace, to make a sync fail")
    folder = tmp_path / "journal"
    folder.mkdir()
    inject = f"inject=fsync,fdatasync:error=EIO:when={nth}"
    only = ["-P", str(folder)] if of_folder else []
    done = subprocess.run(
        [
            *(strace, "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", "trace=fsync,fdatasync"),
            *(*only, "-e", inject, sys.executable, "-c", FSYNC_PROGRAM),
            *(str(folder), str(segment_bytes)),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if "INJECTED" not in (tmp_path / "trace").read_text():
        pytest.skip(f"strace may not trace here: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    *acknowledged, end = done.stdout.splitlines()
    count = len(acknowledged)
    assert acknowledged == [f"acknowledged {number}" for number in range(1, count + 1)]
    assert count < 50
    assert end == f"broken 1 True {count}"

    async def after() -> None:
        async with opened(folder) as journal:
            found = [entry.event_id for entry in await journal.read(0, 100)]
            assert found[:count] == [event_id(number) for number in range(1, count + 1)]
            assert len(found) <= count + 1
            assert await journal.append(some_new_entries(1, 500)) == len(found) + 1

    run(after())


# Sudden death

KILLED_PROGRAM = """
import asyncio, sys
from pathlib import Path
from opentrail.adapters.sqlite import SqliteJournal
from tests.factories import a_new_entry, a_record, event_id

async def client(journal, number):
    for count in range(1_000_000):
        name = event_id(number * 1_000_000 + count)
        position = await journal.append([a_new_entry(a_record(eventID=name))])
        sys.stdout.write(f"{position} {name}\\n")
        sys.stdout.flush()

async def main():
    journal = SqliteJournal(Path(sys.argv[1]), segment_bytes=int(sys.argv[2]))
    await asyncio.gather(*(client(journal, number) for number in range(20)))

asyncio.run(main())
"""


@pytest.mark.anomaly
@pytest.mark.parametrize("segment_bytes", [TINY_SEGMENT, 1 << 28])
def test_a_killed_process_loses_no_acknowledged_record(tmp_path: Path, segment_bytes: int) -> None:
    acknowledged: dict[int, str] = {}
    for lines in (150, 400):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED_PROGRAM, str(tmp_path), str(segment_bytes)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        assert child.stdout is not None
        with child:
            heard = [child.stdout.readline() for _ in range(lines)]
            child.send_signal(signal.SIGKILL)
            heard += child.stdout.readlines()
        for line in heard:
            if line.endswith("\n"):
                position, name = line.split()
                assert int(position) not in acknowledged
                acknowledged[int(position)] = name

    async def after() -> None:
        async with opened(tmp_path, segment_bytes) as journal:
            kept = await journal.read(0, 1_000_000)
            assert [entry.position for entry in kept] == list(range(1, journal.head + 1))
            ids = [entry.event_id for entry in kept]
            assert {position: ids[position - 1] for position in acknowledged} == acknowledged
            assert len(acknowledged) >= 550
            new = a_new_entry(a_record(eventID="after"))
            assert await journal.append([new]) == len(kept) + 1

    run(after())
    assert first_break_of_chain(tmp_path) is None


@asynchronous
async def test_error_of_the_writing_thread_ends_the_journal(
    tmp_path: Path,
) -> None:
    """Otherwise a thread that died silently would let every append wait forever."""
    broken: list[str] = []

    def fails(_position: int, _chain: bytes) -> None:
        raise OSError("the disk is gone")

    journal = SqliteJournal(tmp_path, broken.append, on_written=fails)
    for new in some_new_entries(2):
        with pytest.raises(RecordRefused, match="the disk is gone"):
            await asyncio.wait_for(journal.append([new]), TIMEOUT_SECONDS)
    assert journal.failure is not None
    assert "the disk is gone" in journal.failure
    assert len(broken) == 1
    await journal.close()
