"""Threads in which answers are made."""

from __future__ import annotations

import asyncio
import threading

from opentrail.api.v1.threads import in_thread
from tests.fakes import TIMEOUT_SECONDS, asynchronous


@asynchronous
async def test_answers_take_no_thread_of_what_records_calls() -> None:
    end = threading.Event()
    answers = [asyncio.ensure_future(in_thread(end.wait, TIMEOUT_SECONDS)) for _ in range(100)]
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert await asyncio.to_thread(lambda: "recorded") == "recorded"
    assert not any(answer.done() for answer in answers)
    end.set()
    assert all(await asyncio.gather(*answers))
