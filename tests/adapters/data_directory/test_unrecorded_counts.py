"""Lost records are known after a restart."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from opentrail.adapters.data_directory.unrecorded_counts import DamagedGap, GapFile, kept_gaps
from opentrail.core.gaps import Gap

GAP = Gap(3, datetime(2020, 1, 1, 9, tzinfo=UTC), datetime(2020, 1, 1, 10, tzinfo=UTC), "full")


def test_a_gap_outlives_its_process(tmp_path: Path) -> None:
    file = GapFile(tmp_path / "lost")
    file.keep(GAP)
    ((path, gap),) = kept_gaps(tmp_path / "lost")  # as after a sudden death
    assert (path.parent, gap) == (tmp_path / "lost", GAP)
    file.close()
    assert [gap for _, gap in kept_gaps(tmp_path / "lost")] == [GAP]


def test_without_a_gap_nothing_is_left(tmp_path: Path) -> None:
    file = GapFile(tmp_path)
    assert [gap for _, gap in kept_gaps(tmp_path)] == [None]
    file.keep(GAP)
    file.keep(None)
    file.close()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_has_no_gaps(tmp_path: Path) -> None:
    assert list(kept_gaps(tmp_path / "nothing")) == []


def test_the_file_does_not_grow(tmp_path: Path) -> None:
    file = GapFile(tmp_path)
    ((path, _),) = kept_gaps(tmp_path)
    size = path.stat().st_size
    file.keep(Gap(10**9, GAP.first, GAP.last, "é\0" * 5_000))
    assert path.stat().st_size == size
    ((_, gap),) = kept_gaps(tmp_path)
    assert isinstance(gap, Gap)
    assert gap.count == 10**9
    file.close()


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "1-a.json").write_bytes(GAP.as_json().ljust(2048))
    assert [gap for _, gap in kept_gaps(tmp_path)] == [GAP]


def test_damaged_file_keeps_its_gap_or_is_named(tmp_path: Path) -> None:
    file = GapFile(tmp_path)
    file.keep(GAP)
    ((path, _),) = kept_gaps(tmp_path)
    whole = path.read_bytes()
    damaged = [b"", whole[:40], whole[:-1]]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(200)]
    for content in damaged:
        path.write_bytes(content)
        ((_, gap),) = kept_gaps(tmp_path)
        assert gap == GAP or (isinstance(gap, DamagedGap) and path.name in gap.problem)
    path.write_bytes(b" " * 1024)  # of a process without a gap
    ((_, gap),) = kept_gaps(tmp_path)
    assert isinstance(gap, DamagedGap)
    file.close()
