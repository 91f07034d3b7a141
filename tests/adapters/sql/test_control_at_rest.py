"""A control store is read without a trace, in any state that a server has left."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from opentrail.adapters.sql.at_rest import control_at_rest, stored_keys
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.core.errors import StorageFailed
from opentrail.ports.control import Put, Stored
from tests.fakes import asynchronous

#: A store from before schemas had versions.
BEFORE = Path(__file__).parents[2] / "data" / "state-before-migrations.db"


def contents(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


@asynchronous
async def test_a_killed_store_is_read_with_its_log(tmp_path: Path) -> None:
    store = SqlControl.in_file(tmp_path / "state.db")
    await store.apply([Put("k", "x", {"n": 1})])
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("state.db", "state.db-wal"):
        shutil.copyfile(tmp_path / name, killed / name)
    async with control_at_rest(tmp_path / "state.db", is_live=True) as live:
        assert live is not None
        assert await live.get("k", "x") == Stored("x", 1, {"n": 1})
    await store.close()
    before = contents(killed)
    async with control_at_rest(killed / "state.db", is_live=False) as read:
        assert read is not None
        assert await read.get("k", "x") == Stored("x", 1, {"n": 1})
    assert contents(killed) == before


@asynchronous
async def test_a_store_of_an_older_version_is_read(tmp_path: Path) -> None:
    shutil.copyfile(BEFORE, tmp_path / "state.db")
    async with control_at_rest(tmp_path / "state.db", is_live=False) as read:
        assert read is not None
        assert await read.get("mark", "journal") == Stored("journal", 4, {"position": 3})
    assert contents(tmp_path) == {"state.db": BEFORE.read_bytes()}


@asynchronous
async def test_damaged_store_is_named_missing_one_is_none(tmp_path: Path) -> None:
    async with control_at_rest(tmp_path / "state.db", is_live=False) as read:
        assert read is None
    store = SqlControl.in_file(tmp_path / "state.db")
    await store.apply([Put("k", "x", {"text": "some words"})])
    await store.close()
    content = (tmp_path / "state.db").read_bytes()
    (tmp_path / "state.db").write_bytes(content.replace(b"some words", b"same words"))
    with pytest.raises(StorageFailed, match="damaged: k 'x' has changed"):
        async with control_at_rest(tmp_path / "state.db", is_live=False):
            pass


def test_stored_documents_are_visible_immediately(tmp_path: Path) -> None:
    async def store() -> None:
        control = SqlControl.in_file(tmp_path / "state.db")
        assert stored_keys(tmp_path / "state.db") == frozenset()
        await control.apply([Put("trail", "a/b", {}), Put("mark", "journal", {})])
        assert stored_keys(tmp_path / "state.db") == {("trail", "a/b"), ("mark", "journal")}
        await control.close()

    asyncio.run(store())


def test_a_missing_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=r"state\.db cannot be read"):
        stored_keys(tmp_path / "state.db")
