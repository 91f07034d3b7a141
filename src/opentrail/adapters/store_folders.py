"""The folders of event data stores, whose files child processes write."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType

import msgspec
import orjson

from opentrail.adapters.duckdb.children import SEAL, run_child
from opentrail.adapters.files import sync_folder, write_durably
from opentrail.adapters.sealed_file_names import Series, read_name, sealed_files
from opentrail.core.errors import JournalDamaged, StorageFailed, Unsupported
from opentrail.core.event import micros
from opentrail.core.event_data_store import EventDataStore
from opentrail.ports.journal import JournalSource
from opentrail.ports.queries import LogFile, LogFileOutcome

log = logging.getLogger(__name__)

#: The module that makes Iceberg tables.
_ICEBERG = "opentrail.adapters.iceberg"
#: The variable with PyIceberg's properties for S3, in JSON.
ACCESS = "OPENTRAIL_ICEBERG_ACCESS"
_NOTHING: Mapping[str, str] = MappingProxyType({})
#: The file with a store's document, in its folder.
SETTINGS = "store.json"
#: The folder of log files to read, in a store's folder, and the file with what became of them.
_SPOOL, OUTCOMES = "import.spool", "outcomes.json"
#: The file with the names of the log files, and the times of the events to add.
REQUEST = "request.json"
#: Seconds for which a replaced file stays: longer than any query.
REPLACED_SECONDS = 3_900
#: Number of adjacent files of similar size that are merged, and the maximum bytes of the result.
#: Another local file costs a query 0.5 ms.
MERGED_FILES, MERGED_BYTES = 64, 256 << 20
#: Files up to this size are of size class 0; each class is `count` times the last.
_SMALLEST_BYTES = 256 << 10


class StoreFolders:
    """A `StoreFiles` with a folder per store.

    Args:
        root: the folder of the folders.
        journal: has the events.
        repair: returns once the journal has repaired the damage between two positions.
        reader: the module whose process reads log files for `add`; "": there is none.
    """

    def __init__(
        self,
        root: Path,
        journal: JournalSource,
        repair: Callable[[int, int], Awaitable[None]],
        reader: str = "",
    ) -> None:
        self._root = root
        self._journal = journal
        self._repair = repair
        self._reader = reader
        self.takes_log_files = bool(reader)
        #: Held by the process that writes: it removes the unfinished files of others.
        self._turn = asyncio.Lock()

    async def covered(self, store: EventDataStore) -> int:
        """Returns the last position whose events are durable in a store's files."""
        try:
            return await asyncio.to_thread(covered, self._root / store.id, store)
        except OSError as error:
            raise StorageFailed(f"event data store {store.name}: {error}") from error

    async def tend(self, store: EventDataStore, until: int, since: datetime) -> None:
        """Returns once a store's files are durable up to a position; deletes older events."""
        async with self._turn:
            await self._written(store, until, partial(self._run, SEAL, micros(since)))

    async def add(
        self,
        store: EventDataStore,
        until: int,
        files: Sequence[LogFile],
        between: tuple[datetime, datetime],
    ) -> list[LogFileOutcome]:
        """Returns once the events of log files are durable in a store's files, each event once."""
        if not self._reader:
            raise Unsupported("imports into these event data stores")
        spool = self._root / store.id / _SPOOL

        async def read(folder: Path, until: int) -> None:
            await asyncio.to_thread(_spool, spool, files, between)
            await self._run(self._reader, spool, folder, until)

        async with self._turn:
            try:
                await self._written(store, until, read)
                content = await asyncio.to_thread((spool / OUTCOMES).read_bytes)
            except OSError as error:
                raise StorageFailed(f"event data store {store.name}: {error}") from error
            finally:
                await asyncio.to_thread(shutil.rmtree, spool, ignore_errors=True)
        return msgspec.json.decode(content, type=list[LogFileOutcome])

    async def _written(
        self, store: EventDataStore, until: int, run: Callable[[Path, int], Awaitable[None]]
    ) -> None:
        """Runs a process that writes files; if the journal is damaged, again after its repair."""
        folder = self._root / store.id
        try:
            await asyncio.to_thread(self._prepare, folder, store)
            first = await self.covered(store) + 1
            try:
                await run(folder, until)
            except JournalDamaged:
                await self._repair(first, until)
                await run(folder, until)
        except (OSError, RuntimeError, TimeoutError) as error:
            raise StorageFailed(f"event data store {store.name}: {error}") from error

    async def _run(self, module: str, work: object, folder: Path, until: int) -> None:
        arguments = ("store", self._journal.address, folder, until, work)
        environment = self._journal.environment
        for mark in await run_child(*arguments, environment=environment, module=module):
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

    def table(self, store: EventDataStore) -> str:
        """Returns the address of a store's Iceberg table."""
        return f"file://{self._table(store)}"

    def _table(self, store: EventDataStore) -> Path:
        return self._root.absolute() / store.id / "iceberg"

    async def publish(self, store: EventDataStore) -> None:
        """Returns once a store's Iceberg table has its files."""
        try:
            files = await asyncio.to_thread(_files_in, self._root.absolute() / store.id)
            await publish_table(self.table(store), store.family, files)
        except (OSError, RuntimeError, TimeoutError) as error:
            raise StorageFailed(f"event data store {store.name}: {error}") from error

    async def unpublish(self, store: EventDataStore) -> None:
        """Returns once a store has no Iceberg table."""
        await asyncio.to_thread(shutil.rmtree, self._table(store), ignore_errors=True)

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


async def publish_table(
    location: str, family: str, files: Sequence[str], access: Mapping[str, str] = _NOTHING
) -> None:
    """Returns once an Iceberg table has these data files; see `iceberg.py`.

    Args:
        location: of the table.
        family: of the store's events.
        files: their addresses.
        access: PyIceberg's properties for S3.

    Raises:
        RuntimeError, TimeoutError: it has not.
    """
    environment = {ACCESS: orjson.dumps(dict(access)).decode()}
    await run_child(location, family, *files, environment=environment, module=_ICEBERG)


def _files_in(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    files = [file for series in Series for file in sealed_files(folder, series)]
    return [f"file://{file.path}" for file in files if not file.is_expired]


def _spool(folder: Path, files: Sequence[LogFile], between: tuple[datetime, datetime]) -> None:
    """Writes log files for the process that reads them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    for number, file in enumerate(files):
        (folder / str(number)).write_bytes(file.content)
    names = [file.name for file in files]
    (folder / REQUEST).write_bytes(orjson.dumps([names, *map(micros, between)]))


def covered(folder: Path, store: EventDataStore) -> int:
    """Returns the last position whose events are in a store's folder."""
    names = map(read_name, folder.iterdir()) if folder.is_dir() else ()
    begin = store.phases[0].after if store.phases else 0
    files = (file for file in names if file is not None and file.series is Series.JOURNAL)
    return max((file.last for file in files), default=begin)


def next_merge(sizes: Sequence[int], count: int, max_bytes: int) -> slice:
    """Returns the adjacent files to merge next; an empty slice if there are too few.

    Files grow by the factor `count`, so an event is rewritten only a few times.

    Args:
        sizes: the bytes of each file, in order.
        count: the number of files that are merged.
        max_bytes: of the result.
    """
    first = 0
    for number, size in enumerate(sizes):
        if size * 2 > max_bytes:
            first = number + 1
            continue
        kinds = [_size_class(each, count) for each in sizes[first : number + 1]]
        # A larger file before smaller ones waits for others of its size.
        while kinds[0] > max(kinds[1:], default=kinds[0]):
            kinds = kinds[1:]
        first = number + 1 - len(kinds)
        if len(kinds) >= count:
            return slice(first, first + _limited(sizes[first : number + 1], max_bytes))
    return slice(0)


def _size_class(size: int, count: int) -> int:
    kind = 0
    while size > _SMALLEST_BYTES * count**kind:
        kind += 1
    return kind


def _limited(sizes: Sequence[int], max_bytes: int) -> int:
    """Returns the number of first files that fit into `max_bytes`; 0 instead of 1."""
    fitting = sum(size <= max_bytes for size in itertools.accumulate(sizes))
    return fitting if fitting > 1 else 0
