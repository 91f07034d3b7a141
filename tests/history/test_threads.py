"""Threads for answers."""

from __future__ import annotations

import asyncio
import threading

from opentrail.history.threads import NEAREST, WHO, in_thread
from tests.fakes import TIMEOUT_SECONDS, asynchronous


@asynchronous
async def test_answers_use_no_thread_of_recording() -> None:
    end = threading.Event()
    answers = [asyncio.ensure_future(in_thread(end.wait, TIMEOUT_SECONDS)) for _ in range(100)]
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert await asyncio.to_thread(lambda: "recorded") == "recorded"
    assert not any(answer.done() for answer in answers)
    end.set()
    assert all(await asyncio.gather(*answers))


@asynchronous
async def test_slow_work_uses_no_thread_of_short_answers() -> None:
    end = threading.Event()
    work = [
        asyncio.ensure_future(in_thread(end.wait, TIMEOUT_SECONDS, pool=pool))
        for pool in (WHO, NEAREST) * 9
    ]
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert await in_thread(lambda: "answered") == "answered"
    assert not any(task.done() for task in work)
    end.set()
    assert all(await asyncio.gather(*work))
