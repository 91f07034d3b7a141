"""Imported records on their way into one sealed file: each event once (guarantee D12)."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import orjson

from opentrail.adapters.duckdb.files import SealedFile, attaching, sealed_files
from opentrail.adapters.duckdb.index import Index, hash_ids
from opentrail.adapters.duckdb.partitions import DIVIDED, ColumnPartitioning
from opentrail.adapters.duckdb.schema import (
    KEPT,
    SEALED_COLUMNS,
    column_lists,
    create_hot,
    imported_row,
    insert_into,
    parts_of,
)
from opentrail.adapters.duckdb.sealed_file import Sealing, write_sealed
from opentrail.adapters.sqlite.segments import records_behind
from opentrail.core.attributes import Attributes
from opentrail.core.event import micros

_MORE = {"file": "INTEGER", "line": "BIGINT", "part": "TINYINT"}
#: Records that are compared at a time.
_COMPARED = 1_000
_POSITION = "-(? + row_number() OVER (ORDER BY event_time, position))"
_WRITE = (
    f"INSERT INTO made.events ({SEALED_COLUMNS})"  # noqa: S608 - ours
    f" SELECT {_POSITION}, origin, ?, {KEPT}, {DIVIDED}"
    " FROM staged ORDER BY event_time, position"
)
_WRITE_KEYS = (
    f"INSERT INTO temp.keys SELECT {_POSITION}, category, part, event_id, resource_names"  # noqa: S608 - ours
    " FROM staged"
)
_NOTE = "INSERT INTO made.imported VALUES (?, ?, ?)"


@dataclass(slots=True)
class Settled:
    """What was left out, by the file's number."""

    #: How many records of a file were there already, just as they are.
    doubled: Counter[int] = field(default_factory=Counter)
    #: Lines of a file whose event id another event has.
    taken_ids: dict[int, list[int]] = field(default_factory=dict)


class Staging:
    """Collects records, leaves out those that history holds already, and writes the others.

    One thread uses it. Between `settle` and the end of `write` no other may write a file of
    imported events.
    """

    def __init__(self, history: Path, journal: Path) -> None:
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
        self._known: dict[Path, dict[str, Any]] = {}
        #: Kept from one file to the next: what was most of one will be most of the other.
        self._parting = ColumnPartitioning()
        self.clear()

    def clear(self) -> None:
        """Forgets what was added."""
        self._connection.execute("DROP TABLE IF EXISTS staged")
        self._connection.execute(create_hot("staged", _MORE))
        self._count = 0

    def recall(self) -> None:
        """Learns what became of the files that were imported until now.

        If it fails with one of `MOVED`, it may be called again.
        """
        files = self._files()
        for path in self._attached.keys() - {file.path for file in files}:
            self._connection.execute(f"DETACH {self._attached.pop(path)}")
            self._known.pop(path, None)
        for file in files:
            if file.is_import and file.path not in self._known:
                rows = self._connection.execute(
                    f"SELECT sha256, outcome FROM {self._attach(file)}.imported"  # noqa: S608
                ).fetchall()
                outcomes = {sha256: orjson.loads(outcome) for sha256, outcome in rows}
                self._known[file.path] = outcomes

    def outcome_of(self, digest: str) -> Any:
        """Returns what became of a file with this SHA-256 when it was imported, None if it was not.

        Known is what `recall` has learned: files whose events are still there.
        """
        known = (outcomes[digest] for outcomes in self._known.values() if digest in outcomes)
        return next(known, None)

    def add(self, file: int, records: Sequence[tuple[int, Attributes, bytes]]) -> None:
        """Adds records: line, attributes, bytes."""
        if not records:
            return
        made = [
            imported_row(number, found, raw)
            for number, (_, found, raw) in enumerate(records, self._count)
        ]
        rows = [
            (*row, file, line, part)
            for row, (line, _, _), part in zip(
                made, records, parts_of(made, self._parting), strict=True
            )
        ]
        self._connection.execute(insert_into("staged", _MORE), column_lists(rows))
        self._count += len(rows)

    def settle(self, settled: Settled) -> None:
        """Leaves out what is there already: in these files, in sealed files, in the journal.

        If it fails with one of `MOVED`, it may be called again to go on.
        """
        hash_ids(self._connection)
        seen: set[Path] = set()
        files = self._files()
        while True:
            for file in files:
                if file.path not in seen and not file.is_expired:
                    index = Index(self._attach(file), file.first, file.is_import)
                    self._leave_out(self._doubled_in(index), settled)
                seen.add(file.path)
            sealed = max((file.last for file in files if not file.is_import), default=0)
            self._leave_out(self._doubled_behind(sealed), settled)
            # What was sealed meanwhile may be gone from the journal.
            files = self._files()
            if all(file.path in seen for file in files):
                break
        # Last, so that of several here one that is there already is compared with that.
        self._leave_out(self._doubled_here(), settled)

    def _leave_out(self, pairs: Iterator[tuple[int, bytes, bytes]], settled: Settled) -> None:
        """Deletes staged rows that are there already, each given with both records' bytes."""
        same: list[int] = []
        other: list[int] = []
        for number, staged, present in pairs:
            (same if _is_same(staged, present) else other).append(number)
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
                    settled.doubled[file] += 1
                else:
                    settled.taken_ids.setdefault(file, []).append(line)

    def _doubled_here(self) -> Iterator[tuple[int, bytes, bytes]]:
        pairs = self._connection.execute(
            "SELECT position, first FROM (SELECT position, min(position) OVER"
            " (PARTITION BY event_id) AS first FROM staged) WHERE position > first"
        ).fetchall()
        yield from self._compared(pairs, "staged", "position")

    def _doubled_in(self, index: Index) -> Iterator[tuple[int, bytes, bytes]]:
        # Only hashes are joined: a record is read, and unpacked, only where it must be compared.
        pairs = self._connection.execute(index.same_ids).fetchall()
        for number, staged, present in self._compared(
            pairs, f"{index.database}.events", "position"
        ):
            if _id_of(staged) == _id_of(present):
                yield number, staged, present

    def _compared(
        self, pairs: Sequence[tuple[int, int]], table: str, key: str
    ) -> Iterator[tuple[int, bytes, bytes]]:
        for start in range(0, len(pairs), _COMPARED):
            part = pairs[start : start + _COMPARED]
            staged = self._records("staged", "position", [pair[0] for pair in part])
            present = self._records(table, key, [pair[1] for pair in part])
            for number, other in part:
                if number in staged:  # it may have been left out before
                    yield number, staged[number], present[other]

    def _records(self, table: str, key: str, keys: Sequence[int]) -> dict[int, bytes]:
        rows = self._connection.execute(
            f"SELECT {key}, record FROM {table}"  # noqa: S608 - ours
            f" WHERE {key} IN (SELECT unnest(?::BIGINT[]))",
            [list(keys)],
        ).fetchall()
        return {number: record.encode() for number, record in rows}

    def _doubled_behind(self, position: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Finds what the journal holds behind the last sealed position."""
        rows = self._connection.execute("SELECT event_id, position FROM staged").fetchall()
        staged: dict[str, list[int]] = {}
        for event_id, number in rows:
            staged.setdefault(event_id, []).append(number)
        for event_id, record in records_behind(self._journal, position, staged):
            for number, own in self._records("staged", "position", staged[event_id]).items():
                yield number, own, record

    def write(
        self, recorded_at: datetime, outcomes: Sequence[tuple[str, str, Any]], known_last: int = 0
    ) -> tuple[Path, int] | None:
        """Writes what is left to a file; returns its path and how many records it holds.

        Args:
            recorded_at: when the records were imported.
            outcomes: of each file: SHA-256, name, and what `outcome_of` is to tell of it.
            known_last: the number of the last imported event, if its file may be gone.

        Returns:
            None if there is nothing to write.
        """
        count = int(self._connection.execute("SELECT count(*) FROM staged").fetchall()[0][0])
        if not count:
            return None
        last = max((file.last for file in self._files() if file.is_import), default=0)
        last = max(last, known_last)

        def fill(connection: duckdb.DuckDBPyConnection) -> None:
            connection.execute(_WRITE, [last, micros(recorded_at)])
            connection.execute(_WRITE_KEYS, [last])
            for digest, name, outcome in outcomes:
                told = orjson.dumps(outcome).decode()
                connection.execute(_NOTE, [digest, name, told])

        sealing = Sealing(self._history, last + 1, last + count, is_import=True)
        return write_sealed(sealing, fill, self._connection), count

    def _files(self) -> list[SealedFile]:
        return sealed_files(self._history)

    def _attach(self, file: SealedFile) -> str:
        name = self._attached.get(file.path)
        if name is None:
            name = f"present_{next(self._names)}"
            self._connection.execute(attaching(file.path, name))
            self._attached[file.path] = name
        return name

    def close(self) -> None:
        """Lets everything go."""
        self._connection.close()


def _id_of(record: bytes) -> str:
    return str(orjson.loads(record)["eventID"])


def _is_same(one: bytes, other: bytes) -> bool:
    return one == other or orjson.loads(one) == orjson.loads(other)


#: What may go wrong because a file was merged away meanwhile; trying again helps.
MOVED = (duckdb.IOException, sqlite3.OperationalError)
