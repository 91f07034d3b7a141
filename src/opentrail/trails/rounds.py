"""Work that is done again and again, and later after it failed (guarantee L4)."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from opentrail.core.errors import OpentrailError

log = logging.getLogger(__name__)

#: Longest pause between tries (guarantee L4).
LONGEST_PAUSE = 300.0


async def keep_on(
    work: Callable[[], Awaitable[bool]],
    wake: asyncio.Event,
    interval: float,
    about: dict[str, str],
) -> None:
    """Does `work` every `interval` seconds and whenever woken, until it returns False.

    An interval counts from one beginning to the next, however long the work takes. After failures
    the pauses grow to five minutes, and differ, so that tries spread.

    Args:
        work: one round; it raises an `OpentrailError` if it failed and is to be tried again.
        wake: set by whoever knows that there is something to do.
        interval: seconds.
        about: what a failure is logged with.
    """
    time = asyncio.get_running_loop().time
    failures, begun = 0, time()
    while True:
        pause = max(0.0, begun + interval - time())
        if failures:
            longest = min(LONGEST_PAUSE, max(interval, 1.0) * 2 ** min(failures, 9))
            pause = longest * random.uniform(0.5, 1)  # noqa: S311 - spreads tries, no secret
        try:
            async with asyncio.timeout(pause):
                await wake.wait()
        except TimeoutError:
            pass
        wake.clear()
        begun = time()
        try:
            if not await work():
                return
        except OpentrailError as error:
            failures += 1
            log.warning("delivery failed", extra={**about, "error": str(error)})
        except Exception:  # a mistake of ours must not end delivery for ever, nor go unseen
            failures += 1
            log.exception("delivery failed unexpectedly", extra=about)
        else:
            failures = 0
