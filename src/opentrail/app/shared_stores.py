"""Files of event data stores in S3, written by the worker of a cluster and read by every server.

The control store lists the files of each store; the end of its list is the store's cursor. The
worker writes new and merged files in a folder of its disk, uploads them, and changes the list in
one transaction with the store's document. Objects that are no longer listed stay for an hour,
because queries may read them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from opentrail.adapters.duckdb.children import files_of_child
from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.adapters.sealed_file_names import (
    STORES,
    SealedFile,
    Series,
    expired_name,
    read_name,
    sealed_files,
)
from opentrail.adapters.store_folders import (
    REPLACED_SECONDS,
    StoreFolders,
    next_merge,
    publish_table,
)
from opentrail.app.shared_files import SharedFiles, index_name, key_of, listed, to_list
from opentrail.core.errors import (
    Conflict,
    ObjectStoreError,
    OpentrailError,
    QueryFailed,
    StorageFailed,
    Unsupported,
    UsageError,
)
from opentrail.core.event import format_time, parse_time
from opentrail.core.event_data_store import EventDataStore
from opentrail.core.faults import crash_point
from opentrail.lake.store_registry import KIND
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put, Remove, StoreWrite
from opentrail.ports.event_store import SharedFile
from opentrail.ports.journal import JournalSource
from opentrail.ports.queries import LogFile, LogFileOutcome

log = logging.getLogger(__name__)

#: Kind of the documents that list the files; a key is the id of the store and the first position.
STORE_FILE = "event-data-store-file"
#: Kind of the documents of objects that are no longer listed, by name.
REPLACED = "event-data-store-replaced"
#: The folder of the stores' Iceberg tables.
_TABLES = "iceberg/"
#: Number of files that are merged: each file in S3 costs a query a request.
_MERGED_FILES = 8
#: Maximum bytes of a merged file: an upload has the whole file in memory.
_MERGED_BYTES = 64 << 20
#: Time between two comparisons of objects with their list.
_COMPARE_INTERVAL = timedelta(hours=1)


class SharedStoreFiles:
    """A `StoreFiles` in S3. Only the worker changes it.

    Args:
        files: the place in S3.
        control: lists the files.
        own: the folder of stores that this server had before the cluster.
        journal: has the events.
        repair: returns once the journal has repaired the damage between two positions.
        clock: the time.
        access: returns PyIceberg's properties for S3.
    """

    takes_log_files = False

    def __init__(
        self,
        files: SharedFiles,
        control: ControlStore,
        own: Path,
        journal: JournalSource,
        repair: Callable[[int, int], Awaitable[None]],
        clock: Clock,
        access: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._files = files
        self._control = control
        self._own = own
        self._journal = journal
        #: Where files are made; emptied for each.
        self._folder = own.with_name("shared-stores")
        self._folders = StoreFolders(self._folder, journal, repair)
        self._clock = clock
        self._access = access
        #: Id of a store → when its objects were last compared with their list.
        self._compared: dict[str, datetime] = {}

    async def covered(self, store: EventDataStore) -> int:
        """Returns the last position whose events are in S3."""
        return _end_of(await files_of(self._control, store), store)

    async def tend(self, store: EventDataStore, until: int, since: datetime) -> None:
        """Returns once a store's files in S3 have its events up to a position.

        It also merges files, unlists those with older events, and deletes unlisted objects.
        """
        try:
            await self._take_over(store)
            await self._compare(store)
            await self._write(store, until, since)
            await self._merge(store)
            await self._expire(store, since)
            await self._delete_replaced()
        except (OSError, RuntimeError, TimeoutError, ObjectStoreError, UsageError) as error:
            raise StorageFailed(f"event data store {store.name}: {error}") from error
        except Conflict as error:
            raise StorageFailed(f"event data store {store.name} was changed meanwhile") from error
        finally:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _take_over(self, store: EventDataStore) -> None:
        """Uploads the files that this server had of a store before the cluster.

        Raises:
            StorageFailed: the store has files, but not here, or newer ones.
        """
        if await files_of(self._control, store):
            return
        begin = _end_of([], store)
        if await asyncio.to_thread(_own_files, self._own / store.id, Series.IMPORTED):
            raise StorageFailed("it has imported events, which no store of a cluster can have yet")
        own = await asyncio.to_thread(_own_files, self._own / store.id)
        end = own[-1].last if own else begin
        if end + 1 < await asyncio.to_thread(self._journal.first_position):
            raise StorageFailed(
                f"its first files are not in S3: copy the folder stores/{store.id} of the server "
                "that had them"
            )
        if own:
            now = self._clock.now()
            new = [await self._upload(store, file, now, begin) for file in own]
            await self._change(store, [], new)
            await asyncio.to_thread(shutil.rmtree, self._own / store.id)

    async def _write(self, store: EventDataStore, until: int, since: datetime) -> None:
        """Writes, uploads and lists the files of the positions behind the listed ones."""
        files = await files_of(self._control, store)
        end = _end_of(files, store)
        if until <= end:
            return
        folder = await self._emptied(store)
        if end:
            (folder / expired_name(Series.JOURNAL, 1, end)).touch(mode=0o600)
        await self._folders.tend(store, until, since)
        made = await asyncio.to_thread(sealed_files, folder, Series.JOURNAL)
        now = self._clock.now()
        new = [await self._upload(store, file, now, end) for file in made if file.last > end]
        await self._change(store, files, [*files, *new])

    async def _emptied(self, store: EventDataStore) -> Path:
        """Returns the empty folder in which files of a store are made."""
        folder = self._folder / store.id
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        return folder

    async def _upload(
        self, store: EventDataStore, file: SealedFile, listed_at: datetime, end: int = 0
    ) -> SharedFile:
        """Uploads a file and its index; returns the file as listed. A mark needs no upload.

        Each upload has a new name: the object of an interrupted one may be deleted at any time.
        """
        if file.is_expired:
            return SharedFile(max(file.first, end + 1), file.last, None, listed_at)
        unique = file.path.with_stem(f"{file.path.stem}-{secrets.token_hex(8)}").name
        return await self._uploaded(file, f"{STORES}{store.id}/{unique}", listed_at)

    async def _uploaded(self, file: SealedFile, name: str, listed_at: datetime) -> SharedFile:
        size = file.path.stat().st_size
        await self._files.upload(file.path, name)
        index = await self._files.upload_index(file.path, name)
        crash_point("store.uploaded")
        return SharedFile(file.first, file.last, name, listed_at, index, size)

    async def _merge(self, store: EventDataStore) -> None:
        """Replaces adjacent files of similar size by larger ones."""
        while True:
            files = await files_of(self._control, store)
            named = [file for file in files if file.name is not None]
            parts = named[next_merge([file.bytes for file in named], _MERGED_FILES, _MERGED_BYTES)]
            if not parts:
                return
            folder = await self._emptied(store)
            for name in (str(part.name) for part in parts):
                content = await self._files.content(name)
                await asyncio.to_thread((folder / Path(name).name).write_bytes, content)
            paths = [folder / Path(str(part.name)).name for part in parts]
            (made,) = await files_of_child("merge-store", *paths)
            merged = await self._upload(store, made, parts[-1].listed)
            before = [file for file in files if file.last < merged.first]
            after = [file for file in files if file.first > merged.last]
            await self._change(store, files, [*before, merged, *after])

    async def _expire(self, store: EventDataStore, since: datetime) -> None:
        """Unlists the oldest files if their newest events, listed soon after, have expired."""
        files = await files_of(self._control, store)
        expired = 0
        while expired < len(files) and files[expired].listed < since:
            expired += 1
        if any(file.name for file in files[:expired]):
            last = files[expired - 1]
            mark = SharedFile(files[0].first, last.last, None, last.listed)
            await self._change(store, files, [mark, *files[expired:]])

    async def _change(
        self, store: EventDataStore, old: Sequence[SharedFile], new: Sequence[SharedFile]
    ) -> None:
        """Replaces the list of a store's files, unless the store has changed.

        The store's document gets a new version: a concurrent change of its selectors, which would
        be in effect from an earlier position on, fails and is repeated.

        Raises:
            Conflict: the store has changed.
        """
        current = await self._control.get(KIND, store.key)
        if current is None or EventDataStore.from_document(current.document) != store:
            raise Conflict(store.key)
        kept, prefix = _joined(new), f"{store.id}/"
        names, firsts = {file.name for file in kept}, {file.first for file in kept}
        replaced = [file for file in old if file.name not in names]
        note = {"since": format_time(self._clock.now())}
        changes: list[StoreWrite] = [
            Put(KIND, store.key, current.document, expected=current.version),
            *(
                Remove(STORE_FILE, prefix + key_of(file))
                for file in old
                if file.first not in firsts
            ),
            *(to_list(STORE_FILE, file, prefix) for file in kept if file not in old),
            *(Put(REPLACED, name, note) for file in replaced for name in _objects_of(file)),
        ]
        await self._control.apply(changes)
        crash_point("store.listed")

    async def _delete_replaced(self) -> None:
        """Deletes objects that have not been listed for as long as a query may run."""
        now = self._clock.now()
        for stored in await self._control.scan(REPLACED):
            if (now - parse_time(stored.document["since"])).total_seconds() >= REPLACED_SECONDS:
                await self._files.delete(stored.key)
                await self._control.apply([Remove(REPLACED, stored.key)])

    async def _compare(self, store: EventDataStore) -> None:
        """Compares a store's objects with their list, hourly.

        Unlisted objects are from an interrupted worker, and are deleted an hour later. But after a
        restore of the control store from an older backup, the list lacks newer files: merged ones,
        whose parts were deleted, and those of positions that the restored journal has lost.
        """
        now, folder = self._clock.now(), f"{STORES}{store.id}/"
        if (last := self._compared.get(store.id)) and now - last < _COMPARE_INTERVAL:
            return
        present = await self._files.present(folder)
        files = await files_of(self._control, store)
        unlisted = present - {name for file in files for name in _objects_of(file)}
        unlisted -= {one.key for one in await self._control.scan(REPLACED, folder)}
        found = [file for name in unlisted if (file := read_name(Path(name))) is not None]
        for file in sorted(found, key=lambda one: (one.first, -one.last)):
            if await self._is_lacking(store, files, file, present):
                again = await self._listed_again(store, files, file)
                files = await files_of(self._control, store)
                unlisted -= set(_objects_of(again))
        if any(file.name and file.name not in present for file in files):
            log.error("files of an event data store are missing", extra={"store": store.name})
        elif unlisted:
            document = {"since": format_time(now)}
            await self._control.apply([Put(REPLACED, name, document) for name in sorted(unlisted)])
        self._compared[store.id] = now

    async def _is_lacking(
        self, store: EventDataStore, files: list[SharedFile], file: SealedFile, present: set[str]
    ) -> bool:
        """Returns whether an unlisted file must replace its part of the list, or continue it."""
        end = _end_of(files, store)
        parts = _parts_of(files, file)
        is_whole = (parts[0].first if parts else end + 1) == file.first and (
            file.last > end or parts[-1].last == file.last
        )
        if not is_whole:
            return False
        if any(part.name and part.name not in present for part in parts):
            return True
        lost = self._journal.restored_between
        return file.last > end and bool(await asyncio.to_thread(lost, end + 1, file.last))

    async def _listed_again(
        self, store: EventDataStore, files: list[SharedFile], file: SealedFile
    ) -> SharedFile:
        path = await self._emptied(store) / file.path.name
        name = f"{STORES}{store.id}/{path.name}"
        content = await self._files.content(name)
        await asyncio.to_thread(path.write_bytes, content)
        parts = _parts_of(files, file)
        listed_at = parts[-1].listed if parts else self._clock.now()
        again = await self._uploaded(replace(file, path=path), name, listed_at)
        kept = [one for one in files if one not in parts]
        await self._change(store, files, sorted([*kept, again], key=lambda one: one.first))
        log.warning("a file of an event data store is listed again", extra={"file": path.name})
        return again

    async def add(
        self,
        store: EventDataStore,
        until: int,
        files: Sequence[LogFile],
        between: tuple[datetime, datetime],
    ) -> list[LogFileOutcome]:
        """Refuses: an event that is in S3 already would be added again."""
        raise Unsupported("imports into event data stores of a cluster")

    def table(self, store: EventDataStore) -> str:
        """Returns the address of a store's Iceberg table."""
        return self._files.address_of(f"{_TABLES}{store.id}")

    async def publish(self, store: EventDataStore) -> None:
        """Returns once a store's Iceberg table has its files."""
        files = await files_of(self._control, store)
        addresses = [self._files.address_of(file.name) for file in files if file.name is not None]
        try:
            await publish_table(self.table(store), store.family, addresses, self._access())
        except (OSError, RuntimeError, TimeoutError) as error:
            raise StorageFailed(f"event data store {store.name}: {error}") from error

    async def unpublish(self, store: EventDataStore) -> None:
        """Returns once a store has no Iceberg table."""
        await self._delete(store, f"{_TABLES}{store.id}/")

    async def _delete(self, store: EventDataStore, folder: str) -> None:
        try:
            for name in sorted(await self._files.present(folder)):
                await self._files.delete(name)
        except ObjectStoreError as error:
            raise StorageFailed(f"event data store {store.name}: {error}") from error

    async def remove(self, store: EventDataStore) -> None:
        """Returns once a store's files are unlisted and deleted."""
        await self.unpublish(store)
        await self._delete(store, f"{STORES}{store.id}/")
        files = await files_of(self._control, store)
        await self._control.apply(
            [Remove(STORE_FILE, f"{store.id}/{key_of(file)}") for file in files]
        )


async def files_of(control: ControlStore, store: EventDataStore) -> list[SharedFile]:
    """Returns the files of a store in order; those without a name have no events."""
    return await listed(control, STORE_FILE, f"{store.id}/")


async def require_no_stores(control: ControlStore) -> None:
    """Returns if there are no event data stores.

    Raises:
        UsageError: their files have no place.
    """
    if await control.scan(KIND):
        raise UsageError("the cluster has event data stores: start each server with --files")


async def readable_files(control: ControlStore) -> list[str]:
    """Returns the names of all files that queries may read."""
    names = [file.name for file in await listed(control, STORE_FILE) if file.name is not None]
    replaced = [one.key for one in await control.scan(REPLACED)]
    return [*names, *(name for name in replaced if not name.endswith(".index"))]


def _parts_of(files: Sequence[SharedFile], file: SealedFile) -> list[SharedFile]:
    """Returns the listed files with positions of another file."""
    return [one for one in files if file.first <= one.last and one.first <= file.last]


def _own_files(folder: Path, series: Series = Series.JOURNAL) -> list[SealedFile]:
    return sealed_files(folder, series) if folder.is_dir() else []


def _end_of(files: Sequence[SharedFile], store: EventDataStore) -> int:
    begin = store.phases[0].after if store.phases else 0
    return files[-1].last if files else begin


def _objects_of(file: SharedFile) -> list[str]:
    """Returns the names of a file and its index in S3."""
    if file.name is None:
        return []
    return [file.name, *([index_name(file.name, file.index)] if file.index else [])]


def _joined(files: Iterable[SharedFile]) -> list[SharedFile]:
    """Returns files in order; adjacent ones without events are one."""
    joined: list[SharedFile] = []
    for file in files:
        if joined and file.name is None and joined[-1].name is None:
            joined[-1] = SharedFile(joined[-1].first, file.last, None, file.listed)
        else:
            joined.append(file)
    return joined


class FilesOfQueries:
    """`QueriedFiles` in S3, whose blocks the event history process caches.

    Args:
        files: the place in S3.
        control: lists the files of event data stores.
        events: downloads blocks; has the list of event history's files, if they are cached.
        is_cached: whether event history reads its files in S3 through the cache, too.
    """

    def __init__(
        self, files: SharedFiles, control: ControlStore, events: IpcEventStore, *, is_cached: bool
    ) -> None:
        self._files = files
        self._control = control
        self._events = events
        self._is_cached = is_cached

    async def current(self, stores: Iterable[EventDataStore]) -> dict[str, Any]:
        """Returns the files, once their indexes are in the cache folder."""
        found: dict[str, list[SharedFile]] = {}
        try:
            named = list(stores)
            if named:
                await self._files.find_indexes()
            for store in named:
                found[store.id] = await files_of(self._control, store)
                for file in found[store.id]:
                    if file.name is not None:
                        await self._files.fetch_index(file.name, file.index)
        except (OSError, OpentrailError) as error:
            raise QueryFailed(f"files of event data stores cannot be read: {error}") from error
        return {
            "cache": str(self._files.cache),
            "shared_stores": {store_id: _parts(files) for store_id, files in found.items()},
            "shared_history": _parts(self._events.shared) if self._is_cached else None,
        }

    async def fetch(self, name: str, number: int) -> None:
        """Returns once a block is in the cache folder."""
        await self._events.fetch_block(name, number)


def _parts(files: Iterable[SharedFile]) -> list[tuple[int, int, str | None]]:
    return [(file.first, file.last, file.name) for file in files]
