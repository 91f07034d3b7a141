"""Knowledge of state store and sealed files about a journal that may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.sealed_file_names import Series, stem_of
from opentrail.app.known_positions import (
    known_imports,
    known_positions,
    mark_imports,
    mark_journal,
)
from opentrail.core.errors import StorageFailed
from opentrail.ports.control import Put, StoreWrite
from opentrail.ports.journal import KnownPositions
from tests.factories import some_new_entries
from tests.fakes import MemoryControl, MemoryJournal, asynchronous


@asynchronous
async def test_a_new_data_directory_has_no_known_positions(tmp_path: Path) -> None:
    assert await known_positions(MemoryControl(), tmp_path) is None
    assert await known_imports(MemoryControl()) == 0


@asynchronous
async def test_files_in_s3_count_as_sealed(tmp_path: Path) -> None:
    control = MemoryControl()
    assert await known_positions(control, tmp_path, shared=50) == KnownPositions(50, 50)
    (tmp_path / f"{stem_of(Series.JOURNAL, 1, 70)}-{'0' * 16}.duckdb").touch()
    assert await known_positions(control, tmp_path, shared=50) == KnownPositions(70, 70)


@asynchronous
async def test_an_empty_journal_is_known_to_exist(tmp_path: Path) -> None:
    control = MemoryControl()
    await mark_journal(control, MemoryJournal())
    assert await known_positions(control, tmp_path) == KnownPositions(0, 0)


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("place", {"position": 44}),
        ("event-bus", {"position": 44}),
        ("webhook", {"position": 44}),
        ("detections-cursor", {"position": 44, "resume_after": 40}),
        ("delivery", {"position": 44}),
        ("plan", {"until": 44}),
    ],
)
@asynchronous
async def test_cursors_and_sealed_files_give_known_positions(
    tmp_path: Path, kind: str, document: dict[str, int]
) -> None:
    control = MemoryControl()
    journal = MemoryJournal()
    await journal.append(some_new_entries(12))
    await mark_journal(control, journal)
    assert await known_positions(control, tmp_path) == KnownPositions(0, 12)
    (tmp_path / f"{stem_of(Series.JOURNAL, 1, 30)}-{'0' * 16}.duckdb").touch()
    (tmp_path / f"{stem_of(Series.IMPORTED, 1, 900)}-{'0' * 16}.duckdb").touch()
    assert await known_positions(control, tmp_path) == KnownPositions(30, 30)
    await control.apply([Put(kind, "one", document)])
    assert await known_positions(control, tmp_path) == KnownPositions(30, 44)


@asynchronous
async def test_the_last_imported_event_is_remembered() -> None:
    control = MemoryControl()
    await mark_imports(control, 58)
    assert await known_imports(control) == 58


@asynchronous
async def test_failed_write_of_the_mark_is_no_failure() -> None:
    class FullControl(MemoryControl):
        async def apply(self, changes: Sequence[StoreWrite]) -> None:
            del changes
            raise StorageFailed("the disk is full")

    await mark_journal(FullControl(), MemoryJournal())
