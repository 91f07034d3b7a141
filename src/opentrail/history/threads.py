"""Threads that make answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

#: Apart from the threads of `asyncio.to_thread`: these record calls and read policies, and must not
#: wait until readers have their answers.
ANSWERS = ThreadPoolExecutor(4, "answers")
#: Reads the records of up to a thousand events, which takes seconds if they are large.
WHO = ThreadPoolExecutor(1, "who")
#: Compares names: callers choose them, and a thousand long ones take seconds.
NEAREST = ThreadPoolExecutor(1, "nearest")


async def in_thread(make: Callable[..., T], *arguments: object, pool: Executor = ANSWERS) -> T:
    """Returns the result of a function, so that the event loop does not wait for it."""
    return await asyncio.get_running_loop().run_in_executor(pool, make, *arguments)
