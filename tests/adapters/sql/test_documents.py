"""Documents of a control store, read beside the server that writes it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from opentrail.adapters.sql import SqlControl
from opentrail.adapters.sql.documents import stored_keys
from opentrail.core.errors import StorageFailed
from opentrail.ports.control import Put


def test_documents_are_seen_as_soon_as_they_are_stored(tmp_path: Path) -> None:
    async def store() -> None:
        control = SqlControl.in_file(tmp_path / "state.db")
        assert stored_keys(tmp_path / "state.db") == frozenset()
        await control.apply([Put("trail", "a/b", {}), Put("mark", "journal", {})])
        assert stored_keys(tmp_path / "state.db") == {("trail", "a/b"), ("mark", "journal")}
        await control.close()

    asyncio.run(store())


def test_a_store_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=r"state\.db cannot be read"):
        stored_keys(tmp_path / "state.db")
