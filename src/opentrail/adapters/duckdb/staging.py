"""Stages imported records and writes them to a sealed file, each event once (guarantee D12)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import orjson

from opentrail.adapters.data_directory.sealed_file_names import (
    SealedFile,
    Series,
    attaching,
    sealed_files,
)
from opentrail.adapters.duckdb.index import Index, hash_ids
from opentrail.adapters.duckdb.record_columns import DIVIDED, ColumnPartitioning
from opentrail.adapters.duckdb.schema import (
    FROM_RECORD,
    SEALED_COLUMNS,
    create_hot,
    imported_row,
    parts_of,
)
from opentrail.adapters.duckdb.sealed_file import Sealing, write_sealed
from opentrail.adapters.duckdb.table_set import insert_rows
from opentrail.core.attributes import Attributes
from opentrail.core.errors import StorageFailed
from opentrail.core.event import micros
from opentrail.ports.journal import JournalSource, first_not_lost

_MORE = {"file": "INTEGER", "line": "BIGINT", "part": "TINYINT"}
#: Pairs of records that are compared per step.
_STEP = 1_000
_POSITION = "-(? + row_number() OVER (ORDER BY event_time, position))"
_WRITE = (
    f"INSERT INTO made.events ({SEALED_COLUMNS})"  # noqa: S608 - ours
    f" SELECT {_POSITION}, origin, ?, {FROM_RECORD}, {DIVIDED}"
    " FROM staged ORDER BY event_time, position"
)
_WRITE_KEYS = (
    f"INSERT INTO temp.keys SELECT {_POSITION}, category, part, event_id, resource_names"  # noqa: S608 - ours
    " FROM staged"
)
_INSERT_REPORT = "INSERT INTO made.imported VALUES (?, ?, ?)"


@dataclass(slots=True)
class Duplicates:
    """Records not imported, by the number of their file."""

    #: The number of a file's records already in history.
    same: Counter[int] = field(default_factory=Counter)
    #: Lines of a file with a different event's id.
    other: dict[int, list[int]] = field(default_factory=dict)


class Staging:
    """Collects records, removes those already in history, and writes the others.

    Only one thread may use it. Between `deduplicate` and the end of `write` no other process may
    write a file of imported events.
    """

    def __init__(self, history: Path, journal: JournalSource) -> None:
        self._history = history
        self._journal = journal
        config: dict[str, str | int | float | list[str]] = {
            "threads": 1,
            "memory_limit": "320MB",
            "preserve_insertion_order": True,
            "temp_directory": str(history / "staging.tmp.swap"),
        }
        self._connection = duckdb.connect(":memory:", config=config)
        self._attached: dict[Path, str] = {}
        self._names = iter(range(1, 1 << 62))
        self._reports: dict[Path, dict[str, Any]] = {}
        # One for all files: the largest kind of event is usually the same.
        self._partitioning = ColumnPartitioning()
        self.clear()

    def clear(self) -> None:
        """Discards the added records."""
        self._connection.execute("DROP TABLE IF EXISTS staged")
        self._connection.execute(create_hot("staged", _MORE))
        self._count = 0

    def load_reports(self) -> None:
        """Reads the reports of earlier imports.

        After an error in `MOVED` the caller may retry.
        """
        imported = [file for file in self._imported() if not file.is_expired]
        journal = self._sealed()
        for path in self._attached.keys() - {file.path for file in [*imported, *journal]}:
            self._connection.execute(f"DETACH {self._attached.pop(path)}")
            self._reports.pop(path, None)
        for file in imported:
            if file.path not in self._reports:
                rows = self._connection.execute(
                    f"SELECT sha256, outcome FROM {self._attach(file)}.imported"  # noqa: S608
                ).fetchall()
                reports = {sha256: orjson.loads(report) for sha256, report in rows}
                self._reports[file.path] = reports

    def report_of(self, digest: str) -> Any:
        """Returns the import report of a file with this SHA-256, None without one.

        Forgets files whose events have expired.
        """
        matches = (reports[digest] for reports in self._reports.values() if digest in reports)
        return next(matches, None)

    def add(self, file: int, records: Sequence[tuple[int, Attributes, bytes]]) -> None:
        """Adds records: line, attributes, bytes."""
        if not records:
            return
        values = [
            imported_row(number, attributes, raw)
            for number, (_, attributes, raw) in enumerate(records, self._count)
        ]
        rows = [
            (*row, file, line, part)
            for row, (line, _, _), part in zip(
                values, records, parts_of(values, self._partitioning), strict=True
            )
        ]
        insert_rows(self._connection, "staged", rows, tuple(_MORE))
        self._count += len(rows)

    def deduplicate(self, duplicates: Duplicates) -> None:
        """Removes records already in sealed files or the journal, and staged duplicates.

        Keeps records in sealed files at positions that the journal has lost.

        After an error in `MOVED` the caller may call it again to continue.
        """
        hash_ids(self._connection)
        compared: set[Path] = set()
        while True:
            sealed = self._sealed()
            files = [*sealed, *self._imported()]
            for file in files:
                if file.path not in compared and not file.is_expired:
                    index = Index(self._attach(file), file.first, file.series)
                    self._remove(self._pairs_in_file(index), duplicates)
                compared.add(file.path)
            last = max((file.last for file in sealed if not self._is_restored(file)), default=0)
            self._remove(self._pairs_in_journal(last), duplicates)
            # Records sealed since then may have left the journal.
            if all(file.path in compared for file in [*self._sealed(), *self._imported()]):
                break
        # Last, so that each is first compared with its copy in history, if any.
        self._remove(self._pairs_staged(), duplicates)

    def _remove(self, pairs: Iterator[tuple[int, bytes, bytes]], duplicates: Duplicates) -> None:
        """Deletes staged rows, given the bytes of the staged and the recorded record."""
        same: list[int] = []
        other: list[int] = []
        for number, staged, recorded in pairs:
            (same if _is_same(staged, recorded) else other).append(number)
        for numbers, is_same in ((same, True), (other, False)):
            if not numbers:
                continue
            rows = self._connection.execute(
                "DELETE FROM staged WHERE position IN (SELECT unnest(?::BIGINT[]))"
                " RETURNING file, line",
                [numbers],
            ).fetchall()
            for file, line in rows:
                if is_same:
                    duplicates.same[file] += 1
                else:
                    duplicates.other.setdefault(file, []).append(line)

    def _pairs_staged(self) -> Iterator[tuple[int, bytes, bytes]]:
        pairs = self._connection.execute(
            "SELECT position, first FROM (SELECT position, min(position) OVER"
            " (PARTITION BY event_id) AS first FROM staged) WHERE position > first"
        ).fetchall()
        yield from self._compared(pairs, "staged", "position")

    def _pairs_in_file(self, index: Index) -> Iterator[tuple[int, bytes, bytes]]:
        # The join is on hashes, to decompress only records that need comparing.
        pairs = self._connection.execute(index.same_ids).fetchall()
        if pairs and index.series is Series.JOURNAL:
            # Event history has records at lost positions for a while, and then forgets them.
            positions = [position for _, position in pairs]
            lost = self._journal.restored_between(min(positions), max(positions))
            pairs = [pair for pair in pairs if first_not_lost(lost, pair[1], pair[1]) is not None]
        for number, staged, recorded in self._compared(
            pairs, f"{index.database}.events", "position"
        ):
            if _id_of(staged) == _id_of(recorded):
                yield number, staged, recorded

    def _compared(
        self, pairs: Sequence[tuple[int, int]], table: str, key: str
    ) -> Iterator[tuple[int, bytes, bytes]]:
        for start in range(0, len(pairs), _STEP):
            part = pairs[start : start + _STEP]
            staged = self._records("staged", "position", [pair[0] for pair in part])
            recorded = self._records(table, key, [pair[1] for pair in part])
            for number, counterpart in part:
                if number in staged:  # not removed before
                    yield number, staged[number], recorded[counterpart]

    def _records(self, table: str, key: str, keys: Sequence[int]) -> dict[int, bytes]:
        rows = self._connection.execute(
            f"SELECT {key}, record FROM {table}"  # noqa: S608 - ours
            f" WHERE {key} IN (SELECT unnest(?::BIGINT[]))",
            [list(keys)],
        ).fetchall()
        return {number: record.encode() for number, record in rows}

    def _pairs_in_journal(self, position: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Finds records in the journal after the last sealed position."""
        rows = self._connection.execute("SELECT event_id, position FROM staged").fetchall()
        staged: dict[str, list[int]] = {}
        for event_id, number in rows:
            staged.setdefault(event_id, []).append(number)
        for event_id, record in self._journal.records_behind(position, staged):
            for number, own in self._records("staged", "position", staged[event_id]).items():
                yield number, own, record

    def write(
        self, imported_at: datetime, reports: Sequence[tuple[str, str, Any]], known_last: int = 0
    ) -> tuple[Path, int] | None:
        """Writes the remaining records to a file; returns its path and the number of records.

        Args:
            imported_at: the time of the import.
            reports: SHA-256, name and report of each file.
            known_last: the number of the last imported event, in case its file is missing.

        Returns:
            None if no records remain.
        """
        count = int(self._connection.execute("SELECT count(*) FROM staged").fetchall()[0][0])
        if not count:
            return None
        last = max([known_last, *(file.last for file in self._imported())])

        def fill(connection: duckdb.DuckDBPyConnection) -> int:
            connection.execute(_WRITE, [last, micros(imported_at)])
            connection.execute(_WRITE_KEYS, [last])
            for digest, name, report in reports:
                connection.execute(_INSERT_REPORT, [digest, name, orjson.dumps(report).decode()])
            return last + count

        sealing = Sealing(self._history, Series.IMPORTED, last + 1)
        return write_sealed(sealing, fill, self._connection), count

    def _imported(self) -> list[SealedFile]:
        return sealed_files(self._history, Series.IMPORTED)

    def _sealed(self) -> list[SealedFile]:
        return sealed_files(self._history, Series.JOURNAL)

    def _is_restored(self, file: SealedFile) -> bool:
        """Returns whether the end of a file belongs to a journal since restored to an older one."""
        return bool(self._journal.restored_between(file.last, file.last))

    def _attach(self, file: SealedFile) -> str:
        name = self._attached.get(file.path)
        if name is None:
            name = f"present_{next(self._names)}"
            self._connection.execute(attaching(file.path, name))
            self._attached[file.path] = name
        return name

    def close(self) -> None:
        """Closes the database."""
        self._connection.close()


def _id_of(record: bytes) -> str:
    return str(orjson.loads(record)["eventID"])


def _is_same(record: bytes, other: bytes) -> bool:
    return record == other or orjson.loads(record) == orjson.loads(other)


#: Errors of a file merged or expired during the read; the caller retries.
MOVED = (duckdb.IOException, StorageFailed)
