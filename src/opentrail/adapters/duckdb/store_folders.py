"""Makes the Parquet files of event data stores, in child processes."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

import msgspec
import orjson

from opentrail.adapters.data_directory.sealed_file_names import SealedFile, Series, sealed_files
from opentrail.adapters.duckdb.children import SEAL, files_of_child, run_child
from opentrail.core.errors import JournalDamaged
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
#: The file with a store's document, in the folder where its files are made.
SETTINGS = "store.json"
#: The folder of log files to read, in that folder, and the file with what became of them.
_SPOOL, OUTCOMES = "import.spool", "outcomes.json"
#: The file with the names of the log files, the times of the events to add, the number of the first
#: one, and the files that may have some of them already.
REQUEST = "request.json"
#: Files up to this size are of size class 0; each class is `count` times the last.
_SMALLEST_BYTES = 256 << 10


class StoreMaker:
    """Makes files in a folder, which it empties first; their user moves them to their place.

    Args:
        folder: the folder.
        journal: has the events.
        repair: returns once the journal has repaired the damage between two positions.
        reader: the module whose process reads log files for `add`; "": there is none.
    """

    def __init__(
        self,
        folder: Path,
        journal: JournalSource,
        repair: Callable[[int, int], Awaitable[None]],
        reader: str = "",
    ) -> None:
        self._folder = folder
        self._journal = journal
        self._repair = repair
        self._reader = reader
        self.takes_log_files = bool(reader)

    async def made(self, store: EventDataStore, first: int, until: int) -> list[SealedFile]:
        """Returns files and marks with the selected events of a range of the journal.

        Raises:
            OSError, RuntimeError, TimeoutError: they cannot be made.
        """
        folder = await self.emptied(store)
        arguments = ("store", self._journal.address, folder, first, until)
        environment = self._journal.environment
        try:
            await run_child(*arguments, environment=environment, module=SEAL)
        except JournalDamaged:
            await self._repair(first, until)
            await run_child(*arguments, environment=environment, module=SEAL)
        return await asyncio.to_thread(sealed_files, folder, Series.JOURNAL)

    async def merged(self, folder: Path, paths: Sequence[Path]) -> SealedFile:
        """Returns a file in a folder with the events of adjacent files.

        Raises:
            OSError, RuntimeError, TimeoutError: it cannot be made.
        """
        (made,) = await files_of_child("merge-store", folder, *paths)
        return made

    async def added(
        self,
        store: EventDataStore,
        begin: int,
        existing: Sequence[Path],
        files: Sequence[LogFile],
        between: tuple[datetime, datetime],
    ) -> tuple[list[LogFileOutcome], list[SealedFile]]:
        """Returns the outcomes of log files, and files with their new events.

        Args:
            store: the store.
            begin: the number of the first new event.
            existing: the store's files; an event of them is not new.
            files: the log files.
            between: the first and last time of their events.

        Raises:
            OSError, RuntimeError, TimeoutError: they cannot be made.
        """
        folder = await self.emptied(store)
        spool = folder / _SPOOL
        request = [*map(micros, between), begin, [str(path) for path in existing]]
        await asyncio.to_thread(_spool, spool, files, request)
        await run_child(str(folder), spool, module=self._reader)
        content = await asyncio.to_thread((spool / OUTCOMES).read_bytes)
        outcomes = msgspec.json.decode(content, type=list[LogFileOutcome])
        return outcomes, await asyncio.to_thread(sealed_files, folder, Series.IMPORTED)

    async def emptied(self, store: EventDataStore) -> Path:
        """Returns the empty folder in which files of a store are made."""
        folder = self._folder / store.id
        await self.clear()
        await asyncio.to_thread(_prepare, folder, store)
        return folder

    async def clear(self) -> None:
        """Removes the folder."""
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


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


def _prepare(folder: Path, store: EventDataStore) -> None:
    folder.mkdir(mode=0o700, parents=True)
    (folder / SETTINGS).write_bytes(orjson.dumps(store.document()))


def _spool(folder: Path, files: Sequence[LogFile], request: Sequence[object]) -> None:
    """Writes log files for the process that reads them."""
    folder.mkdir(mode=0o700)
    for number, file in enumerate(files):
        (folder / str(number)).write_bytes(file.content)
    (folder / REQUEST).write_bytes(orjson.dumps([[file.name for file in files], *request]))


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
