"""Verifies all files of a data directory from which opentrail answers."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from opentrail.adapters.data_directory.sealed_file_names import (
    STORES,
    SealedFile,
    Series,
    attaching,
    is_whole,
    read_name,
    sealed_files,
)
from opentrail.adapters.queries.query_files import damaged_results
from opentrail.adapters.sql.at_rest import reading
from opentrail.adapters.sqlite.salvage import has_hidden_commits
from opentrail.adapters.sqlite.segments import Segment, ends_of, newest
from opentrail.adapters.sqlite.verify import chain_at, lost_in, read_verified
from opentrail.adapters.table_hashes import damaged_in
from opentrail.core.errors import JournalDamaged, StorageFailed
from opentrail.ports.event_store import SharedFile
from opentrail.ports.journal import UNKNOWN_CHAIN, JournalSource

#: Maximum rows per batch.
_BATCH = 5_000
#: Attempts to check a write-ahead log: during a server's write it may look damaged.
_CHECKS = 3
#: A position beyond any journal.
_END = 2**62
_FOLLOWING = "SELECT min(position) FROM entries WHERE position >= ?"
Advance = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Damage:
    """A problem of a file; `first` and `last` are positions, if known."""

    file: str
    problem: str
    first: int | None = None
    last: int | None = None


class StoreCheck:
    """Verifies a data directory; a server may be writing to it.

    Args:
        journal: the folder of segments.
        history: the folder of sealed files.
        advance: called with the number of bytes and records verified.
        written: a position known to be written.
        imported: the number of the last imported event.
        is_live: whether a server may be writing; else no file is created or changed.
        source: the journal if it is not in files.
        listed: the listed files of event data stores; None: their list is unknown.
        replaced: names of their files that are no longer listed; None: of any of them.
    """

    def __init__(
        self,
        journal: Path,
        history: Path,
        advance: Advance,
        written: int = 0,
        imported: int = 0,
        is_live: bool = True,
        source: JournalSource | None = None,
        listed: Sequence[SharedFile] | None = None,
        replaced: Collection[str] | None = None,
    ) -> None:
        self._listed = listed
        self._replaced = replaced
        self._journal = journal
        self._source = source
        self._history = history
        self._stores = history.with_name("stores")
        self._advance = advance
        self._written = written
        self._imported = imported
        self._is_live = is_live
        self._last = 0
        #: Ranges of journal positions verified in sealed files.
        self._verified: list[tuple[int, int]] = []
        #: Verified segments, sealed files and different records.
        self.segments = self.files = self.records = 0

    @property
    def size(self) -> int:
        """The number of bytes to verify."""
        stores = self._stores.glob("*/*.parquet")
        paths = [*self._journal.glob("*.db"), *self._history.glob("*.duckdb"), *stores]
        return sum(path.stat().st_size for path in paths)

    def findings(self) -> Iterator[Damage]:
        """Verifies every file and yields its problems.

        Raises:
            StorageFailed: a folder cannot be read.
        """
        try:
            recorded, imported = (sealed_files(self._history, series) for series in Series)
            paths = sorted(self._journal.glob("*.db"))
        except OSError as error:
            raise StorageFailed(f"data directory cannot be read: {error}") from error
        for path in sorted(self._history.glob("*.damaged")):
            yield Damage(path.name, "was found damaged before and set aside")
        chains: dict[int, bytes] = {}
        for file in [*recorded, *imported]:
            if not file.is_expired:
                yield from self._sealed(file, chains)
        segments = [Segment(int(path.stem), path) for path in paths]
        name, first = "journal", None
        if self._source is not None:
            first = self._source.first_position()
        elif segments:
            name, first = segments[0].path.name, segments[0].first
        yield from self._of_stores()
        yield from self._of_results()
        # Files in S3 are verified when read.
        recorded = sorted([*recorded, *self._indexed()], key=lambda file: file.first)
        yield from _between(recorded, first)
        yield from _lost_imports(imported, self._imported)
        yield from _before(name, first, recorded)
        if self._source is not None:
            yield from self._from_source(self._source, first or 1, chains)
        for segment, end in ends_of(segments, 0):
            is_last = segment is segments[-1]
            yield from self._segment(segment, None if is_last else end, chains)
        last = max([self._last, *(file.last for file in recorded)])
        if last < self._written:
            problem = "the journal ends before positions that were written"
            yield Damage("journal", problem, last + 1, self._written)

    def _indexed(self) -> list[SealedFile]:
        """Returns the files in S3 that a server reads through its cache."""
        indexes = self._history.with_name("history-cache").glob("*.index")
        files = [read_name(path.with_suffix(".duckdb")) for path in indexes]
        return [file for file in files if file is not None]

    # Segments of the journal

    def _segment(
        self, segment: Segment, end: int | None, chains: dict[int, bytes]
    ) -> Iterator[Damage]:
        path = segment.path
        try:
            if all(has_hidden_commits(path) for _ in range(_CHECKS)):
                yield Damage(path.name, "its write-ahead log is damaged", segment.first)
            with reading(path, self._is_live) as reader:
                newest_entry = newest(reader)
                if newest_entry is None:
                    if end is not None:
                        yield Damage(path.name, "is empty", segment.first, end)
                    return
                for lost in lost_in(reader):
                    yield Damage(path.name, f"lost: {lost.reason}", lost.first, lost.last)
                yield from _chain_differs(reader, path, chains)
                last = self._last = newest_entry[0] if end is None else end
                yield from self._entries(reader, path, last)
        except (StorageFailed, sqlite3.Error, OSError) as error:
            if not path.exists():
                return  # a running server has trimmed it: its entries are in sealed files
            yield Damage(path.name, str(error), getattr(error, "position", segment.first))
        self.segments += 1

    def _entries(self, reader: sqlite3.Connection, path: Path, last: int) -> Iterator[Damage]:
        after = int(path.stem) - 1
        while after < last:
            try:
                entries = read_verified(reader, path, after, last, _BATCH)
            except JournalDamaged as error:
                end = _end_of_hole(reader, error.position, last)
                yield Damage(path.name, str(error), error.position, end)
                # Later entries may also be damaged.
                after = end
                continue
            self.records += sum(not self._is_verified(entry.position) for entry in entries)
            self._advance(sum(len(entry.record) for entry in entries), len(entries))
            after = entries[-1].position if len(entries) == _BATCH else last

    def _is_verified(self, position: int) -> bool:
        return any(first <= position <= last for first, last in self._verified)

    # The journal, if not in files

    def _from_source(
        self, source: JournalSource, first: int, chains: dict[int, bytes]
    ) -> Iterator[Damage]:
        for lost in source.lost_between(first, _END):
            yield Damage("journal", f"lost: {lost.reason}", lost.first, lost.last)
        for position, chain in chains.items():
            if source.chain_at(position) not in (UNKNOWN_CHAIN, chain):
                yield Damage("journal", "disagrees with sealed files", position, position)
        yield from _merged(self._damaged(source, first))

    def _damaged(self, source: JournalSource, first: int) -> Iterator[Damage]:
        """Reads every record, and yields each damaged position."""
        self._last = first - 1
        while True:
            try:
                for entries in source.read_range(self._last + 1, _END, _BATCH):
                    self.records += sum(not self._is_verified(e.position) for e in entries)
                    self._advance(sum(len(e.record) for e in entries), len(entries))
                    self._last = entries[-1].position
            except JournalDamaged as error:
                self._last = max(self._last + 1, error.position)
                yield Damage("journal", str(error), self._last, self._last)
            except StorageFailed as error:
                yield Damage("journal", str(error))
                return
            else:
                return

    # Sealed files

    def _sealed(self, file: SealedFile, chains: dict[int, bytes]) -> Iterator[Damage]:
        name = file.path.name
        ends = (file.first, file.last)
        try:
            if not is_whole(file):
                yield Damage(name, "its content is not what its name says", *ends)
            else:
                yield from self._rows(file, chains)
        except FileNotFoundError:
            return  # a running server has merged it into another file
        except (duckdb.Error, OSError, IndexError) as error:
            yield Damage(name, f"cannot be read: {error}", *ends)
        self.files += 1

    # Event data stores

    def _of_stores(self) -> Iterator[Damage]:
        """Verifies event data stores and their Iceberg tables, and yields unlisted files."""
        for table in sorted(self._stores.glob("*/iceberg/metadata")):
            yield from self._of_table(table)
        paths = {
            path.relative_to(self._stores.parent).as_posix(): path
            for path in sorted(self._stores.glob("*/*.parquet"))
        }
        if self._listed is None:
            for name, path in paths.items():
                if problem := self._problem_of(path):
                    yield Damage(name, problem)
            return
        for file in self._listed:
            if file.is_lost:
                yield Damage(STORES, "events are lost", file.first, file.last)
            elif file.name and (problem := self._problem_of(self._stores.parent / file.name)):
                yield Damage(file.name, problem, file.first, file.last)
        if self._replaced is not None and not self._is_live:
            for name in paths.keys() - {*self._replaced, *(file.name for file in self._listed)}:
                yield Damage(name, "is not in the list of the store's files: opentrail ignores it")

    def _of_table(self, folder: Path) -> Iterator[Damage]:
        """Verifies the metadata of an Iceberg table, which a running server may be replacing."""
        problems = [*damaged_in(folder)]
        for _ in range(_CHECKS if self._is_live and problems else 0):
            problems = [*damaged_in(folder)]
        for name, problem in problems:
            path = (folder / name).relative_to(self._stores.parent)
            yield Damage(path.as_posix(), f"{problem}: a server rewrites the Iceberg table")

    def _of_results(self) -> Iterator[Damage]:
        """Verifies stored queries and their results."""
        folder = self._stores.with_name("queries")
        for path, problem in damaged_results(folder):
            yield Damage(f"{folder.name}/{path.name}", f"{problem}: run the query again")

    def _problem_of(self, path: Path) -> str | None:
        file = read_name(path)
        self.files += 1
        try:
            is_good = file is not None and is_whole(file)
            self._advance(path.stat().st_size, 0)
        except FileNotFoundError:
            return "is missing: restore it from a backup"
        except OSError as error:
            return f"cannot be read: {error}"
        return None if is_good else "its content is not what its name says"

    def _rows(self, file: SealedFile, chains: dict[int, bytes]) -> Iterator[Damage]:
        with duckdb.connect(":memory:", config={"threads": 1}) as connection:
            connection.execute(attaching(file.path, "sealed"))
            (before,) = connection.execute("SELECT chain_before FROM sealed.about").fetchall()[0]
            chain, expected = bytes(before), chains.get(file.first - 1)
            if expected is not None and chain and chain != expected:
                yield Damage(file.path.name, "does not continue the chain", file.first, file.first)
            rows = connection.execute("SELECT record FROM sealed.events ORDER BY rowid")
            count = expired = 0
            while batch := rows.fetchmany(_BATCH):
                size = 0
                for (record,) in batch:
                    expired += record is None
                    raw = (record or "").encode()
                    chain = hashlib.sha256(chain + raw).digest()
                    size += len(raw)
                count += len(batch)
                self._advance(size, len(batch))
        self.records += count - expired
        if file.series is Series.JOURNAL:
            self._verified.append((file.first, file.last))
        if count != file.records:
            yield Damage(file.path.name, f"holds {count} records", file.first, file.last)
        if file.series is Series.JOURNAL and before != UNKNOWN_CHAIN and not expired:
            chains[file.last] = chain


def _merged(damages: Iterable[Damage]) -> Iterator[Damage]:
    """Yields one damage for each run of consecutive positions."""
    run: Damage | None = None
    for damage in damages:
        if run is not None and run.last is not None and damage.first == run.last + 1:
            run = replace(run, last=damage.last)
            continue
        if run is not None:
            yield run
        run = damage
    if run is not None:
        yield run


def _chain_differs(
    reader: sqlite3.Connection, path: Path, chains: dict[int, bytes]
) -> Iterator[Damage]:
    """Yields where sealed files and the journal disagree about the chain at a position."""
    for position, chain in chains.items():
        if position < int(path.stem) - 1:
            continue
        own = chain_at(reader, path, position)
        if own not in (UNKNOWN_CHAIN, chain):
            yield Damage(path.name, "disagrees with sealed files", position, position)


def _end_of_hole(reader: sqlite3.Connection, position: int, last: int) -> int:
    """Returns the last missing position from a position on, itself if it is not missing."""
    (following,) = reader.execute(_FOLLOWING, (position,)).fetchone()
    return max(position, last if following is None else following - 1)


def _before(name: str, begin: int | None, files: list[SealedFile]) -> Iterator[Damage]:
    """Yields positions missing between the sealed files and the journal.

    Args:
        name: the oldest part of the journal.
        begin: its first position; None for no journal.
        files: the sealed files.
    """
    sealed = max((file.last for file in files), default=0)
    if begin is not None and begin > sealed + 1:
        problem = "neither sealed files nor the journal hold positions before it"
        yield Damage(name, problem, sealed + 1, begin - 1)


def _between(files: list[SealedFile], begin: int | None) -> Iterator[Damage]:
    """Yields the gaps before sealed files that no other sealed file fills.

    Before the first file none are missing if the journal, which begins at `begin`, has them.
    """
    end = None if begin == 1 else 0
    for file in files:
        if end is not None and file.first > end + 1:
            gap = (end + 1, file.first - 1)
            yield Damage(file.path.name, "positions before it are in no sealed file", *gap)
        end = max(end or 0, file.last)


def _lost_imports(files: Sequence[SealedFile], last: int) -> Iterator[Damage]:
    """Yields the unexpired imported events, up to a number, missing from all files."""
    end, problem = 0, "imported events are missing: import them again"
    for file in files:
        if file.first > end + 1:
            yield Damage(file.path.name, f"{problem}: numbers {end + 1} to {file.first - 1}")
        end = max(end, file.last)
    if last > end:
        yield Damage("history", f"{problem}: numbers {end + 1} to {last}")
