"""Background tasks end with the server, and log their failures."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

import pytest

from opentrail.app.background import run_beside
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
async def test_failed_task_is_logged_and_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work() -> None:
        raise KeyError("a mistake")

    async with AsyncExitStack() as stack:
        run_beside(stack, work())
        await turns()
        assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
        assert "a mistake" in caplog.text
