"""Tasks that run beside a server until it stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from opentrail.core.errors import OpentrailError

log = logging.getLogger(__name__)


def run_beside(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine until the stack closes; an exception that ends it earlier is logged."""
    task = asyncio.ensure_future(work)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    task.add_done_callback(_log_failure)
    stack.push_async_callback(end)


async def attempt(work: Awaitable[object], failure: str) -> None:
    """Awaits work that its caller repeats; an exception is logged with the text `failure`."""
    try:
        await work
    except (OpentrailError, OSError) as error:
        log.warning(failure, extra={"error": str(error)})
    except Exception:  # a bug must neither end the task nor go unnoticed
        log.exception(failure)


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("a task ended unexpectedly", exc_info=task.exception())
