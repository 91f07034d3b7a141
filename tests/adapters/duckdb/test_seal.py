"""A sealed file: complete under its final name, or missing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from opentrail.adapters.data_directory.sealed_file_names import Series, is_whole, read_name
from opentrail.adapters.duckdb import seal as seal_module
from opentrail.adapters.duckdb.seal import seal
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core import faults
from opentrail.core.event import Entry
from tests.factories import a_new_entry, event_id, record_bytes, some_records
from tests.fakes import TIMEOUT_SECONDS, PowerCutError, run

pytestmark = pytest.mark.slow

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
            "SELECT position, record ->> 'eventID', record FROM events ORDER BY position"
        ).fetchall()


def expected(first: int, last: int) -> list[tuple[int, str, str]]:
    return [
        (position, event_id(position), record_bytes(RECORDS[position - 1]).decode())
        for position in range(first, last + 1)
    ]


def test_large_records_fill_several_files(
    journal: Path, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal_module, "_BATCH", 7)
    text = sum(len(record_bytes(record)) for record in RECORDS)
    monkeypatch.setattr(seal_module, "MAX_TEXT", text // 3)
    read: list[int] = []

    class Counted(SqliteJournalSource):
        def read_range(self, first: int, last: int, batch: int = 7) -> Iterator[list[Entry]]:
            for entries in super().read_range(first, last, batch):
                read.extend(entry.position for entry in entries)
                yield entries

    files = seal(Counted(journal), history, 1, 60)
    assert len(files) == 3
    assert read == list(range(1, 61)), "each entry is read once"
    assert [row for file in files for row in rows(file)] == expected(1, 60)
    assert sorted(history.iterdir()) == files
    assert all(is_whole(named) for file in files if (named := read_name(file)))


@pytest.mark.parametrize(("first", "last"), [(1, 60), (1, 1), (60, 60), (7, 44)])
def test_a_sealed_file_holds_exactly_its_range(
    journal: Path, history: Path, first: int, last: int
) -> None:
    (made,) = seal(SqliteJournalSource(journal), history, first, last)
    assert rows(made) == expected(first, last)
    assert list(history.iterdir()) == [made]
    named = read_name(made)
    assert named is not None
    assert (named.series, named.first, named.last) == (Series.JOURNAL, first, last)
    assert is_whole(named)


@pytest.mark.parametrize(("first", "last"), [(50, 61), (0, 10), (61, 70)])
def test_a_range_outside_the_journal_is_refused(
    journal: Path, history: Path, first: int, last: int
) -> None:
    with pytest.raises(RuntimeError, match=r"journal does not hold|of the \d+ entries"):
        seal(SqliteJournalSource(journal), history, first, last)
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
def test_an_incomplete_file_has_a_temporary_name(journal: Path, history: Path) -> None:
    with pytest.raises(PowerCutError):
        seal(SqliteJournalSource(journal), history, 1, 60)
    (leftover,) = history.iterdir()
    assert leftover.suffix == ".tmp"
    assert rows(leftover) == expected(1, 60)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "opentrail.adapters.duckdb.seal", *map(str, arguments)]


def test_child_process_seals_and_sets_its_exit_code(journal: Path, history: Path) -> None:
    def child(*arguments: object) -> subprocess.CompletedProcess[str]:
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command(*arguments), stdin=pipe, stdout=pipe, stderr=pipe, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            output, errors = process.stdout.read(), process.stderr.read()
            code = process.wait(TIMEOUT_SECONDS)
        return subprocess.CompletedProcess(process.args, code, output, errors)

    refused = child("journal", journal, history, 50, 70)
    assert refused.returncode != 0
    assert "11 of the 21 entries to seal were found" in refused.stderr
    assert list(history.iterdir()) == []
    done = [child("journal", journal, history, *part) for part in ((1, 40), (41, 60))]
    assert [one.returncode for one in done] == [0, 0]
    made = [Path(one.stdout.strip()) for one in done]
    assert rows(made[0]) == expected(1, 40)
    (merged,) = child("merge", *made).stdout.splitlines()
    assert rows(Path(merged)) == expected(1, 60)
    content = bytearray(made[1].read_bytes())
    content[-1] ^= 1
    made[1].write_bytes(content)
    assert child("check", merged, *made).stdout.splitlines() == [str(made[1])]


def test_a_child_without_parent_does_nothing(journal: Path, history: Path) -> None:
    """Loading may take long; another child has done its work by then."""
    done = subprocess.run(
        command("journal", journal, history, 1, 60),
        stdin=subprocess.DEVNULL,  # like a pipe without another end
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")
    assert list(history.iterdir()) == []


def test_columns_match_their_record(journal: Path, history: Path) -> None:
    with duckdb.connect(
        str(seal(SqliteJournalSource(journal), history, 1, 3)[0]), read_only=True
    ) as database:
        names = database.execute(
            "SELECT event_name, username, account, list(resource_types)[1] FROM events GROUP BY ALL"
        ).fetchall()
    (found,) = names
    record = json.loads(record_bytes(RECORDS[0]))
    assert found[:3] == (record["eventName"], "John", record["recipientAccountId"])
