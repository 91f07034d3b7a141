"""Events that the journal has lost come back into event history from trails' log files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from opentrail.capture.record.losses import regained_entry
from opentrail.core.errors import ObjectMissing, Unsupported
from opentrail.core.logfile import sha256_hex
from opentrail.imports.batch import BatchFile, pack
from opentrail.logs import attempt
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Remove
from opentrail.ports.journal import Journal, append_once
from opentrail.ports.objects import ObjectStore
from opentrail.trails.comparison import REGAINED
from opentrail.trails.writing import MAX_LOG_BYTES, decompress

log = logging.getLogger(__name__)

#: Seconds between two checks for notes, also after a failure.
_EVERY = 5.0
Take = Callable[[AsyncIterator[bytes]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Regaining:
    """Imports the log files that trails have noted; trails never deliver imported events."""

    control: ControlStore
    objects: ObjectStore
    journal: Journal
    clock: Clock
    #: Imports the files of a body (imports/batch.py).
    take: Take

    async def run(self) -> None:
        """Works off notes as they come; retries those that fail."""
        while True:
            await attempt(self.work_off(), "log files cannot be read into event history yet")
            await asyncio.sleep(_EVERY)

    async def work_off(self) -> None:
        """Imports the files of all notes, and records for each of them what was lost.

        Raises:
            OpentrailError: something failed; what is left can be tried again.
        """
        for note in await self.control.scan(REGAINED):
            unread = [
                file["key"] for file in note.document["files"] if not await self._import(file)
            ]
            entry = regained_entry(note.key, note.document, unread, self.clock.now())
            await append_once(self.journal, entry)
            about = {
                "trail": note.document["trail"],
                "events": note.document["events"],
                "files": len(note.document["files"]),
                "unread": unread,
            }
            log.warning("event history has the events of log files again", extra=about)
            await self.control.apply([Remove(REGAINED, note.key)])

    async def _import(self, file: dict[str, str]) -> bool:
        """Imports a log file; returns whether it was intact, and imported completely."""
        try:
            packed = await self.objects.get(file["bucket"], file["key"])
            content = await asyncio.to_thread(decompress, packed, MAX_LOG_BYTES)
        except (ObjectMissing, ValueError):
            return False
        if sha256_hex(content) != file["sha256"]:
            return False
        body = pack([BatchFile(f"s3://{file['bucket']}/{file['key']}", packed)])

        async def chunks() -> AsyncIterator[bytes]:
            yield body

        try:
            (outcome,) = (await self.take(chunks()))["files"]
        except Unsupported:  # several servers share the journal
            return False
        return not outcome["rejected"]
