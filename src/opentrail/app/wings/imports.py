"""The wing that imports files of events, including files of this server's trails.

Events that the journal has lost stay in event history, or return from log files.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.api.services import Services
from opentrail.api.v1.administration import ImportedFiles
from opentrail.app.background import run_beside
from opentrail.app.known_positions import count_kept, mark_imports
from opentrail.app.wing import Core, Missing, Wing
from opentrail.capture.record.lost_records import kept_entry, regained_entry
from opentrail.core.errors import ObjectMissing, Unsupported
from opentrail.core.identity import DEFAULT_ACCOUNT
from opentrail.core.logfile import log_bytes, sha256_hex
from opentrail.core.logs import attempt
from opentrail.history.history_follower import HistoryFollower
from opentrail.imports.batch import BatchFile, pack
from opentrail.imports.service import Imports, OnRead
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Remove
from opentrail.ports.journal import Journal, JournalSource, LostPositions, append_once
from opentrail.ports.objects import ObjectStore
from opentrail.trails.comparison import REGAINED
from opentrail.trails.writing import MAX_LOG_BYTES, decompress

log = logging.getLogger(__name__)

#: Seconds between two checks for notes, even after a failure.
_NOTES_SECONDS = 5.0
#: Records of an import.
_RECORDS = 2_000
#: A position beyond any journal.
_END = 2**62
Take = Callable[[AsyncIterator[bytes]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class KeptHistory:
    """Preserves events in event history at positions that the journal lost with a restored backup.

    Such events are imported, as long as this server has them, and then forgotten at their
    positions: the journal would not return them at the next start. If several servers have an
    event, one imports it for all.

    Args:
        store: has them.
        follower: lets lookups wait during the import.
        source: gives the lost positions.
        journal: gets a record of the regained events.
        control: gets the number of regained events.
        clock: the time.
        node: the id of this server.
        take: imports the files of a body (imports/batch.py).
        account: returns the account of the record.
    """

    store: IpcEventStore
    follower: HistoryFollower
    source: JournalSource
    journal: Journal
    control: ControlStore
    clock: Clock
    node: str
    take: Take
    account: Callable[[], str] = lambda: DEFAULT_ACCOUNT
    _kept: set[LostPositions] = field(default_factory=set)

    async def run(self) -> None:
        """Preserves future and earlier losses."""
        is_failing = False
        while True:
            failure = "events lost by the journal are not imported yet"
            is_failing = not await attempt(self.work_off(), failure, is_known=is_failing)
            await asyncio.sleep(_NOTES_SECONDS)

    async def work_off(self) -> None:
        """Imports and forgets events of event history at lost positions.

        Raises:
            OpentrailError: something failed; the rest can be retried.
        """
        for lost in await asyncio.to_thread(self.source.restored_between, 1, _END):
            if lost in self._kept or lost.last is None:
                continue
            await self.follower.until_visible(lost.first - 1)
            files: dict[str, int] = {}
            with self.follower.paused():
                try:
                    files = await self._import(lost.first, lost.last)
                except Unsupported as error:
                    about = {"first": lost.first, "last": lost.last, "error": str(error)}
                    log.error("events lost by the journal cannot be saved", extra=about)
                await self.store.forget(lost.first, lost.last)
            if events := sum(files.values()):
                log.warning(
                    "saved events lost by the journal",
                    extra={"first": lost.first, "last": lost.last, "events": events},
                )
                await count_kept(self.control, lost.first, lost.last, files)
                entry = kept_entry(lost, events, self.node, self.clock.now(), self.account())
                await append_once(self.journal, entry)
            self._kept.add(lost)

    async def _import(self, first: int, last: int) -> dict[str, int]:
        """Imports the events of event history at positions.

        Returns digests of files that had new events, with their numbers; also of a file that
        another server has just imported.
        """
        after, files = first - 1, dict[str, int]()
        while records := await self.store.records(after, _RECORDS, last):
            after = records[-1][0]
            content = log_bytes(record for _, record in records)
            name = f"event history of {self.node}, positions {records[0][0]} to {after}.json"
            outcome = await _imported(self.take, name, content)
            if outcome["imported"]:
                files[sha256_hex(content)] = outcome["imported"]
            if outcome["rejected"]:
                about = {"file": name, "rejected": outcome["rejected"]}
                log.error("events lost by the journal cannot be imported", extra=about)
        return files


async def _imported(take: Take, name: str, content: bytes) -> dict[str, Any]:
    """Returns the outcome of the import of a file."""
    body = pack([BatchFile(name, content)])

    async def chunks() -> AsyncIterator[bytes]:
        yield body

    (outcome,) = (await take(chunks()))["files"]
    result: dict[str, Any] = outcome
    return result


@dataclass(frozen=True, slots=True)
class Regaining:
    """Imports the log files that trails have noted; trails never deliver imported events."""

    control: ControlStore
    objects: ObjectStore
    journal: Journal
    clock: Clock
    #: Imports the files of a body (imports/batch.py).
    take: Take
    #: Returns the account of the record.
    account: Callable[[], str] = lambda: DEFAULT_ACCOUNT

    async def run(self) -> None:
        """Processes notes as they arrive; retries failed ones."""
        while True:
            await attempt(self.work_off(), "log files cannot be read into event history yet")
            await asyncio.sleep(_NOTES_SECONDS)

    async def work_off(self) -> None:
        """Imports the files of all notes, and records the losses of each.

        Raises:
            OpentrailError: something failed; the rest can be retried.
        """
        for note in await self.control.scan(REGAINED):
            unread = [
                file["key"] for file in note.document["files"] if not await self._import(file)
            ]
            entry = regained_entry(
                note.key, note.document, unread, self.clock.now(), self.account()
            )
            await append_once(self.journal, entry)
            about = {
                "trail": note.document["trail"],
                "events": note.document["events"],
                "files": len(note.document["files"]),
                "unread": unread,
            }
            log.warning("imported lost events from log files", extra=about)
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
        name = f"s3://{file['bucket']}/{file['key']}"
        try:
            return not (await _imported(self.take, name, packed))["rejected"]
        except Unsupported:  # several servers share the journal
            return False


def start(core: Core) -> Wing:
    """Imports files over the API, and lost events from log files that trails have noted."""
    engines = core.engines
    imports = Imports(
        core.data.history,
        engines.source,
        engines.store,
        partial(mark_imports, engines.control),
        engines.site.imports,
    )
    core.stack.push_async_callback(imports.close)

    async def take(body: AsyncIterator[bytes], on_read: OnRead | None = None) -> dict[str, Any]:
        """Imports files; refuses without event history here, or if others would miss the events."""
        await engines.site.require_importable()
        return await imports.take(body, on_read)

    regaining = Regaining(
        core.worker_control, core.objects, core.worker_journal, engines.clock, take, core.account
    )

    if engines.site.keeps_history:
        kept = KeptHistory(
            engines.store,
            engines.history.follower,
            engines.source,
            engines.journal,
            engines.control,
            engines.clock,
            engines.inventory.installation,
            take,
            core.account,
        )
        run_beside(core.stack, kept.run())

    async def regain() -> None:
        """Begins once event history has everything in the journal."""
        await engines.history.follower.until_visible(engines.journal.head)
        await regaining.run()

    def groups(_services: Services, _missing: Missing) -> Sequence[object]:
        return (ImportedFiles(take),)

    return Wing(groups=groups, followers=(regain,))
