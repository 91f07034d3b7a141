"""A control store that only the holder of a lease can change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from opentrail.adapters.postgres.database import FencedControl, PostgresLeases, SharedDatabase
from opentrail.adapters.postgres.schema import create_tables
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.core.errors import Conflict, LeaseLost
from opentrail.ports.control import Put, Remove
from tests.fakes import asynchronous
from tests.postgres import shared_server


@asynccontextmanager
async def stores(seconds: float) -> AsyncIterator[tuple[PostgresLeases, list[FencedControl]]]:
    """Yields leases of this length, and the stores of two processes."""
    url = shared_server().new_database()
    database = SharedDatabase(url)
    await database.run(create_tables)
    leases = PostgresLeases(database, seconds)
    controls = [SqlControl(url) for _ in range(2)]
    yield leases, [FencedControl(control, leases) for control in controls]
    for control in controls:
        await control.close()
    await database.close()


@asynchronous
async def test_only_the_holder_changes_documents() -> None:
    async with stores(seconds=3_600.0) as (leases, (one, other)):
        put = Put("trail", "x", {"n": 1}, expected=0)
        with pytest.raises(LeaseLost):
            await one.apply([put])
        one.lease = await leases.acquire("worker", "one")
        await one.apply([put, Put("plan", "x", {})])
        with pytest.raises(Conflict):
            await one.apply([Remove("plan", "x"), put])
        await one.close()
        stored = await other.get("trail", "x")
        assert stored is not None
        assert stored.document == {"n": 1}
        assert [found.key for found in await other.scan("plan")] == ["x"]
        assert set(await other.get_each(["trail", "plan"], "x")) == {"trail", "plan"}


@asynchronous
async def test_a_holder_that_resumes_too_late_changes_nothing() -> None:
    async with stores(seconds=0.0) as (leases, (one, other)):
        one.lease = await leases.acquire("worker", "one")
        await one.apply([Put("trail", "x", {"by": "one"})])
        other.lease = await leases.acquire("worker", "other")
        with pytest.raises(LeaseLost):
            await one.apply([Put("trail", "x", {"by": "one, late"})])
        await other.apply([Put("trail", "y", {"by": "other"})])
        by = [stored.document["by"] for stored in await one.scan("trail")]
        assert by == ["one", "other"]
