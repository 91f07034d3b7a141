"""Tasks that run with a server until it stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from opentrail.core.logs import attempt
from opentrail.ports.control import Lease, Leases

log = logging.getLogger(__name__)

#: Seconds between two renewals of a lease.
_RENEW_SECONDS = 1.5


def run_beside(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine until the stack closes; logs an exception that ends it earlier."""
    task = asyncio.ensure_future(work)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    task.add_done_callback(_log_failure)
    stack.push_async_callback(end)


async def renew_until_lost(leases: Leases, lease: Lease) -> None:
    """Renews a lease until another process has it; retries failed renewals."""
    is_held = True

    async def renew() -> None:
        nonlocal is_held
        is_held = await leases.renew(lease)

    while is_held:
        await asyncio.sleep(_RENEW_SECONDS)
        await attempt(renew(), "a lease was not renewed", lease=lease.name)


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("a task ended unexpectedly", exc_info=task.exception())
