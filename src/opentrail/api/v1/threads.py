"""Threads in which answers are made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

#: Apart from those of `asyncio.to_thread`: calls are recorded and policies are read in those, which
#: must not wait until readers have their answers.
_THREADS = ThreadPoolExecutor(4, "answers")


async def in_thread(make: Callable[..., T], *arguments: object) -> T:
    """Returns the result of a function, so that the event loop does not wait for it."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, make, *arguments)
