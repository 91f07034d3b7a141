"""Part files: bounded, whole, and nobody else's."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from opentrail.commands import export_files as module
from opentrail.commands.export_files import KINDS, Parts
from opentrail.core.errors import StorageFailed, UsageError
from tests.commands.test_export_rows import an_event
from tests.factories import a_record, event_id

SUFFIXES = sorted(KINDS)


def events(count: int, first: int = 1) -> list[dict[str, Any]]:
    return [an_event(a_record(eventID=event_id(n))) for n in range(first, first + count)]


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def ids_in(file: Path) -> list[str]:
    if file.suffix == ".parquet":
        rows = duckdb.execute(f"SELECT event_id FROM read_parquet('{file}')").fetchall()  # noqa: S608
        return [row[0] for row in rows]
    with file.open(newline="") as lines:
        if file.suffix == ".csv":
            return [row["event_id"] for row in csv.DictReader(lines)]
        return [json.loads(line)["eventID"] for line in lines]


@pytest.mark.parametrize("kind", SUFFIXES)
def test_events_fill_one_file_after_the_other(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 10)
    folder = tmp_path / "new" / "folder"
    parts = Parts(folder, kind, overwrite=False)
    parts.check()
    parts.begin()
    for first, count in ((1, 7), (8, 20), (28, 3)):
        parts.add(events(count, first))
    parts.finish()
    assert names(folder) == ["_SUCCESS", *(f"events-0000{n}.{kind}" for n in (1, 2, 3))]
    found = [ids_in(folder / name) for name in parts.names]
    assert [len(ids) for ids in found] == [10, 10, 10]
    assert [one for ids in found for one in ids] == [event_id(n) for n in range(1, 31)]
    assert parts.whole == 30


def test_large_records_fill_a_file_sooner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 5_000)
    parts = Parts(tmp_path, "ndjson", overwrite=False)
    parts.begin()
    parts.add(events(40))
    parts.finish()
    assert len(parts.names) > 5
    assert all((tmp_path / name).stat().st_size < 10_000 for name in parts.names)


@pytest.mark.parametrize("kind", SUFFIXES)
def test_no_events_make_one_empty_file(kind: str, tmp_path: Path) -> None:
    parts = Parts(tmp_path, kind, overwrite=False)
    parts.begin()
    parts.finish()
    assert names(tmp_path) == ["_SUCCESS", f"events-00001.{kind}"]
    assert ids_in(tmp_path / f"events-00001.{kind}") == []


@pytest.mark.parametrize("kind", SUFFIXES)
def test_what_is_not_whole_has_no_name(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 10)
    parts = Parts(tmp_path, kind, overwrite=False)
    parts.begin()
    parts.add(events(15))
    assert f"events-00002.{kind}" not in names(tmp_path)
    parts.abandon()
    assert names(tmp_path) == [f"events-00001.{kind}"]
    assert parts.whole == 10


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        Parts(tmp_path, "csv", overwrite=False).check()
    with pytest.raises(UsageError, match="no folder"):
        Parts(tmp_path / "letter.txt", "csv", overwrite=True).check()
    assert names(tmp_path) == ["letter.txt"]


def test_overwriting_replaces_our_files_and_no_others(tmp_path: Path) -> None:
    ours = ["events-00001.csv", "events-00002.csv", ".events-00003.parquet.tmp", "_SUCCESS"]
    others = ["letter.txt", "events.csv", "events-00001.csv.bak", "my-events-00001.csv"]
    for name in (*ours, *others):
        (tmp_path / name).write_text("old")
    (tmp_path / "events-00009.csv").mkdir()
    parts = Parts(tmp_path, "csv", overwrite=True)
    parts.check()
    parts.begin()
    parts.add(events(1))
    parts.finish()
    kept = [*others, "events-00009.csv", "events-00001.csv", "_SUCCESS"]
    assert names(tmp_path) == sorted(kept)
    assert all((tmp_path / name).read_text() == "old" for name in others)
    assert ids_in(tmp_path / "events-00001.csv") == [event_id(1)]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    parts = Parts(tmp_path / "file" / "folder", "csv", overwrite=False)
    with pytest.raises(StorageFailed, match="cannot be written"):
        parts.begin()
