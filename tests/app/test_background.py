"""Tasks beside a server: they end with it, and none fails unseen."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

import pytest

from opentrail.app.background import attempt, run_beside
from opentrail.core.errors import StorageFailed
from tests.fakes import asynchronous, turns


@asynchronous
async def test_a_task_runs_until_the_stack_closes(caplog: pytest.LogCaptureFixture) -> None:
    seen = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")

    async with AsyncExitStack() as stack:
        stack.callback(seen.append, "what it needs is closed")
        run_beside(stack, work())
        await turns()
        assert seen == []
    assert seen == ["ended", "what it needs is closed"]
    assert not caplog.records


@asynchronous
async def test_a_task_that_fails_is_logged_and_ends_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work() -> None:
        raise KeyError("a mistake")

    async with AsyncExitStack() as stack:
        run_beside(stack, work())
        await turns()
        assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
        assert "a mistake" in caplog.text


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (StorageFailed("a full disk"), logging.WARNING),
        (OSError("a full disk"), logging.WARNING),
        (KeyError("a full disk"), logging.ERROR),
    ],
)
@asynchronous
async def test_work_that_is_repeated_may_fail_and_says_why(
    caplog: pytest.LogCaptureFixture, error: Exception, level: int
) -> None:
    async def work() -> None:
        raise error

    await attempt(work(), "it failed")
    (record,) = caplog.records
    assert (record.message, record.levelno) == ("it failed", level)
    assert "a full disk" in (caplog.text if level == logging.ERROR else record.error)  # type: ignore[attr-defined]
