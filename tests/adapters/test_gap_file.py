"""Lost records are known after a restart."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from opentrail.adapters.gap_file import GapFile, kept_gaps
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


def test_no_folder_holds_no_gaps(tmp_path: Path) -> None:
    assert list(kept_gaps(tmp_path / "nothing")) == []


def test_the_file_does_not_grow(tmp_path: Path) -> None:
    file = GapFile(tmp_path)
    ((path, _),) = kept_gaps(tmp_path)
    size = path.stat().st_size
    file.keep(Gap(10**9, GAP.first, GAP.last, "é\0" * 5_000))
    assert path.stat().st_size == size
    ((_, gap),) = kept_gaps(tmp_path)
    assert gap is not None
    assert gap.count == 10**9
    file.close()
