"""The files of a journal follow each other without a gap."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from opentrail.adapters.sqlite.segment_files import connect
from tests.adapters.sqlite.test_journal import append_one_by_one, opened, rows, segments
from tests.fakes import asynchronous


@asynchronous
async def test_records_spread_over_segments_named_by_position(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await append_one_by_one(journal, 40)
        assert [e.position for e in await journal.read(0, 100)] == list(range(1, 41))
    files = segments(tmp_path)
    assert len(files) > 3
    held = [[row[0] for row in rows(file)] for file in files]
    assert [position for part in held for position in part] == list(range(1, 41))
    assert [int(file.stem) for file in files if rows(file)] == [part[0] for part in held if part]


@asynchronous
async def test_every_stretch_can_be_read_across_segments(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await append_one_by_one(journal, 30)
        for after in range(31):
            for limit, until in ((1, None), (7, None), (100, None), (100, 19), (4, 19)):
                last = 30 if until is None else until
                expected = list(range(after + 1, last + 1))[:limit]
                got = [e.position for e in await journal.read(after, limit, until)]
                assert got == expected, (after, limit, until)


def test_a_commit_reaches_the_disk(tmp_path: Path) -> None:
    """`fullfsync` matters only on macOS; see `system.sync`."""
    with closing(connect(tmp_path / "segment.db")) as segment:
        for pragma, value in (("synchronous", 2), ("fullfsync", 1)):
            assert segment.execute(f"PRAGMA {pragma}").fetchall() == [(value,)]
