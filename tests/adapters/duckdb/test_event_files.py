"""Work on sealed files: merging, checking."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.sealed_file_names import SealedFile, Series, is_whole
from opentrail.adapters.duckdb import children, event_files
from opentrail.adapters.duckdb.seal import merge
from tests.adapters.duckdb.worlds import NAME, world
from tests.fakes import asynchronous, eventually, run

pytestmark = pytest.mark.slow


@pytest.mark.campaign
@asynchronous
async def test_merging_files_changes_no_event(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, seal_records=10) as here:
        async with here.opened() as store:
            for _ in range(40):
                await store.add(await here.write(5))
            await store.idle()
            await here.check(store)
        ranges = here.ranges()
        assert len(ranges) < 8
        assert ranges[0][0] == 1
        assert all(b[0] == a[1] + 1 for a, b in itertools.pairwise(ranges))
        assert len(here.files()) == len(ranges)
        async with here.opened() as store:
            await here.check(store)


@asynchronous
async def test_files_that_fail_to_merge_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[object, ...]] = []

    async def files_of_child(work: str, *arguments: object) -> list[SealedFile]:
        if work == "merge":
            tried.append(arguments)
            raise RuntimeError("failed to pin block")
        return await children.files_of_child(work, *arguments)

    monkeypatch.setattr(event_files, "files_of_child", files_of_child)
    async with world(tmp_path, seal_records=10) as here, here.opened() as store:
        for _ in range(18):
            await store.add(await here.write(5))
        await store.idle()
        assert here.ranges() == [(first, first + 9) for first in range(1, 90, 10)]
        assert len(tried) == 1
        await here.check(store)


@pytest.mark.anomaly
@pytest.mark.parametrize("left", [0, 1, 2])
@asynchronous
async def test_only_one_result_of_an_interrupted_merge_counts(tmp_path: Path, left: int) -> None:
    async with world(tmp_path) as here:
        await here.write(100)
        await here.seal((1, 30), (31, 60), (61, 90))
        parts = [here.history / name for name in here.files()]
        merged = merge(parts)
        for part in parts[left:]:
            part.unlink()
        async with here.opened() as store:
            await here.check(store)
        assert here.files() == [merged.name]


def test_files_with_a_gap_are_not_merged(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as here:
            await here.write(90)
            await here.seal((1, 30), (61, 90))
            with pytest.raises(RuntimeError, match="does not follow"):
                merge([here.history / name for name in here.files()])
            assert here.ranges() == [(1, 30), (61, 90)]

    run(story())


@pytest.mark.anomaly
@pytest.mark.parametrize("at", [0.2, 0.6, 0.99])
@asynchronous
async def test_a_flipped_bit_is_found_at_the_start(tmp_path: Path, at: float) -> None:
    async with world(tmp_path) as here:
        await here.write(50)
        await here.seal((1, 40))
        file = here.history / here.files()[0]
        content = bytearray(file.read_bytes())
        content[int(len(content) * at)] ^= 1
        file.write_bytes(content)
        async with here.opened() as store:
            await eventually(lambda: store.is_checked)
            assert store.damaged == [file.name]
            assert store.recorded.missing == []
            await here.check(store)
        assert here.ranges() == [(1, 40)]
        (made,) = [name for name in here.files() if NAME.match(name)]
        assert is_whole(SealedFile(here.history / made, Series.JOURNAL, 1, 40, made[42:58], False))
