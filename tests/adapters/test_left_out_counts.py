"""Counts survive the counting process, and an hour ends with its last counter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.unrecorded_counts import (
    LeftOutCounts,
    count_files,
    counts_in,
    finished_hours,
)
from opentrail.core.selectors.selection import MAX_COUNTERS, OTHER, LeftOut

NINE = datetime(2020, 1, 1, 9, tzinfo=UTC)
GET, PUT = LeftOut("s3", "GetObject", "AWS::S3::Object"), LeftOut("s3", "PutObject", "")


class Now:
    """A clock in seconds."""

    def __init__(self) -> None:
        self.moment = NINE

    def __call__(self) -> float:
        return self.moment.timestamp()


def test_counts_are_written_immediately_and_survive_kills(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from opentrail.adapters.data_directory.unrecorded_counts import LeftOutCounts\n"
        "from opentrail.core.selectors.selection import LeftOut\n"
        f"counts = LeftOutCounts(Path(sys.argv[1]), lambda: {NINE.timestamp()})\n"
        "for _ in range(5): counts.count(LeftOut('s3', 'GetObject', 'AWS::S3::Object'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
        assert done.returncode == -9
    assert counts_in(count_files(tmp_path)) == {GET: 10}


def test_an_hours_file_is_closed_at_its_end(tmp_path: Path) -> None:
    now = Now()
    counts = LeftOutCounts(tmp_path, now)
    assert counts.count(GET)
    counts.close_if_over()
    now.moment = NINE + timedelta(minutes=59)
    assert counts.count(PUT)
    assert finished_hours(tmp_path, now.moment) == {}
    now.moment = NINE + timedelta(hours=1)
    assert finished_hours(tmp_path, now.moment) == {}
    counts.close_if_over()
    (file,) = count_files(tmp_path)
    assert finished_hours(tmp_path, now.moment) == {NINE: [file]}
    assert counts_in([file]) == {GET: 1, PUT: 1}


def test_first_call_of_an_hour_begins_its_file(tmp_path: Path) -> None:
    now = Now()
    counts = LeftOutCounts(tmp_path, now)
    assert counts.count(GET)
    now.moment += timedelta(hours=1)
    assert counts.count(GET)
    assert counts.count(GET)
    first, second = count_files(tmp_path)
    assert counts_in([first]) == {GET: 1}
    assert counts_in([second]) == {GET: 2}
    assert finished_hours(tmp_path, now.moment) == {NINE: [first]}
    assert {file.stat().st_mode & 0o777 for file in (first, second)} == {0o600}


def test_number_of_counters_is_limited(tmp_path: Path) -> None:
    counts = LeftOutCounts(tmp_path, Now())
    for number in range(MAX_COUNTERS + 10):
        assert counts.count(LeftOut("s3", str(number), ""))
    assert counts.count(LeftOut("s3", "x" * 300, ""))
    sums = counts_in(count_files(tmp_path))
    assert len(sums) == MAX_COUNTERS
    assert sums[OTHER] == 12


def test_uncountable_fields_are_named(tmp_path: Path) -> None:
    (tmp_path / "left-out").touch()
    assert not LeftOutCounts(tmp_path / "left-out", Now()).count(GET)


def test_past_hour_is_counted_while_space_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = Now()
    counts = LeftOutCounts(tmp_path, now)
    assert counts.count(GET)

    def full(_descriptor: int, _start: int, _size: int) -> None:
        raise OSError(28, "No space left on device")

    allocate: Callable[[int, int, int], None] = os.posix_fallocate
    monkeypatch.setattr(os, "posix_fallocate", full)
    now.moment += timedelta(hours=1)
    assert counts.count(GET)
    now.moment += timedelta(seconds=2)
    counts.close_if_over()
    assert counts.count(GET)
    (file,) = count_files(tmp_path)
    assert counts_in([file]) == {GET: 3}
    monkeypatch.setattr(os, "posix_fallocate", allocate)
    now.moment += timedelta(seconds=2)
    assert counts.count(GET)
    assert finished_hours(tmp_path, now.moment) == {NINE: [file]}


def test_an_hour_without_locked_file_gets_none(tmp_path: Path) -> None:
    moments = iter([NINE - timedelta(seconds=1)] * 2 + [NINE] * 10)
    counts = LeftOutCounts(tmp_path, lambda: next(moments).timestamp())
    assert counts.count(GET)
    (file,) = count_files(tmp_path)
    assert file.name.startswith("20200101T09-")


def test_damaged_and_foreign_files_count_their_readable_part(tmp_path: Path) -> None:
    counts = LeftOutCounts(tmp_path, Now())
    assert counts.count(GET)
    counts.close()
    (file,) = count_files(tmp_path)
    file.write_bytes(file.read_bytes().replace(b"s3\t", b"s3\0")[:1001])
    (tmp_path / "strange.counts").touch()
    assert counts_in([*count_files(tmp_path), tmp_path / "gone"]) == {OTHER: 1}
    assert finished_hours(tmp_path, NINE + timedelta(hours=1)) == {NINE: [file]}
