"""Names of sealed files, and the valid ones among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from opentrail.adapters.data_directory.sealed_file_names import (
    Series,
    digest_of,
    is_whole,
    left_over,
    parts_of,
    read_name,
    sealed_files,
    stem_of,
)

HASH = "0123456789abcdef"


def a_file(folder: Path, first: int, last: int, ending: str = f"-{HASH}.duckdb") -> Path:
    path = folder / f"{stem_of(Series.JOURNAL, first, last)}{ending}"
    path.touch()
    return path


@pytest.mark.parametrize("series", Series)
def test_a_name_contains_range_kind_and_hash(tmp_path: Path, series: Series) -> None:
    file = read_name(tmp_path / f"{stem_of(series, 7, 9)}-{HASH}.duckdb")
    assert file is not None
    assert (file.first, file.last, file.records) == (7, 9, 3)
    assert (file.series, file.digest, file.is_expired) == (series, HASH, False)


def test_a_merged_name_contains_its_parts(tmp_path: Path) -> None:
    names = [f"{stem_of(Series.IMPORTED, n, n)}-{n:016x}.duckdb" for n in (1, 2, 4)]
    one, two, three = [file for name in names if (file := read_name(tmp_path / name))]
    merged = read_name(
        tmp_path / f"{stem_of(Series.IMPORTED, 1, 2)}-{HASH}-{parts_of([one, two])}.duckdb"
    )
    assert merged is not None
    assert (merged.digest, merged.parts) == (HASH, f"{3:016x}")
    assert parts_of([merged, three]) == parts_of([one, two, three]) != parts_of([one, three])


@pytest.mark.parametrize(
    "name",
    [
        "x.duckdb",
        "1-2.duckdb",
        f"{stem_of(Series.JOURNAL, 1, 2)}.damaged",
        f"{stem_of(Series.JOURNAL, 1, 2)}.7.tmp",
    ],
)
def test_other_files_do_not_count(tmp_path: Path, name: str) -> None:
    assert read_name(tmp_path / name) is None


def test_wider_ranges_are_left_over(tmp_path: Path) -> None:
    whole, later = a_file(tmp_path, 1, 20), a_file(tmp_path, 21, 30)
    parts = [a_file(tmp_path, 1, 10), a_file(tmp_path, 11, 20)]
    imported = tmp_path / f"{stem_of(Series.IMPORTED, 1, 10)}-{HASH}.duckdb"
    imported.touch()
    half = tmp_path / f"{stem_of(Series.JOURNAL, 31, 40)}.99.tmp"
    half.mkdir()
    assert [file.path for file in sealed_files(tmp_path, Series.JOURNAL)] == [whole, later]
    assert [file.path for file in sealed_files(tmp_path, Series.IMPORTED)] == [imported]
    assert sorted(left_over(tmp_path)) == sorted([*parts, half])


def test_expiry_precedes_a_file_of_the_same_range(tmp_path: Path) -> None:
    older = a_file(tmp_path, 1, 20)
    gone = a_file(tmp_path, 1, 20, ".expired")
    assert [file.path for file in sealed_files(tmp_path, Series.JOURNAL)] == [gone]
    assert left_over(tmp_path) == [older]


def test_two_files_of_one_range_count_once(tmp_path: Path) -> None:
    a_file(tmp_path, 1, 20)
    a_file(tmp_path, 1, 20, "-ffffffffffffffff.duckdb")
    assert len(sealed_files(tmp_path, Series.JOURNAL)) == len(left_over(tmp_path)) == 1


def test_whole_file_has_the_hash_of_its_name(tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.write_bytes(b"abc")
    path = tmp_path / f"{stem_of(Series.JOURNAL, 1, 2)}-{digest_of(content)}.duckdb"
    path.write_bytes(b"abc")
    file = read_name(path)
    assert file is not None
    assert is_whole(file)
    path.write_bytes(b"abd")
    assert not is_whole(file)
