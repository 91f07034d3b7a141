"""Reads the control store of a data directory, and changes nothing there."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from opentrail.adapters.sql.control_store import SqlControl
from opentrail.adapters.sqlite.at_rest import copied
from opentrail.adapters.system import read_only_uri
from opentrail.core.errors import StorageFailed


@asynccontextmanager
async def control_at_rest(path: Path, is_live: bool) -> AsyncIterator[SqlControl | None]:
    """Yields a control store to read, whole; None if there is no such file.

    While no server runs, a copy is read, which may be migrated if it is of an older version.

    Args:
        path: the SQLite file.
        is_live: whether a server may be writing it.

    Raises:
        StorageFailed: it cannot be read, or is damaged.
        OSError: there is no room for a copy.
    """
    with tempfile.TemporaryDirectory(prefix="opentrail-") as folder:
        control = _opened(path, is_live, Path(folder))
        if control is None:
            yield None
            return
        try:
            await control.check()
            yield control
        finally:
            await control.close()


def _opened(path: Path, is_live: bool, folder: Path) -> SqlControl | None:
    if not path.exists():
        return None
    if is_live:
        return SqlControl.in_read_only_file(path)
    return SqlControl.in_file(copied(path, folder))


def stored_keys(path: Path) -> frozenset[tuple[str, str]]:
    """Returns kind and key of each document, also while a server writes the file.

    Raises:
        StorageFailed: the file cannot be read.
    """
    try:
        with closing(sqlite3.connect(read_only_uri(path), uri=True)) as reader:
            return frozenset(reader.execute("SELECT kind, key FROM documents").fetchall())
    except sqlite3.Error as error:
        raise StorageFailed(f"state store {path} cannot be read: {error}") from error
