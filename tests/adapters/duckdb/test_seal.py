"""A sealed file: whole and under its final name, or not there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from opentrail.adapters.duckdb.seal import seal
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.core import faults
from tests.factories import a_new_entry, event_id, record_bytes, some_records
from tests.fakes import PATIENCE, PowerCutError, run

RECORDS = some_records(60)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    folder = tmp_path / "journal"
    folder.mkdir()

    async def write() -> None:
        journal = SqliteJournal(folder, segment_bytes=24 * 1024)
        for record in RECORDS:
            await journal.append([a_new_entry(record)])
        await journal.close()

    run(write())
    return folder


@pytest.fixture
def history(tmp_path: Path) -> Path:
    folder = tmp_path / "history"
    folder.mkdir()
    return folder


def rows(file: Path) -> list[tuple[int, str, str]]:
    with duckdb.connect(str(file), read_only=True) as database:
        return database.execute(
            "SELECT position, event_id, record FROM events ORDER BY position"
        ).fetchall()


def expected(first: int, last: int) -> list[tuple[int, str, str]]:
    return [
        (position, event_id(position), record_bytes(RECORDS[position - 1]).decode())
        for position in range(first, last + 1)
    ]


@pytest.mark.parametrize(("first", "last"), [(1, 60), (1, 1), (60, 60), (7, 44)])
def test_a_sealed_file_holds_its_range_and_nothing_else(
    journal: Path, history: Path, first: int, last: int
) -> None:
    seal(journal, first, last, history / "sealed.duckdb")
    assert rows(history / "sealed.duckdb") == expected(first, last)
    assert [file.name for file in history.iterdir()] == ["sealed.duckdb"]


def test_a_sealed_file_replaces_one_of_the_same_name(journal: Path, history: Path) -> None:
    (history / "sealed.duckdb").write_bytes(b"damaged")
    seal(journal, 1, 20, history / "sealed.duckdb")
    assert rows(history / "sealed.duckdb") == expected(1, 20)


@pytest.mark.parametrize(("first", "last"), [(50, 61), (0, 10), (61, 70)])
def test_a_range_that_the_journal_does_not_hold_is_refused_and_leaves_nothing(
    journal: Path, history: Path, first: int, last: int
) -> None:
    with pytest.raises(RuntimeError, match="journal holds"):
        seal(journal, first, last, history / "sealed.duckdb")
    assert list(history.iterdir()) == []


@pytest.fixture
def power_cut_before_the_rename() -> Iterator[None]:
    def die() -> None:
        raise PowerCutError

    faults.arm("history.sealed", 1, die)
    yield
    faults.arm("history.sealed", sys.maxsize, lambda: None)


@pytest.mark.anomaly
@pytest.mark.usefixtures("power_cut_before_the_rename")
def test_until_it_is_whole_a_file_has_a_temporary_name(journal: Path, history: Path) -> None:
    with pytest.raises(PowerCutError):
        seal(journal, 1, 60, history / "sealed.duckdb")
    (leftover,) = history.iterdir()
    assert leftover.suffix == ".tmp"
    assert rows(leftover) == expected(1, 60)


def test_the_child_process_seals_and_says_so_with_its_exit_code(
    journal: Path, history: Path
) -> None:
    def child(first: int, last: int) -> subprocess.CompletedProcess[str]:
        target = str(history / "sealed.duckdb")
        return subprocess.run(
            [
                *(sys.executable, "-m", "opentrail.adapters.duckdb.seal", str(journal)),
                *(str(first), str(last), target),
            ],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    refused = child(50, 70)
    assert refused.returncode != 0
    assert "journal holds 11 of the 21 entries" in refused.stderr
    assert list(history.iterdir()) == []
    assert child(1, 60).returncode == 0
    assert rows(history / "sealed.duckdb") == expected(1, 60)


def test_columns_are_those_of_the_record(journal: Path, history: Path) -> None:
    seal(journal, 1, 3, history / "sealed.duckdb")
    with duckdb.connect(str(history / "sealed.duckdb"), read_only=True) as database:
        names = database.execute(
            "SELECT event_name, username, account, list(resource_names)[1] FROM events GROUP BY ALL"
        ).fetchall()
    (found,) = names
    record = json.loads(record_bytes(RECORDS[0]))
    assert found[:3] == (record["eventName"], "John", record["recipientAccountId"])
