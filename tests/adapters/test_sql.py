"""The control store's file: its mode, a full disk, damage, sudden death."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from opentrail.adapters.sql import SqlControl
from opentrail.core.errors import StorageFailed
from opentrail.ports.control import Put, Remove, Stored
from tests.fakes import asynchronous, fill, run, small_disk


@asynchronous
async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqlControl.in_file(tmp_path / "state.db")
    finally:
        os.umask(before)
    await store.apply([Put("k", "x", {})])
    assert stat.S_IMODE((tmp_path / "state.db").stat().st_mode) == 0o600
    await store.close()


@asynchronous
async def test_documents_are_rows_that_other_tools_can_read(tmp_path: Path) -> None:
    store = SqlControl.in_file(tmp_path / "state.db")
    await store.apply([Put("k", "x", {"n": 1})])
    await store.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        found = database.execute("SELECT kind, key, version, body FROM documents").fetchall()
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert found == [("k", "x", 1, '{"n":1}')]


def test_a_file_that_is_not_a_database_is_storage_failed(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"this is not a database " * 100)
    with pytest.raises(StorageFailed, match="state store cannot be opened"):
        SqlControl.in_file(tmp_path / "state.db")


def test_a_folder_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="state store cannot be opened"):
        SqlControl.in_file(tmp_path / "nowhere" / "state.db")


@pytest.mark.anomaly
@asynchronous
async def test_on_a_full_disk_changes_are_refused_whole_and_work_again_later(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk", 1_000) as disk:
        store = SqlControl.in_file(disk / "state.db")
        await store.apply([Put("k", "first", {"n": 1})])
        filler = fill(disk)
        large = {"text": "x" * 300_000}
        with pytest.raises(StorageFailed, match="full"):
            await store.apply([Put("k", "a", {}), Put("k", "large", large), Remove("k", "first")])
        assert await store.scan("k") == [Stored("first", 1, {"n": 1})]
        filler.unlink()
        await store.apply([Put("k", "large", large)])
        await store.close()
        store = SqlControl.in_file(disk / "state.db")
        assert [stored.key for stored in await store.scan("k")] == ["first", "large"]
        await store.close()


PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path
from opentrail.adapters.sql import SqlControl
from opentrail.ports.control import Put

async def main():
    store = SqlControl.in_file(Path(sys.argv[1]))
    for number in range(100):
        await store.apply([Put("k", str(number), {"n": number}), Put("k", "last", {"n": number})])
        print(number, flush=True)
        if number == 30:
            os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.anomaly
def test_a_killed_process_loses_no_acknowledged_change(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(file)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    assert killed.returncode == -9
    assert killed.stdout.split()[-1] == "30"

    async def after() -> None:
        store = SqlControl.in_file(file)
        assert len(await store.scan("k")) == 32
        assert await store.get("k", "last") == Stored("last", 31, {"n": 30})
        await store.close()

    run(after())
