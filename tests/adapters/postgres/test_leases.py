"""Leases on PostgreSQL, with paused holders and lost connections."""

from __future__ import annotations

import asyncio
import threading

import pytest

from opentrail.adapters.postgres.database import PostgresLeases, SharedDatabase
from opentrail.adapters.postgres.schema import create_tables
from opentrail.adapters.sql.databases import Transaction
from opentrail.core.errors import StorageFailed
from opentrail.ports.control import Lease
from tests.fakes import TIMEOUT_SECONDS, asynchronous
from tests.postgres import shared_server


@pytest.mark.campaign
@pytest.mark.slow
@asynchronous
async def test_a_paused_transaction_of_a_holder_is_ended() -> None:
    """PostgreSQL ends its transaction, and with it the lock of the lease."""
    url = shared_server().new_database()
    databases = [SharedDatabase(url) for _ in range(2)]
    await databases[0].run(create_tables)
    one, other = (PostgresLeases(database, 0.0) for database in databases)
    lease = await one.acquire("sequencer", "a")
    assert lease is not None
    holder = lease
    is_fenced, may_wake = threading.Event(), threading.Event()

    def paused(transaction: Transaction) -> None:
        one.fence(transaction, holder)
        is_fenced.set()
        may_wake.wait(TIMEOUT_SECONDS)
        transaction.change("DELETE FROM opentrail.lease")

    working = asyncio.create_task(databases[0].run(paused, TIMEOUT_SECONDS))
    await asyncio.to_thread(is_fenced.wait, TIMEOUT_SECONDS)
    taken: Lease | None = None
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while taken is None:
            try:
                taken = await other.acquire("sequencer", "b")
            except StorageFailed:
                continue  # it has waited for the lock until the statement timeout
    may_wake.set()
    with pytest.raises(StorageFailed):
        await working
    assert await other.renew(taken)
    for database in databases:
        await database.close()
