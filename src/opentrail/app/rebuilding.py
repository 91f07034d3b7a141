"""Restores what a lost control store had and the journal has: trails.

Identities that records teach are learned again by the server itself, at its next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from opentrail.adapters.control_store import SqlControl
from opentrail.adapters.duckdb.calls_at_rest import calls_of
from opentrail.adapters.files import DataDirectory
from opentrail.adapters.system import SystemClock
from opentrail.app.inventory import standing_of
from opentrail.core.trail import Trail
from opentrail.ports.control import Put
from opentrail.ports.journal import JournalSource
from opentrail.trails.registry import key_of
from opentrail.trails.restored_trails import TrailRebuilding

_SOURCE = "cloudtrail.amazonaws.com"


async def rebuild_trails(data: DataDirectory, journal: JournalSource) -> list[Trail]:
    """Adds the trails to `state.db` that it lacks and recorded calls have made; returns them.

    No server may run at the same time: the directory is locked.

    Args:
        data: the data directory.
        journal: its journal.

    Raises:
        DataDirectoryInUse: a server runs.
        StorageFailed: something cannot be read or written.
    """
    data.open()
    try:
        standing = await standing_of(data, None, is_live=False)
        settings = standing.inventory.trails if standing.inventory else {}
        trails = await asyncio.to_thread(_trails, data, journal, settings, standing.written)
        control = SqlControl.in_file(data.state)
        try:
            keys = {stored.key for stored in await control.scan("trail")}
            new = [trail for trail in trails if key_of(trail) not in keys]
            puts = [Put("trail", key_of(trail), trail.document(), expected=0) for trail in new]
            await control.apply(puts)
        finally:
            await control.close()
    finally:
        data.close()
    return new


def _trails(
    data: DataDirectory,
    journal: JournalSource,
    settings: Mapping[str, Mapping[str, Any]],
    last: int,
) -> list[Trail]:
    rebuilding = TrailRebuilding(settings)
    for position, record in calls_of(journal, data.history, _SOURCE):
        rebuilding.add(position, record)
        last = max(last, position)
    return rebuilding.trails(last, SystemClock().now())
