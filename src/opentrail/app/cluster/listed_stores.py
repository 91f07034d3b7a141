"""Files of event data stores, which the control store lists: in the data directory, or in S3.

The end of a store's list is its cursor. New and merged files are made in a folder of the disk,
brought to their place, and listed in one transaction with the store's document; only then they
count. Files that are no longer listed stay for an hour, because queries may read them. In S3, the
worker of a cluster writes and every server reads.
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
from typing import Any, Protocol, TypeVar

from opentrail.adapters.data_directory.sealed_file_names import (
    STORES,
    SealedFile,
    Series,
    expired_name,
    read_name,
    sealed_files,
    stem_of,
)
from opentrail.adapters.duckdb.store_folders import StoreMaker, next_merge, publish_table
from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.app.cluster.shared_files import SharedFiles, index_name, key_of, listed, to_list
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
T = TypeVar("T")

#: Kinds of the documents that list files; a key is the id of the store and the first position, or
#: the number of the first copied event.
STORE_FILE, IMPORTED_STORE_FILE = "event-data-store-file", "event-data-store-import"
_KINDS = {Series.JOURNAL: STORE_FILE, Series.IMPORTED: IMPORTED_STORE_FILE}
#: Kind of the documents of files that are no longer listed, by name.
REPLACED = "event-data-store-replaced"
#: Seconds for which these files stay: longer than any query.
REPLACED_SECONDS = 3_900
#: The folder of the stores' Iceberg tables.
_TABLES = "iceberg/"
#: Time between two comparisons of files with their list.
_COMPARE_INTERVAL = timedelta(hours=1)


class StorePlace(Protocol):
    """Where the files of stores are.

    Attributes:
        is_shared: whether several servers read them.
        merged_files, merged_bytes: adjacent files of similar size to merge, and the maximum bytes
            of the result: each file costs a query some time.
    """

    is_shared: bool
    merged_files: int
    merged_bytes: int

    async def upload(self, path: Path, name: str) -> None:
        """Bring a file there, durably."""
        ...

    async def upload_index(self, path: Path, name: str) -> str | None:
        """Bring the index of a file there; return its SHA-256, None if there are no indexes."""
        ...

    async def local_copy(self, name: str, folder: Path) -> Path:
        """Return a verified file on the disk, in a folder if it is not there already."""
        ...

    async def present(self, folder: str = "") -> set[str]:
        """Return the names that start with a folder."""
        ...

    async def damaged(self, names: Iterable[str]) -> set[str]:
        """Return the names of files that differ from the hash in their name, if known."""
        ...

    async def delete(self, name: str) -> None:
        """Return once there is no such file."""
        ...

    def address_of(self, name: str) -> str:
        """Return the address of a file."""
        ...


class ListedStoreFiles:
    """A `StoreFiles` with lists in the control store.

    Args:
        files: the place.
        control: lists the files.
        own: the folder of stores in the data directory.
        maker: makes files.
        journal: has the events.
        clock: the time.
        access: returns PyIceberg's properties for the place.
        scope: begins the keys of the lists, if other servers have other ones.
    """

    def __init__(
        self,
        files: StorePlace,
        control: ControlStore,
        own: Path,
        maker: StoreMaker,
        journal: JournalSource,
        clock: Clock,
        access: Callable[[], Mapping[str, str]] = dict,
        scope: str = "",
    ) -> None:
        self._files = files
        self._control = control
        self._own = own
        self._maker = maker
        self._journal = journal
        self._clock = clock
        self._access = access
        self._scope = scope
        self.takes_log_files = maker.takes_log_files and not files.is_shared
        #: Held while files are made.
        self._turn = asyncio.Lock()
        #: Id of a store → when its files were last compared with their list.
        self._compared: dict[str, datetime] = {}
        #: Id of a store → the problems of its files.
        self._problems: dict[str, list[str]] = {}

    @property
    def problems(self) -> list[str]:
        """Missing, damaged and unlisted files of all stores."""
        return [problem for found in self._problems.values() for problem in found]

    async def _listed(
        self, store: EventDataStore, series: Series = Series.JOURNAL
    ) -> list[SharedFile]:
        return await files_of(self._control, store, series, self._scope)

    async def covered(self, store: EventDataStore) -> int:
        """Returns the last position whose events are in listed files."""
        return _end_of(await self._listed(store), store)

    async def tend(self, store: EventDataStore, until: int, since: datetime) -> None:
        """Returns once a store's files have its events up to a position.

        It also compares and merges files, unlists those with older events, and deletes unlisted
        ones.
        """

        async def bring_up_to_date() -> None:
            await self._write(store, until)
            for series in Series:
                await self._merge(store, series)
                await self._expire(store, series, since)
            await self._delete_replaced()

        await self._with_files(store, bring_up_to_date)

    async def _with_files(self, store: EventDataStore, work: Callable[[], Awaitable[T]]) -> T:
        """Does work on a store's files, after their comparison with the list."""
        async with self._turn:
            try:
                await self._take_over(store)
                await self._compare(store)
                return await work()
            except (OSError, RuntimeError, TimeoutError, ObjectStoreError, UsageError) as error:
                raise StorageFailed(f"event data store {store.name}: {error}") from error
            except Conflict as error:
                message = f"event data store {store.name} was changed meanwhile"
                raise StorageFailed(message) from error
            finally:
                await self._maker.clear()

    async def _take_over(self, store: EventDataStore) -> None:
        """Lists the files that this server has of a store, from before there were lists.

        Raises:
            StorageFailed: the store has files, but not here, or newer ones.
        """
        own = self._own / store.id
        for series in (Series.IMPORTED, Series.JOURNAL):
            if await self._listed(store, series):
                continue
            files = await asyncio.to_thread(_own_files, own, series)
            if self._files.is_shared:
                await self._require_complete(store, series, files)
            if files:
                now = self._clock.now()
                new = [await self._upload(store, file, now) for file in files]
                await self._change(store, series, [], new)
                if self._files.is_shared:
                    await asyncio.to_thread(shutil.rmtree, own)

    async def _require_complete(
        self, store: EventDataStore, series: Series, own: Sequence[SealedFile]
    ) -> None:
        if series is Series.IMPORTED and own:
            raise StorageFailed("it has imported events, which no store of a cluster can have yet")
        end = own[-1].last if own else _end_of([], store)
        first = await asyncio.to_thread(self._journal.first_position)
        if series is Series.JOURNAL and end + 1 < first:
            raise StorageFailed(
                f"its first files are not in S3: copy the folder stores/{store.id} of the server "
                "that had them"
            )

    async def _write(self, store: EventDataStore, until: int) -> None:
        """Writes and lists the files of the positions behind the listed ones."""
        files = await self._listed(store)
        first = _end_of(files, store) + 1
        if until < first:
            return
        now, new = self._clock.now(), list[SharedFile]()
        kept = await asyncio.to_thread(self._journal.first_position)
        if first < kept:
            lost = SharedFile(first, min(kept - 1, until), None, now, is_lost=True)
            log.error(
                "the journal no longer has positions that an event data store needs",
                extra={"store": store.name, "first": lost.first, "last": lost.last},
            )
            new.append(lost)
            first = lost.last + 1
        if first <= until:
            made = await self._maker.made(store, first, until)
            new += [await self._upload(store, file, now) for file in made]
        await self._change(store, Series.JOURNAL, files, [*files, *new])

    async def _upload(
        self, store: EventDataStore, file: SealedFile, listed_at: datetime
    ) -> SharedFile:
        """Brings a file and its index to the place; returns the file as listed. A mark stays.

        Each has a new name: the file of an interrupted attempt may be deleted at any time.
        """
        if file.is_expired:
            return SharedFile(file.first, file.last, None, listed_at)
        stem = stem_of(file.series, file.first, file.last)
        name = f"{stem}-{file.digest}-{secrets.token_hex(8)}{file.path.suffix}"
        return await self._uploaded(file, f"{STORES}{store.id}/{name}", listed_at)

    async def _uploaded(self, file: SealedFile, name: str, listed_at: datetime) -> SharedFile:
        size = file.path.stat().st_size
        index = await self._files.upload_index(file.path, name)
        await self._files.upload(file.path, name)
        crash_point("store.uploaded")
        return SharedFile(file.first, file.last, name, listed_at, index, size)

    async def _merge(self, store: EventDataStore, series: Series) -> None:
        """Replaces adjacent files of similar size by larger ones; not across missing events."""
        most = self._files.merged_bytes
        while True:
            files = await self._listed(store, series)
            named = [file for file in files if file.name is not None or file.is_lost]
            sizes = [most if file.is_lost else file.bytes for file in named]
            parts = named[next_merge(sizes, self._files.merged_files, most)]
            if not parts:
                return
            folder = await self._maker.emptied(store)
            paths = [await self._files.local_copy(str(part.name), folder) for part in parts]
            made = await self._maker.merged(folder, paths)
            merged = await self._upload(store, made, parts[-1].listed)
            before = [file for file in files if file.last < merged.first]
            after = [file for file in files if file.first > merged.last]
            await self._change(store, series, files, [*before, merged, *after])

    async def _expire(self, store: EventDataStore, series: Series, since: datetime) -> None:
        """Unlists the oldest files if their newest events, listed soon after, have expired."""
        files = await self._listed(store, series)
        expired = 0
        while expired < len(files) and files[expired].listed < since:
            expired += 1
        if any(file.name or file.is_lost for file in files[:expired]):
            last = files[expired - 1]
            mark = SharedFile(files[0].first, last.last, None, last.listed)
            await self._change(store, series, files, [mark, *files[expired:]])

    async def _change(
        self,
        store: EventDataStore,
        series: Series,
        old: Sequence[SharedFile],
        new: Sequence[SharedFile],
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
        kept, prefix, kind = _joined(new), f"{self._scope}{store.id}/", _KINDS[series]
        names, firsts = {file.name for file in kept}, {file.first for file in kept}
        replaced = [file for file in old if file.name not in names]
        gone = [name for file in replaced for name in _objects_of(file)]
        changes: list[StoreWrite] = [
            Put(KIND, store.key, current.document, expected=current.version),
            *(Remove(kind, prefix + key_of(file)) for file in old if file.first not in firsts),
            *(to_list(kind, file, prefix) for file in kept if file not in old),
            *self._notes(gone),
        ]
        await self._control.apply(changes)
        crash_point("store.listed")

    def _notes(self, names: Iterable[str]) -> list[StoreWrite]:
        """Returns the changes that note from when on files are not listed."""
        note = {"since": format_time(self._clock.now())}
        return [Put(REPLACED, self._scope + name, note) for name in names]

    async def _delete_replaced(self) -> None:
        """Deletes objects that have not been listed for as long as a query may run."""
        now = self._clock.now()
        for stored in await self._control.scan(REPLACED, self._scope + STORES):
            if (now - parse_time(stored.document["since"])).total_seconds() >= REPLACED_SECONDS:
                await self._files.delete(stored.key.removeprefix(self._scope))
                await self._control.apply([Remove(REPLACED, stored.key)])

    async def _compare(self, store: EventDataStore) -> None:
        """Compares a store's files with their list, hourly, and at the start.

        Unlisted files are from an interrupted attempt, and are deleted an hour later. But if the
        control store was restored from an older backup, the list lacks newer files: merged ones,
        whose parts were deleted, and files of positions that the journal has trimmed.
        """
        now, folder = self._clock.now(), f"{STORES}{store.id}/"
        if (last := self._compared.get(store.id)) and now - last < _COMPARE_INTERVAL:
            return
        present, problems = await self._files.present(folder), list[str]()
        replaced = await self._control.scan(REPLACED, self._scope + folder)
        unlisted = present - {one.key.removeprefix(self._scope) for one in replaced}
        for series in Series:
            await self._adopt(store, series, present, unlisted)
            missing = await self._missing(store, series, present)
            problems += [_problem(store, series, file) for file in missing]
            listed_now = await self._listed(store, series)
            unlisted -= {name for file in listed_now for name in _objects_of(file)}
        if unlisted and not problems:  # one of them may replace a missing file
            log.warning(
                "unlisted files of an event data store are deleted in an hour",
                extra={"store": store.name, "files": sorted(unlisted)},
            )
            await self._control.apply(self._notes(sorted(unlisted)))
        self._problems[store.id] = problems
        self._compared[store.id] = now

    async def _adopt(
        self, store: EventDataStore, series: Series, present: set[str], unlisted: set[str]
    ) -> None:
        """Lists files that an older list lacks."""
        files = await self._listed(store, series)
        named = {name for file in files for name in _objects_of(file)}
        found = [file for name in unlisted - named if (file := read_name(Path(name))) is not None]
        for file in sorted(found, key=lambda one: (one.first, -one.last)):
            if file.series is series and await self._is_lacking(store, files, file, present):
                await self._listed_again(store, files, file)
                files = await self._listed(store, series)

    async def _missing(
        self, store: EventDataStore, series: Series, present: set[str]
    ) -> list[SharedFile]:
        """Returns the listed files that are missing or damaged, and lost ranges.

        Makes files again whose events the journal still has. A mark in the place accepts a loss.
        """
        files = await self._listed(store, series)
        names = {file.name for file in files if file.name is not None}
        damaged = await self._files.damaged(names & present)
        missing = [
            file
            for file in files
            if file.is_lost or (file.name and (file.name not in present or file.name in damaged))
        ]
        marks = [
            mark
            for name in present
            if (mark := read_name(Path(name))) and mark.is_expired and mark.series is series
        ]
        kept = await asyncio.to_thread(self._journal.first_position) if missing else 0
        remaining: list[SharedFile] = []
        for file in missing:
            new: list[SharedFile] | None = None
            if any(mark.first <= file.first and file.last <= mark.last for mark in marks):
                new = [replace(file, name=None, index=None, bytes=0, is_lost=False)]
            elif series is Series.JOURNAL and kept <= file.first:
                made = await self._maker.made(store, file.first, file.last)
                new = [await self._upload(store, one, file.listed) for one in made]
            if new is None:
                remaining.append(file)
                continue
            files = await self._listed(store, series)
            at = files.index(file)
            await self._change(store, series, files, [*files[:at], *new, *files[at + 1 :]])
            log.warning("a file of an event data store was replaced", extra={"file": file.name})
        return remaining

    async def _is_lacking(
        self, store: EventDataStore, files: list[SharedFile], file: SealedFile, present: set[str]
    ) -> bool:
        """Returns whether an unlisted file must replace its part of the list, or continue it."""
        if file.is_expired:
            return False
        end = _end_of(files, store) if file.series is Series.JOURNAL else _end_of(files)
        parts = _parts_of(files, file)
        is_whole = (parts[0].first if parts else end + 1) == file.first and (
            file.last > end or parts[-1].last == file.last
        )
        if not is_whole:
            return False
        if any(part.is_lost or (part.name and part.name not in present) for part in parts):
            return True
        if file.last <= end:
            return False
        if file.series is Series.IMPORTED or self._journal.first_position() > end + 1:
            return True
        lost = self._journal.restored_between
        return bool(await asyncio.to_thread(lost, end + 1, file.last))

    async def _listed_again(
        self, store: EventDataStore, files: list[SharedFile], file: SealedFile
    ) -> None:
        name = f"{STORES}{store.id}/{file.path.name}"
        path = await self._files.local_copy(name, await self._maker.emptied(store))
        parts = _parts_of(files, file)
        listed_at = parts[-1].listed if parts else self._clock.now()
        again = await self._uploaded(replace(file, path=path), name, listed_at)
        kept = [one for one in files if one not in parts]
        new = sorted([*kept, again], key=lambda one: one.first)
        await self._change(store, file.series, files, new)
        log.warning("a file of an event data store is listed again", extra={"file": path.name})

    async def add(
        self,
        store: EventDataStore,
        until: int,
        files: Sequence[LogFile],
        between: tuple[datetime, datetime],
    ) -> list[LogFileOutcome]:
        """Returns once the events of log files are durable in a store's files, each event once.

        In S3, it refuses, because it could add events twice.
        """
        if not self.takes_log_files:
            raise Unsupported("imports into event data stores of a cluster")

        async def added() -> list[LogFileOutcome]:
            await self._write(store, until)
            imported = await self._listed(store, Series.IMPORTED)
            every = [*await self._listed(store), *imported]
            names = [file.name for file in every if file.name is not None]
            existing = [await self._files.local_copy(name, self._own) for name in names]
            begin = _end_of(imported) + 1
            outcomes, made = await self._maker.added(store, begin, existing, files, between)
            now = self._clock.now()
            new = [await self._upload(store, file, now) for file in made]
            await self._change(store, Series.IMPORTED, imported, [*imported, *new])
            await self._merge(store, Series.IMPORTED)
            return outcomes

        return await self._with_files(store, added)

    def table(self, store: EventDataStore) -> str:
        """Returns the address of a store's Iceberg table."""
        name = f"{_TABLES}{store.id}" if self._files.is_shared else f"{STORES}{store.id}/iceberg"
        return self._files.address_of(name)

    async def publish(self, store: EventDataStore) -> None:
        """Returns once a store's Iceberg table has its files."""
        files = [file for one in Series for file in await self._listed(store, one)]
        names = [file.name for file in files if file.name is not None]
        try:
            if not self._files.is_shared:
                for name in names:
                    await self._files.local_copy(name, self._own)  # which verifies it
            addresses = [self._files.address_of(name) for name in names]
            await publish_table(self.table(store), store.family, addresses, self._access())
        except (OSError, RuntimeError, TimeoutError) as error:
            message = f"its Iceberg table {self.table(store)} cannot be written: {error}"
            raise StorageFailed(message) from error

    async def unpublish(self, store: EventDataStore) -> None:
        """Returns once a store has no Iceberg table."""
        if self._files.is_shared:
            await self._delete(store, f"{_TABLES}{store.id}/")
        else:
            await asyncio.to_thread(_remove_folder, self._own / store.id / "iceberg")

    async def _delete(self, store: EventDataStore, folder: str) -> None:
        try:
            for name in sorted(await self._files.present(folder)):
                await self._files.delete(name)
        except (ObjectStoreError, OSError) as error:
            raise StorageFailed(f"event data store {store.name}: {error}") from error

    async def remove(self, store: EventDataStore) -> None:
        """Returns once a store's files are unlisted and deleted."""
        async with self._turn:
            await self.unpublish(store)
            await self._delete(store, f"{STORES}{store.id}/")
            if not self._files.is_shared:
                await asyncio.to_thread(_remove_folder, self._own / store.id)
            replaced = await self._control.scan(REPLACED, f"{self._scope}{STORES}{store.id}/")
            changes = [Remove(REPLACED, one.key) for one in replaced]
            for series, kind in _KINDS.items():
                files = await self._listed(store, series)
                changes += [
                    Remove(kind, f"{self._scope}{store.id}/{key_of(file)}") for file in files
                ]
            await self._control.apply(changes)
            self._problems.pop(store.id, None)


def _remove_folder(folder: Path) -> None:
    """Removes a folder, if it exists.

    Raises:
        StorageFailed: it cannot be removed.
    """
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageFailed(f"{folder} cannot be removed: {error}") from error


def _problem(store: EventDataStore, series: Series, file: SharedFile) -> str:
    """Returns a sentence that names a missing file or range, and the remedy."""
    what = f"file {file.name} is missing or damaged"
    if file.is_lost:
        what = f"positions {file.first} to {file.last} are lost"
    mark = expired_name(series, file.first, file.last)
    return (
        f"event data store {store.name}: {what}, so its queries fail: restore the file from a "
        f"backup, or accept the loss with an empty file {STORES}{store.id}/{mark}"
    )


async def files_of(
    control: ControlStore,
    store: EventDataStore,
    series: Series = Series.JOURNAL,
    scope: str = "",
) -> list[SharedFile]:
    """Returns the files of a store in order; those without a name have no events."""
    return await listed(control, _KINDS[series], f"{scope}{store.id}/")


async def files_of_all(control: ControlStore) -> tuple[list[SharedFile], set[str]]:
    """Returns the listed files of all stores, and the names of replaced ones."""
    files = [file for kind in _KINDS.values() for file in await listed(control, kind)]
    return files, {one.key[one.key.index(STORES) :] for one in await control.scan(REPLACED)}


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


def _end_of(files: Sequence[SharedFile], store: EventDataStore | None = None) -> int:
    begin = store.phases[0].after if store and store.phases else 0
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
        is_empty = file.name is None and not file.is_lost
        if joined and is_empty and joined[-1].name is None and not joined[-1].is_lost:
            joined[-1] = SharedFile(joined[-1].first, file.last, None, file.listed)
        else:
            joined.append(file)
    return joined


class LocalQueries:
    """`QueriedFiles` in the data directory.

    Args:
        files: the place.
        control: lists the files of event data stores.
        scope: as for `ListedStoreFiles`.
    """

    def __init__(self, files: StorePlace, control: ControlStore, scope: str) -> None:
        self._files = files
        self._control = control
        self._scope = scope

    async def current(self, stores: Iterable[EventDataStore]) -> dict[str, Any]:
        """Returns the files, once they are known to be whole."""
        parts = await _parts_of_stores(self._files, self._control, stores, self._scope)
        return {"store_parts": parts}

    async def fetch(self, name: str, number: int) -> None:
        """Refuses: all files are on the disk."""
        raise StorageFailed(f"{name} is not on the disk")


async def _parts_of_stores(
    place: StorePlace, control: ControlStore, stores: Iterable[EventDataStore], scope: str = ""
) -> dict[str, tuple[int, list[str]]]:
    """Returns the last position in the files of each store, and their names, by id.

    Raises:
        QueryFailed: a file or a range is missing.
    """
    parts: dict[str, tuple[int, list[str]]] = {}
    for store in stores:
        names: list[str] = []
        end = 0
        for series in Series:
            files = await files_of(control, store, series, scope)
            if series is Series.JOURNAL:
                end = _end_of(files, store)
            own = {file.name for file in files if file.name is not None}
            damaged = set() if place.is_shared else await place.damaged(own)
            for file in files:
                if file.is_lost or file.name in damaged:
                    raise QueryFailed(_problem(store, series, file))
            names += [file.name for file in files if file.name is not None]
        parts[store.id] = (end, names)
    return parts


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
        named = list(stores)
        try:
            parts = await _parts_of_stores(self._files, self._control, named)
            if named:
                await self._files.find_indexes()
            for store in named:
                for file in await files_of(self._control, store):
                    if file.name is not None:
                        await self._files.fetch_index(file.name, file.index)
        except (OSError, OpentrailError) as error:
            raise QueryFailed(f"files of event data stores cannot be read: {error}") from error
        return {
            "cache": str(self._files.cache),
            "store_parts": parts,
            "shared_history": _parts(self._events.shared) if self._is_cached else None,
        }

    async def fetch(self, name: str, number: int) -> None:
        """Returns once a block is in the cache folder."""
        await self._events.fetch_block(name, number)


def _parts(files: Iterable[SharedFile]) -> list[tuple[int, int, str | None]]:
    return [(file.first, file.last, file.name) for file in files]
