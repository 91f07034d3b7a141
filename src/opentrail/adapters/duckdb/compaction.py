"""Sealing, merging, checking, mending and expiry of files, by children of low priority."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from opentrail.adapters.duckdb import seal
from opentrail.adapters.duckdb.files import SealedFile, read_name, remove, sealed_files, stem_of
from opentrail.adapters.duckdb.table_set import Database, EventTable, TableSet
from opentrail.adapters.files import sync_folder
from opentrail.core.errors import JournalDamaged, StorageFailed
from opentrail.core.faults import reach

log = logging.getLogger(__name__)

_CHILD_SECONDS = 1_800.0
#: Niceness of a child: calls and look-ups go before it.
_NICENESS = 5
#: So many neighbours of about one size are merged, but never into more than this many records.
MERGED_FILES, MERGED_RECORDS = 8, 1_200_000
#: Files with fewer records than this count as of one size; each further size is eight times that.
_SMALLEST = 4_096
#: Files that are compared with their hashes by one child, and the rest after a child failed.
_CHECKED_AT_ONCE, _CHECK_PAUSE = 10, 600.0
#: Returns once the journal has repaired what is damaged between two positions.
RepairJournal = Callable[[int, int], Awaitable[None]]
_TROUBLES = (OSError, RuntimeError, StorageFailed, TimeoutError)


class Compaction:
    """Keeps a shelf's files in order; what goes wrong costs no record, and is tried again."""

    def __init__(
        self,
        folder: Path,
        journal: Path,
        database: Database,
        shelf: TableSet,
        repair_journal: RepairJournal | None = None,
    ) -> None:
        self._repair_journal = repair_journal
        self._folder = folder
        self._journal = journal
        self._database = database
        self._shelf = shelf
        self._mending = asyncio.Lock()
        #: Held while files are added, merged or deleted.
        self._changing = asyncio.Lock()
        self._round: asyncio.Task[None] | None = None
        self._checking: asyncio.Task[None] | None = None
        #: Ranges of journal positions that neither a file nor the journal holds any more.
        self.missing: list[tuple[int, int]] = []
        #: Files that were set aside.
        self.damaged: list[str] = []
        #: Ranges of imported events that are lost; they are to be imported again.
        self.lost_imports: list[tuple[int, int]] = []
        #: Every file has been compared with its hash, or is new.
        self.is_checked = False

    # Sealing and merging

    def begin(self) -> None:
        """Starts a round of sealing and merging, unless one is under way."""
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._seal_and_merge())

    async def idle(self) -> None:
        """Returns once no sealing or merging is under way."""
        while self._round is not None and not self._round.done():
            await asyncio.shield(self._round)

    async def _seal_and_merge(self) -> None:
        try:
            while True:
                # A merge is due after eight files at the earliest. If sealing went first, merging
                # would never get its turn under steady load.
                if run := merging(self._shelf.sources):
                    await self._merge(run)
                elif full := self._shelf.full_hot():
                    await self._seal(full[0])
                else:
                    break
        except _TROUBLES as error:
            # The records stay hot and in the journal; the next full table tries again.
            log.warning("sealing failed", extra={"error": str(error)})

    async def _seal(self, hot: EventTable) -> None:
        """Has a child write the range of `hot` to a file, then puts the file in its place."""
        async with self._changing:
            sources = await self._sealed(hot.first, hot.last)
        await self._shelf.replace([hot], *sources)

    async def _sealed(self, first: int, last: int) -> list[EventTable]:
        """Returns the tables of files that hold all of a range that the journal has not lost."""
        if first > last:
            return []
        asked = ("journal", self._journal, self._folder, first, last)
        try:
            files = await self._files(*asked)
        except JournalDamaged:
            if self._repair_journal is None:
                raise
            await self._repair_journal(first, last)
            files = await self._files(*asked)
        expected = first
        for file in files:
            if file.first > expected:
                self.miss(expected, file.first - 1, "lost by the journal")
            expected = file.last + 1
        if expected <= last:
            self.miss(expected, last, "lost by the journal")
        return [await self._database.run(self._database.attach, file) for file in files]

    async def _merge(self, run: Sequence[EventTable]) -> None:
        async with self._changing:
            if any(source not in self._shelf.sources for source in run):
                return  # one of them was mended or has expired meanwhile
            (file,) = await self._files("merge", *(s.file.path for s in run if s.file))
            reach("history.merged")
            source = await self._database.run(self._database.attach, file)
            await self._shelf.replace(run, source)
            await asyncio.to_thread(remove, [s.file.path for s in run if s.file])

    async def show_imports(self) -> int:
        """Shows all files of imported events that are not shown yet; returns the last number."""
        async with self._changing:
            last = 0
            for file in await asyncio.to_thread(sealed_files, self._folder):
                if not file.is_import:
                    continue
                last = max(last, file.last)
                if file.is_expired:
                    continue
                shown = (s for s in self._shelf.sources if s.is_import)
                if not any(s.first <= file.first and file.last <= s.last for s in shown):
                    self._shelf.insert(await self._database.run(self._database.attach, file))
        self.begin()
        return last

    # Expiry

    async def expire(self, recorded_before: int, last_needed: int) -> int:
        """Deletes files whose records were all recorded before a time, in microseconds.

        Files of the journal's positions go oldest first, and only up to `last_needed`.

        Returns:
            How many records went.
        """
        async with self._changing:
            gone = 0
            for source in self._shelf.sources.copy():
                is_old = source.file is not None and source.newest_recorded < recorded_before
                if source.is_import and is_old:
                    await asyncio.to_thread(self._mark_gone, source.first, source.last)
                    gone += await self._drop(source)
            for source in self._shelf.of_journal():
                old = source.file is not None and source.newest_recorded < recorded_before
                if not old or source.last > last_needed:
                    break
                await asyncio.to_thread(self._mark_expired, source.last)
                self.missing = [lost for lost in self.missing if lost[1] > source.last]
                gone += await self._drop(source)
            return gone

    async def _drop(self, source: EventTable) -> int:
        await self._shelf.replace([source])
        if source.file is None:
            return 0
        await asyncio.to_thread(remove, [source.file.path])
        await asyncio.to_thread(sync_folder, self._folder)
        log.info("expired", extra={"file": source.file.path.name})
        return source.file.records

    def _mark_expired(self, last: int) -> None:
        """Writes that everything up to a position was kept long enough: an empty file's name."""
        older = [f for path in self._folder.glob("*.expired") if (f := read_name(path))]
        (self._folder / f"{stem_of(1, last)}.expired").touch(mode=0o600)
        sync_folder(self._folder)
        reach("history.expired")
        remove(file.path for file in older if file.last < last and not file.is_import)

    def _mark_gone(self, first: int, last: int) -> None:
        """Writes that imported events are known to be gone: an empty file's name."""
        (self._folder / f"{stem_of(first, last, is_import=True)}.expired").touch(mode=0o600)
        sync_folder(self._folder)
        reach("history.expired")

    # Damage

    def check(self) -> None:
        """Starts comparing every file with the hash in its name; damaged ones are made again."""
        self._checking = asyncio.create_task(self._check())

    async def _check(self) -> None:
        sources = [source for source in self._shelf.sources if source.file]
        while sources:
            some = sources[:_CHECKED_AT_ONCE]
            try:
                paths = await self._child("check", *(s.file.path for s in some if s.file))
                for source in some:
                    if source.file and source.file.path in paths:
                        await self.mend(source)
            except _TROUBLES as error:
                log.warning("sealed files could not be checked", extra={"error": str(error)})
                await asyncio.sleep(_CHECK_PAUSE)
                continue
            del sources[:_CHECKED_AT_ONCE]
        self.is_checked = True

    async def mend(self, source: EventTable) -> None:
        """Puts a file made from the journal in the place of a damaged one.

        If the journal holds the range no more, the range is named as missing, and look-ups go on
        without it.
        """
        async with self._mending, self._changing:
            if source not in self._shelf.sources or source.file is None:
                return
            made = await self.replaced(source.file)
            await self._shelf.replace([source], *made)

    async def replaced(self, file: SealedFile) -> list[EventTable]:
        """Sets a damaged file aside and returns the tables of those made from the journal."""
        await self.set_aside(file)
        if file.is_import:
            log.error("imported records are lost, import them again", extra={"file": str(file)})
            return []
        return await self.rebuilt(file.first, file.last)

    async def set_aside(self, file: SealedFile) -> None:
        """Takes a file that is of no use out of the way, and names it."""
        log.error("sealed file is damaged and set aside", extra={"file": file.path.name})
        self.damaged.append(file.path.name)
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(file.path.replace, file.path.with_suffix(".damaged"))
        if file.is_import:
            await asyncio.to_thread(self._mark_gone, file.first, file.last)
            self.lost_imports.append((file.first, file.last))

    async def rebuilt(self, first: int, last: int) -> list[EventTable]:
        """Seals a range from the journal again and returns its tables; none if that cannot be."""
        log.warning("sealed range is made again", extra={"first": first, "last": last})
        try:
            return await self._sealed(first, last)
        except _TROUBLES as error:
            self.miss(first, last, str(error))
            return []

    def miss_imports(self, imported: Sequence[SealedFile], last: int = 0) -> None:
        """Names the ranges of imported events that no file tells of, and those of damaged files.

        Args:
            imported: the files of imported events, and the marks of those that are gone, in order.
            last: the number of the last imported event that is known to have been there.
        """
        damaged = [
            read_name(path.with_suffix(".duckdb")) for path in self._folder.glob("*.damaged")
        ]
        lost = [(file.first, file.last) for file in damaged if file and file.is_import]
        end = 0
        for first, until in [*((file.first, file.last) for file in imported), (last + 1, last)]:
            if first > end + 1:
                lost.append((end + 1, first - 1))
                log.error(
                    "a file of imported events is gone, import them again; an empty file of this "
                    "name says that you know",
                    extra={"file": f"{stem_of(end + 1, first - 1, is_import=True)}.expired"},
                )
            end = max(end, until)
        self.lost_imports = sorted(set(lost))

    def miss(self, first: int, last: int, reason: str = "") -> None:
        """Names positions that are lost."""
        if (first, last) in self.missing:
            return
        self.missing.append((first, last))
        log.error(
            "positions are in no readable file, and the journal cannot give them back",
            extra={"first": first, "last": last, "error": reason},
        )

    # Children

    async def close(self) -> None:
        """Ends what is under way."""
        tasks = [task for task in (self._round, self._checking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _files(self, work: str, *arguments: object) -> list[SealedFile]:
        """Has a child make files, and returns them in order."""
        made = await self._child(work, *arguments)
        files = [file for path in made if (file := read_name(path)) is not None]
        if len(files) != len(made):
            raise RuntimeError(f"child made {made}")
        return sorted(files, key=lambda file: file.first)

    async def _child(self, work: str, *arguments: object) -> list[Path]:
        """Has a child do one of the tasks of `seal.py`, and returns the paths it prints."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *("nice", "-n", str(_NICENESS), sys.executable, "-m", seal.__name__),
            *map(str, (os.getpid(), work, *arguments)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        try:
            async with asyncio.timeout(_CHILD_SECONDS):
                output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == seal.JOURNAL_DAMAGED:
            raise JournalDamaged(errors.decode(errors="replace").strip(), 0)
        if process.returncode:
            raise RuntimeError(f"child ended with {process.returncode}: {errors[-300:]!r}")
        return [Path(line) for line in output.decode().splitlines()]


def merging(sources: Sequence[EventTable]) -> list[EventTable]:
    """Returns the neighbours to merge next, oldest first; none while there are too few.

    So files grow by eights, as in a log-structured merge tree, and a record is rewritten a few
    times only.
    """
    run: list[EventTable] = []
    for source in sources:
        if source.file is None or source.file.records * 2 > MERGED_RECORDS:
            run = []
            continue
        follows = bool(run) and (
            run[-1].is_import == source.is_import and run[-1].last + 1 == source.first
        )
        run = [*run, source] if follows else [source]
        # A larger file before smaller ones waits until there are others of its size.
        while _size(run[0]) > max(_size(s) for s in run[1:] or run[:1]):
            run = run[1:]
        if len(run) >= MERGED_FILES:
            return _fitting(run)
    return []


def _size(source: EventTable) -> int:
    """Returns the class of a file's size: 0, 1, 2, … each eight times the one before."""
    records, size = source.last - source.first + 1, 0
    while records > _SMALLEST * MERGED_FILES**size:
        size += 1
    return size


def _fitting(run: Sequence[EventTable]) -> list[EventTable]:
    taken: list[EventTable] = []
    records = 0
    for source in run:
        records += source.last - source.first + 1
        if taken and records > MERGED_RECORDS:
            break
        taken.append(source)
    return taken if len(taken) > 1 else []
