"""Running followers: each reads the journal in order and keeps its own place."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence
from typing import Protocol

from opentrail.core.errors import OpentrailError
from opentrail.core.event import Entry
from opentrail.ports.journal import Journal

log = logging.getLogger(__name__)

BATCH = 5_000
_LONGEST_PAUSE = 30.0
#: After a batch a follower rests so many times as long as it worked: a batch costs nearly the same
#: whatever its size, so few large ones leave the processor to the calls. But the next batch begins
#: at most so long after the one before it began, unless the follower lingers for longer.
_REST, _LONGEST_ROUND = 8.0, 0.1


class Follower(Protocol):
    """Takes batches of the journal; the same batch may come twice."""

    @property
    def name(self) -> str:
        """What it is called in logs and metrics."""
        ...

    async def place(self) -> int:
        """Return the position behind which it wants to go on."""
        ...

    async def take(self, entries: Sequence[Entry]) -> None:
        """Return once the entries are dealt with, so that the place may move."""
        ...


async def follow(
    journal: Journal,
    follower: Follower,
    linger: float = 0.0,
    hurry: asyncio.Event | None = None,
) -> None:
    """Feeds `follower` for ever; a batch that fails is tried again, never left out.

    Args:
        journal: what is followed.
        follower: who follows.
        linger: seconds to let records gather once one has come, so that batches are worth it.
        hurry: ends a rest as soon as it is set, for somebody waits for the follower, or it has lost
            its place.
    """
    hurry = hurry or asyncio.Event()
    loop = asyncio.get_running_loop()
    place, failures = await follower.place(), 0
    while True:
        try:
            if failures:
                place = await follower.place()  # it may have lost what it held in memory
            entries = await journal.read(place, BATCH)
            if not entries:
                await _more(journal, place, hurry)
                place = await follower.place()  # it may have lost what it held in memory
                await _rest(hurry, linger)
                continue
            started = loop.time()
            await follower.take(entries)
        except (OpentrailError, OSError) as error:
            failures += 1
            pause = min(_LONGEST_PAUSE, 0.1 * 2 ** min(failures, 10)) * random.uniform(0.5, 1)  # noqa: S311
            log.warning(
                "follower failed, trying again",
                extra={"follower": follower.name, "after": place, "error": str(error)},
            )
            await asyncio.sleep(pause)
            continue
        except Exception:  # a mistake of ours must not end a follower for ever, nor go unseen
            failures += 1
            about = {"follower": follower.name, "after": place}
            log.exception("follower failed unexpectedly, trying again", extra=about)
            await asyncio.sleep(_LONGEST_PAUSE)
            continue
        place, failures = entries[-1].position, 0
        if len(entries) < BATCH:
            took = loop.time() - started
            await _rest(hurry, max(0.0, linger - took, min(_LONGEST_ROUND - took, _REST * took)))


async def _more(journal: Journal, place: int, hurry: asyncio.Event) -> None:
    """Returns once there is a record behind a place, or somebody is in a hurry."""
    waits = [
        asyncio.ensure_future(journal.wait_beyond(place)),
        asyncio.ensure_future(hurry.wait()),
    ]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if waits[0].done():
            waits[0].result()
    finally:
        for wait in waits:
            wait.cancel()


async def _rest(hurry: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await hurry.wait()
    hurry.clear()
