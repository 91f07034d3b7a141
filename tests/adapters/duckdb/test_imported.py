"""Imported events: lost and expired files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.sealed_file_names import SealedFile, Series, read_name
from tests.adapters.duckdb.worlds import ALL, world
from tests.factories import MOMENT
from tests.fakes import asynchronous, eventually

pytestmark = pytest.mark.slow


@pytest.mark.anomaly
@asynchronous
async def test_lost_imported_events_are_named_until_accepted(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        first, _, _ = await here.imports(5, 7, 4)
        (_, second, _) = sorted(here.history.glob("import-*"))
        second.unlink()
        for _ in range(2):
            async with here.opened() as store:
                assert store.imported.lost == [(6, 12)]
                assert len(await store.lookup(ALL)) == 9
        content = bytearray(first.read_bytes())
        content[len(content) // 3] ^= 0xFF
        first.write_bytes(content)
        async with here.opened() as store:
            await eventually(lambda: store.is_checked)
            assert sorted(store.imported.lost) == [(1, 5), (6, 12)]
        async with here.opened() as store:
            assert store.imported.lost == [(1, 5), (6, 12)]
            assert len(await store.lookup(ALL)) == 4
        for file in here.history.glob("*.damaged"):
            file.unlink()
        (here.history / f"import-{6:020d}-{12:020d}.expired").touch()
        async with here.opened() as store:
            assert store.imported.lost == []
            assert store.snapshot.imported == 16


@asynchronous
async def test_expired_imported_events_are_not_missed(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.imports(5, 7)
        async with here.opened() as store:
            assert await store.expire(MOMENT + timedelta(days=1), 0) == 12
            assert await store.lookup(ALL) == []
            await store.show_imports()
            assert await store.lookup(ALL) == []
        (path,) = await here.imports(3)
        assert read_name(path) == SealedFile(path, Series.IMPORTED, 13, 15, path.stem[-16:], False)
        async with here.opened() as store:
            assert store.imported.lost == []
            assert len(await store.lookup(ALL)) == 3
