"""PostgreSQL's primary dies, its synchronous standby is promoted, and the journal continues."""

from __future__ import annotations

import asyncio

import pytest

from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.core.errors import RecordRefused
from opentrail.ports.journal import JournalEngine
from tests.factories import event_id, some_new_entries
from tests.fakes import TIMEOUT_SECONDS, asynchronous, eventually
from tests.postgres import database_in, primary_and_standby

pytestmark = [pytest.mark.anomaly, pytest.mark.slow]


@asynchronous
async def test_promoted_standby_has_every_acknowledged_record_once() -> None:
    with primary_and_standby() as (primary, standby):
        database = database_in(primary.new_database())
        url = f"postgresql://trusted@/{database}?host={primary.folder},{standby.folder}"
        journals = [PostgresJournal(url) for _ in range(2)]
        await eventually(lambda: journals[0].engine == JournalEngine("postgresql", True))
        acknowledged: dict[str, int] = {}
        is_over = asyncio.Event()

        async def append(number: int) -> None:
            while not is_over.is_set():
                number += 10
                try:
                    position = await journals[number % 2].append(some_new_entries(1, number))
                except RecordRefused:
                    continue
                acknowledged[event_id(number)] = position

        async def more() -> None:
            """Returns once 50 more records are acknowledged."""
            count = len(acknowledged) + 50
            await eventually(lambda: len(acknowledged) >= count)

        appending = [asyncio.create_task(append(number)) for number in range(10)]
        await more()
        await asyncio.to_thread(primary.stop, "immediate")
        await asyncio.to_thread(standby.promote)
        await more()
        is_over.set()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await asyncio.gather(*appending)
        await journals[0].newest()  # the other one may have ordered the last batch
        entries = await journals[0].read(0, 1_000_000)
        assert [entry.position for entry in entries] == list(range(1, len(entries) + 1))
        positions = {entry.event_id: entry.position for entry in entries}
        assert len(positions) == len(entries)
        assert acknowledged.items() <= positions.items()
        await eventually(lambda: journals[0].engine == JournalEngine("postgresql", False))
        for journal in journals:
            await journal.close()
