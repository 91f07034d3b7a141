"""The folders of event data stores, whose files child processes write."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import orjson

from opentrail.adapters.duckdb.children import run_child
from opentrail.adapters.files import sync_folder, write_durably
from opentrail.adapters.sealed_file_names import read_name
from opentrail.core.errors import JournalDamaged, StorageFailed
from opentrail.core.event import micros
from opentrail.core.event_data_store import EventDataStore
from opentrail.ports.journal import JournalSource

log = logging.getLogger(__name__)

#: The file with a store's document, in its folder.
SETTINGS = "store.json"


class StoreFolders:
    """A `StoreFiles` with a folder per store.

    Args:
        root: the folder of the folders.
        journal: has the events.
        repair: returns once the journal has repaired the damage between two positions.
    """

    def __init__(
        self, root: Path, journal: JournalSource, repair: Callable[[int, int], Awaitable[None]]
    ) -> None:
        self._root = root
        self._journal = journal
        self._repair = repair

    async def covered(self, store: EventDataStore) -> int:
        """Returns the last position whose events are durable in a store's files."""
        try:
            return await asyncio.to_thread(covered, self._root / store.id, store)
        except OSError as error:
            raise StorageFailed(f"event data store {store.name}: {error}") from error

    async def tend(self, store: EventDataStore, until: int, since: datetime) -> None:
        """Returns once a store's files are durable up to a position; deletes older events."""
        folder = self._root / store.id
        try:
            await asyncio.to_thread(self._prepare, folder, store)
            first = await self.covered(store) + 1
            try:
                await self._run(folder, until, since)
            except JournalDamaged:
                await self._repair(first, until)
                await self._run(folder, until, since)
        except (OSError, RuntimeError, TimeoutError) as error:
            raise StorageFailed(f"event data store {store.name}: {error}") from error

    async def _run(self, folder: Path, until: int, since: datetime) -> None:
        arguments = (self._journal.address, folder, until, micros(since))
        for mark in await run_child("store", *arguments, environment=self._journal.environment):
            log.error(
                "the journal no longer has positions that an event data store needs",
                extra={"store": folder.name, "mark": mark.name},
            )

    def _prepare(self, folder: Path, store: EventDataStore) -> None:
        """Makes a store's folder with its current settings."""
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for parent in (self._root, self._root.parent):
                sync_folder(parent)
        settings, content = folder / SETTINGS, orjson.dumps(store.document())
        if not settings.exists() or settings.read_bytes() != content:
            write_durably(settings, content)

    async def remove(self, store: EventDataStore) -> None:
        """Returns once a store's files are deleted."""
        try:
            await asyncio.to_thread(self._remove, self._root / store.id)
        except OSError as error:
            raise StorageFailed(f"event data store {store.name}: {error}") from error

    def _remove(self, folder: Path) -> None:
        if folder.is_dir():
            shutil.rmtree(folder)
            sync_folder(self._root)


def covered(folder: Path, store: EventDataStore) -> int:
    """Returns the last position whose events are in a store's folder."""
    names = map(read_name, folder.iterdir()) if folder.is_dir() else ()
    begin = store.phases[0].after if store.phases else 0
    return max((file.last for file in names if file is not None), default=begin)
