"""Restores what a lost control store had and the journal has: trails.

Identities that records teach are learned again by the server itself, at its next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from opentrail.adapters.duckdb.calls_at_rest import calls_of
from opentrail.adapters.files import DataDirectory
from opentrail.adapters.sql import SqlControl
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.adapters.system import SystemClock
from opentrail.app.inventory import standing_of
from opentrail.app.journals import require_engine
from opentrail.core.trail import Trail
from opentrail.ports.control import Put
from opentrail.settings import Settings
from opentrail.trails.rebuilding import TrailRebuilding
from opentrail.trails.registry import key_of

_SOURCE = "cloudtrail.amazonaws.com"


async def rebuild_trails(data: DataDirectory) -> list[Trail]:
    """Adds the trails to `state.db` that it lacks and recorded calls have made; returns them.

    No server may run at the same time: the directory is locked.

    Raises:
        DataDirectoryInUse: a server runs.
        UsageError: the journal is not in files.
        StorageFailed: something cannot be read or written.
    """
    require_engine(Settings(), data)
    data.open()
    try:
        standing = await standing_of(data, None, is_live=False)
        settings = standing.inventory.trails if standing.inventory else {}
        trails = await asyncio.to_thread(_trails, data, settings, standing.written)
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
    data: DataDirectory, settings: Mapping[str, Mapping[str, Any]], last: int
) -> list[Trail]:
    rebuilding = TrailRebuilding(settings)
    for position, record in calls_of(SqliteJournalSource(data.journal), data.history, _SOURCE):
        rebuilding.add(position, record)
        last = max(last, position)
    return rebuilding.trails(last, SystemClock().now())
