"""The journal on PostgreSQL: several processes, lost connections, servers that die."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest

from opentrail.adapters.postgres import journal as module
from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.adapters.sql.databases import Transaction
from opentrail.core.errors import (
    JournalDamaged,
    LeaseLost,
    RecordRefused,
    StorageFailed,
    StoreUnreachable,
)
from opentrail.core.event import Entry
from opentrail.ports.control import Lease
from opentrail.ports.journal import QUEUE_RECORDS, LostPositions
from tests.factories import a_new_entry, event_id, some_new_entries
from tests.fakes import TIMEOUT_SECONDS, asynchronous, eventually
from tests.postgres import PostgresServer, database_in, own_server, shared_server

pytestmark = pytest.mark.slow

#: Ends all connections of the journals of a database.
_TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'opentrail'"
)
#: Another process has the lease of the sequencer, and orders nothing.
_PAUSE = (
    "INSERT INTO opentrail.lease VALUES ('sequencer', 'paused', 100, 'infinity') ON CONFLICT"
    " (name) DO UPDATE SET holder = 'paused', epoch = 100, until = 'infinity'"
)
_RESUME = "UPDATE opentrail.lease SET until = '-infinity'"
#: Like a backup of a few days ago.
_DROP_PARTITIONS = """
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT tablename FROM pg_tables WHERE tablename ~ '^batch_[0-9]{8}$' LOOP
            EXECUTE 'DROP TABLE opentrail.' || name;
        END LOOP;
    END $$
"""
_COUNT = "SELECT count(*) FROM opentrail.batch"


@asynccontextmanager
async def opened(*urls: str, **options: Any) -> AsyncIterator[list[PostgresJournal]]:
    """Opens the journal of each URL, like separate processes."""
    journals = [PostgresJournal(url, **options) for url in urls]
    try:
        yield journals
    finally:
        for journal in journals:
            await journal.close()


def execute(url: str, statement: str, server: PostgresServer | None = None) -> list[Any]:
    return (server or shared_server()).execute(database_in(url), statement)


@contextmanager
def locked_leases(url: str) -> Iterator[None]:
    """Holds the locks of all leases, so that every sequencer waits."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT * FROM opentrail.lease FOR UPDATE")
        yield


async def everything(journal: PostgresJournal) -> list[Entry]:
    """Returns all entries, including durable ones that this journal has not read yet."""
    entries: list[Entry] = []
    while part := await journal.read(entries[-1].position if entries else 0, 1_000):
        entries += part
    return entries


async def append_while(
    journal: PostgresJournal, first: int, count: int, disturb: Callable[[], object], every: int
) -> list[tuple[int, int]]:
    """Appends records one after the other, with disturbances; returns number and position."""
    acknowledged = []
    for number in range(first, first + count):
        if number % every == 0:
            await asyncio.to_thread(disturb)
        acknowledged.append((number, await journal.append(some_new_entries(1, number))))
    return acknowledged


@asynchronous
async def test_a_failed_fence_fails_only_its_append() -> None:
    url = shared_server().new_database()

    def refuse(_transaction: Transaction) -> None:
        raise LeaseLost("another process has it")

    async with opened(url) as (journal,):
        done = await asyncio.gather(
            journal.append(some_new_entries(1, 1)),
            journal.append_fenced(some_new_entries(1, 2), refuse),
            journal.append(some_new_entries(1, 3)),
            journal.append_fenced(some_new_entries(1, 4), lambda _transaction: None),
            return_exceptions=True,
        )
        assert [type(result) for result in done] == [int, LeaseLost, int, int]
        assert journal.failure is None
        ids = [entry.event_id for entry in await everything(journal)]
        assert ids == [event_id(1), event_id(3), event_id(4)]


@asynchronous
async def test_concurrent_appends_respect_the_order_of_real_time() -> None:
    url = shared_server().new_database()
    async with opened(url, url, url) as (one, other, reader):
        ended: list[int] = []
        numbers = iter(range(1, 1_000))

        async def append(journal: PostgresJournal) -> None:
            for _ in range(40):
                # Earlier acknowledgements have lower positions than this call.
                before = max(ended, default=0)
                count = random.choice([1, 1, 3])
                entries = [
                    entry for _ in range(count) for entry in some_new_entries(1, next(numbers))
                ]
                position = await journal.append(entries)
                assert position - count >= before
                ended.append(position)

        await asyncio.gather(*(append(journal) for journal in (one, other, one, other)))
        head = max(ended)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while reader.head < head:
                await reader.wait_beyond(reader.head)
        entries = await everything(reader)
        assert [entry.position for entry in entries] == list(range(1, head + 1))
        assert len({entry.event_id for entry in entries}) == head
        assert sorted(ended) == sorted(set(ended))
        assert await everything(one) == await everything(other) == entries


@pytest.mark.campaign
@asynchronous
async def test_repeatedly_closed_connections_lose_and_double_no_record() -> None:
    url = shared_server().new_database()
    async with opened(url, url) as journals:
        parts = await asyncio.gather(
            *(
                append_while(journal, 1 + 1_000 * number, 40, lambda: execute(url, _TERMINATE), 5)
                for number, journal in enumerate(journals)
            )
        )
        acknowledged = {event_id(number): position for part in parts for number, position in part}
        entries = await everything(journals[0])
        assert {entry.event_id: entry.position for entry in entries} == acknowledged
        assert len(entries) == 80


@asynchronous
async def test_durable_records_survive_lost_connections() -> None:
    url = shared_server().new_database()
    async with opened(url) as (journal,):
        assert await journal.newest() == 0
        await journal.append(some_new_entries(3))
        execute(url, _TERMINATE)
        assert await journal.newest() == 3


@asynchronous
async def test_an_insert_without_acknowledgement_is_stored_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection ends after the commit; the insert is repeated with the same id."""
    url = shared_server().new_database()
    async with opened(url) as (journal,):
        run = journal._inserts.run
        lost: list[Any] = []

        async def run_and_lose(work: Any, seconds: float = 1.0) -> Any:
            result = await run(work)
            if not lost:
                lost.append(result)
                raise StoreUnreachable("the answer was lost")
            return result

        monkeypatch.setattr(journal._inserts, "run", run_and_lose)
        assert await journal.append(some_new_entries(3)) == 3
        assert await journal.append(some_new_entries(1, 4)) == 4
        assert len(lost) == 1
        assert [e.event_id for e in await everything(journal)] == [
            event_id(n) for n in (1, 2, 3, 4)
        ]


@pytest.mark.campaign
@pytest.mark.slow
@asynchronous
async def test_a_crashed_server_has_every_record_once() -> None:
    with own_server() as server:
        url = server.new_database()

        def crash() -> None:
            server.stop("immediate")
            server.start()

        async with opened(url, url) as journals:
            acknowledged = await append_while(journals[0], 1, 30, crash, 10)
            acknowledged += await append_while(journals[1], 31, 30, crash, 10)
            entries = await everything(journals[1])
            assert {e.event_id: e.position for e in entries} == {
                event_id(number): position for number, position in acknowledged
            }
        async with opened(url) as (again,):
            assert again.head == 60
            assert await again.append(some_new_entries(1, 61)) == 61


@pytest.mark.slow
@asynchronous
async def test_records_are_refused_until_the_server_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_INSERT_SECONDS", 0.5)
    with own_server() as server:
        url = server.new_database()
        async with opened(url) as (journal,):
            assert await journal.append(some_new_entries(1)) == 1
            server.stop("immediate")
            with pytest.raises(RecordRefused, match="cannot be written"):
                await journal.append(some_new_entries(1, 2))
            assert journal.failure is not None
            with pytest.raises(RecordRefused):
                await journal.append(some_new_entries(1, 3))
            server.start()
            await eventually(lambda: journal.failure is None)
            assert await journal.append(some_new_entries(1, 4)) == 2
            assert [e.event_id for e in await everything(journal)] == [event_id(1), event_id(4)]


@asynchronous
async def test_another_process_orders_batches_without_the_sequencer() -> None:
    url = shared_server().new_database()
    async with opened(url, url, lease_seconds=1.0) as (one, other):
        assert await one.append(some_new_entries(1)) == 1
        assert await other.append(some_new_entries(1, 2)) == 2
        # It ended without releasing its lease.
        gone, left = (one, other) if one._sequencer.is_holder else (other, one)
        gone._over.set()
        await gone._ordering
        assert await left.append(some_new_entries(1, 3)) == 3
        assert left._sequencer.is_holder


@asynchronous
async def test_durable_records_get_positions_after_restart() -> None:
    url = shared_server().new_database()
    async with opened(url) as (journal,):
        await journal.append(some_new_entries(2))
        journal._over.set()  # stops the ordering
        await journal._ordering
        journal._polling.cancel()
        appending = asyncio.create_task(journal.append(some_new_entries(3, 3)))
        unordered = "SELECT count(*) FROM opentrail.batch WHERE first IS NULL"
        await eventually(lambda: execute(url, unordered) == [(1,)])
        appending.cancel()
        journal._unordered.clear()
    async with opened(url) as (again,):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await again.wait_beyond(4)
        assert [e.event_id for e in await everything(again)] == [event_id(n) for n in range(1, 6)]


@asynchronous
async def test_damaged_batch_is_reported_and_the_rest_read() -> None:
    url = shared_server().new_database()
    reported: list[LostPositions] = []
    async with opened(url, on_lost=reported.append) as (journal,):
        for number in range(1, 13, 3):
            await journal.append(some_new_entries(3, number))
        execute(url, "UPDATE opentrail.batch SET body = '\\x01aa' WHERE first = 4")
        with pytest.raises(JournalDamaged):
            journal.source.read(1, 12)
        await journal.keep_checking()
        assert journal.is_checked
        assert [(run.first, run.last) for run in reported] == [(4, 6)]
        assert journal.lost == reported
        assert [e.position for e in await everything(journal)] == [1, 2, 3, *range(7, 13)]
        assert [e.position for e in await journal.read(3, 2)] == [7]
        assert [e.position for e in await journal.read(3, 1)] == [7]
        assert await journal.append(some_new_entries(1, 13)) == 13
    async with opened(url) as (again,):
        assert [(run.first, run.last) for run in again.lost] == [(4, 6)]


@asynchronous
async def test_a_deleted_batch_is_lost() -> None:
    url = shared_server().new_database()
    async with opened(url) as (journal,):
        for number in range(1, 7, 2):
            await journal.append(some_new_entries(2, number))
        execute(url, "DELETE FROM opentrail.batch WHERE first >= 3")
        assert [e.position for e in await everything(journal)] == [1, 2]
        assert [(run.first, run.last) for run in journal.lost] == [(3, 6)]


@pytest.mark.campaign
@asynchronous
async def test_records_beyond_the_queue_are_refused_alone() -> None:
    url = shared_server().new_database()
    async with opened(url) as (journal,):
        entry = a_new_entry()
        appending = [
            asyncio.ensure_future(journal.append([entry] * (QUEUE_RECORDS // 2))) for _ in range(4)
        ]
        answers = await asyncio.gather(*appending, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, RecordRefused)]
        assert refused
        assert journal.head == (4 - len(refused)) * (QUEUE_RECORDS // 2)


@asynchronous
async def test_records_without_position_refuse_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As during a pause of another process's sequencer."""
    url = shared_server().new_database()
    async with opened(url) as (journal,):
        execute(url, _PAUSE)
        await journal.write(some_new_entries(1))
        waiting = asyncio.create_task(journal.append(some_new_entries(1, 2)))
        await eventually(lambda: execute(url, _COUNT) == [(2,)])
        # PostgreSQL has committed it; the journal learns of it a little later.
        await eventually(lambda: journal.backlog_seconds == 0)
        monkeypatch.setattr(module, "MAX_ORDER_SECONDS", 0.2)
        await eventually(lambda: journal.failure)
        assert journal.backlog_seconds == 0
        with pytest.raises(RecordRefused, match="no position"):
            await journal.append(some_new_entries(1, 3))
        with pytest.raises(StorageFailed, match="no positions"):
            await journal.newest()
        execute(url, _RESUME)
        assert await waiting == 2
        assert await journal.newest() == 2
        assert journal.failure is None
        assert await journal.append(some_new_entries(1, 4)) == 3


@asynchronous
async def test_journal_ordered_elsewhere_rarely_asks_for_the_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = shared_server().new_database()
    async with opened(url, url) as (one, other):
        assert await one.append(some_new_entries(1)) == 1
        attempts = []
        acquire = other._sequencer._leases.acquire

        async def count(name: str, holder: str) -> Lease | None:
            attempts.append(name)
            return await acquire(name, holder)

        monkeypatch.setattr(other._sequencer._leases, "acquire", count)
        began = asyncio.get_running_loop().time()
        for number in range(2, 42):
            await other.append(some_new_entries(1, number))
        seconds = asyncio.get_running_loop().time() - began
        assert await one.newest() == other.head == 41
        assert len(attempts) <= seconds + 1


@asynchronous
async def test_lost_positions_are_not_reused() -> None:
    """As after promoting a standby without the last commits."""
    url = shared_server().new_database()
    async with opened(url, url) as (one, other):
        for number in range(1, 6):
            await one.append(some_new_entries(1, number))
        await eventually(lambda: other.head == 5)
        execute(url, "DELETE FROM opentrail.batch WHERE first > 3")
        execute(url, "UPDATE opentrail.journal SET position = 3")
        await eventually(lambda: any(run.covers(4, 5) for run in other.lost))
        assert await other.append(some_new_entries(1, 6)) == 6


@pytest.mark.parametrize("lose", ["DELETE FROM opentrail.batch", _DROP_PARTITIONS])
@asynchronous
async def test_durable_batches_missing_after_a_promotion_are_reinserted(lose: str) -> None:
    url = shared_server().new_database()
    async with opened(url) as (journal,):
        execute(url, _PAUSE)
        await journal.write(some_new_entries(2))
        waiting = asyncio.create_task(journal.append(some_new_entries(1, 3)))
        await eventually(lambda: execute(url, _COUNT) == [(2,)])
        execute(url, lose)
        execute(url, _RESUME)
        assert await waiting == 3
        await eventually(lambda: not journal._unordered)
        assert await journal.append(some_new_entries(1, 4)) == 4
        assert [e.event_id for e in await everything(journal)] == [
            event_id(number) for number in (1, 2, 3, 4)
        ]


@asynchronous
async def test_batch_missing_after_a_promotion_needs_its_lease() -> None:
    url = shared_server().new_database()
    calls = []

    def accept_once(_transaction: Transaction) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise LeaseLost("another process has it")

    async with opened(url) as (journal,):
        execute(url, _PAUSE)
        waiting = asyncio.create_task(journal.append_fenced(some_new_entries(1), accept_once))
        await eventually(lambda: execute(url, _COUNT) == [(1,)])
        execute(url, "DELETE FROM opentrail.batch")
        with pytest.raises(LeaseLost):
            await waiting
        execute(url, _RESUME)
        assert await journal.append(some_new_entries(1, 2)) == 1
        assert [entry.event_id for entry in await everything(journal)] == [event_id(2)]


@asynchronous
async def test_batch_with_a_position_may_lose_its_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer to its insert was lost; at the repetition another server has the lease."""
    url = shared_server().new_database()
    async with opened(url) as (journal,):
        run = journal._inserts.run
        calls = []

        async def lose_answer(work: Callable[[Transaction], None]) -> None:
            await run(work)
            calls.append(work)
            if len(calls) == 1:
                await eventually(lambda: not journal._unordered)
                raise StoreUnreachable("the connection was lost")

        def accept_once(_transaction: Transaction) -> None:
            if calls:
                raise LeaseLost("another process has it")

        monkeypatch.setattr(journal._inserts, "run", lose_answer)
        assert await journal.append_fenced(some_new_entries(1), accept_once) == 1
        assert await journal.append(some_new_entries(1, 2)) == 2


@asynchronous
async def test_missing_partitions_of_a_restored_server_are_recreated() -> None:
    url = shared_server().new_database()
    async with opened(url) as (journal,):
        assert await journal.append(some_new_entries(1)) == 1
        execute(url, _DROP_PARTITIONS)
        with pytest.raises(RecordRefused, match="no partition"):
            await journal.append(some_new_entries(1, 2))
        await eventually(lambda: journal.failure is None)
        assert await journal.append(some_new_entries(1, 3)) == 2


@asynchronous
async def test_records_of_a_newer_version_are_verified_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.05)
    url = shared_server().new_database()
    async with opened(url) as (journal,):
        await journal.append(some_new_entries(2))
        change = "UPDATE opentrail.batch SET body = set_byte(body, 0, {})"
        execute(url, change.format(2))
        checking = asyncio.create_task(journal.keep_checking())
        await eventually(lambda: checking.done() or "upgrade" in (journal.unverified or ""))
        execute(url, change.format(1))
        await checking
        assert journal.unverified is None
        assert journal.lost == []


@pytest.mark.campaign
@pytest.mark.slow
@asynchronous
async def test_records_are_refused_while_commits_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_INSERT_SECONDS", 0.5)
    monkeypatch.setattr(module, "MAX_ORDER_SECONDS", 1.0)
    with own_server() as server:
        url = server.new_database()
        async with opened(url) as (journal,):
            run = journal._inserts.run
            monkeypatch.setattr(journal._inserts, "run", partial(run, seconds=1.0))
            assert await journal.append(some_new_entries(1)) == 1
            server.set("synchronous_standby_names", "nobody")
            acknowledged = [event_id(1)]

            async def append_more() -> None:
                while True:  # the server must read the setting
                    number = len(acknowledged) + 1
                    await journal.append(some_new_entries(1, number))
                    acknowledged.append(event_id(number))

            # The insert or the sequencer waits for the standby: whichever reads the setting first.
            with pytest.raises(RecordRefused, match=r"cannot be written|have no position"):
                await append_more()
            assert journal.failure is not None
            with pytest.raises(RecordRefused):
                await journal.append(some_new_entries(1, 10_000))
            server.set("synchronous_standby_names", "")
            await eventually(lambda: journal.failure is None)
            await journal.append(some_new_entries(1, 10_001))
            event_ids = [entry.event_id for entry in await everything(journal)]
            assert len(event_ids) == len(set(event_ids))
            assert set(acknowledged) <= set(event_ids)


@asynchronous
async def test_no_records_need_no_batch() -> None:
    url = shared_server().new_database()
    async with opened(url) as (journal,):
        assert await journal.append([]) == 0
        assert await journal.append(some_new_entries(2)) == 2
        assert await journal.append([]) == 2


@asynchronous
async def test_a_refused_record_may_get_a_position_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = shared_server().new_database()
    async with opened(url) as (journal,):
        assert await journal.append(some_new_entries(1)) == 1
        with monkeypatch.context() as limits, locked_leases(url):
            limits.setattr(module, "MAX_INSERT_SECONDS", 1.5)
            limits.setattr(module, "MAX_ORDER_SECONDS", 0.5)
            with pytest.raises(RecordRefused, match="have no position"):
                await journal.append(some_new_entries(1, 2))
        await eventually(lambda: journal.head == 2 and journal.failure is None)
        assert await journal.append(some_new_entries(1, 3)) == 3
        assert [entry.event_id for entry in await everything(journal)] == [
            event_id(number) for number in (1, 2, 3)
        ]


#: A disk with space for a row and without space for a batch.
_FILL_DISK = """
    CREATE FUNCTION opentrail.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF octet_length(NEW.body) > 1000 THEN
            RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER full_disk BEFORE INSERT ON opentrail.batch
        FOR EACH ROW EXECUTE FUNCTION opentrail.full_disk()
"""
_PROBED = "SELECT ctid::text FROM opentrail.version"


@asynchronous
async def test_full_disk_fails_until_a_batch_fits() -> None:
    url = shared_server().new_database()
    database = database_in(url)
    async with opened(url) as (journal,):
        for statement in _FILL_DISK.split(";\n    CREATE TRIGGER"):
            part = statement if "FUNCTION opentrail.full_disk() RETURNS" in statement else ""
            text = part or f"CREATE TRIGGER{statement}"
            shared_server().execute(database, text)
        with pytest.raises(RecordRefused):
            await journal.append(some_new_entries(50))
        for _ in range(3):
            before = shared_server().execute(database, _PROBED)

            def is_probed(before: object = before) -> bool:
                return shared_server().execute(database, _PROBED) != before

            await eventually(is_probed)
            assert journal.failure is not None
        shared_server().execute(database, "DROP TRIGGER full_disk ON opentrail.batch")
        await eventually(lambda: journal.failure is None)
        assert await journal.append(some_new_entries(50)) == 50
        assert shared_server().execute(database, _COUNT) == [(1,)]
