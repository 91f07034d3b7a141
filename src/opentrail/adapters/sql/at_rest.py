"""Reads SQLite databases without creating or changing files next to them.

Even a reader makes SQLite create two files next to a database with a write-ahead log, and leave
them there. That fails in a read-only folder.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

from opentrail.adapters.data_directory.system import read_only_uri
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.core.errors import StorageFailed


@contextmanager
def at_rest(path: Path, is_live: bool) -> Iterator[tuple[Path, bool]]:
    """Yields a database to read, and whether it is certain not to change during the read.

    Reads the write-ahead log of a killed server in a temporary copy.

    Args:
        path: the database.
        is_live: whether a server may be writing it and so keeps its extra files open.

    Raises:
        OSError: there is no room for the copy.
    """
    log = Path(f"{path}-wal")
    if is_live:
        yield path, False
    elif not log.exists() or not log.stat().st_size:
        yield path, True
    else:
        with tempfile.TemporaryDirectory(prefix="opentrail-") as folder:
            yield copied(path, Path(folder)), False


def copied(path: Path, folder: Path) -> Path:
    """Returns a copy of a database and its write-ahead log in a folder.

    Raises:
        OSError: there is no room for it.
    """
    copy, log = folder / path.name, Path(f"{path}-wal")
    shutil.copyfile(path, copy)
    if log.exists():
        shutil.copyfile(log, f"{copy}-wal")
    return copy


@contextmanager
def reading(path: Path, is_live: bool) -> Iterator[sqlite3.Connection]:
    """Yields a connection that reads a database.

    Raises:
        sqlite3.Error: it cannot be opened.
        OSError: there is no room for a copy.
    """
    with at_rest(path, is_live) as (file, is_unchanging):
        options = "&immutable=1" if is_unchanging else ""
        with closing(sqlite3.connect(f"{read_only_uri(file)}{options}", uri=True)) as reader:
            yield reader


@asynccontextmanager
async def control_at_rest(path: Path, is_live: bool) -> AsyncIterator[SqlControl | None]:
    """Yields a complete control store to read; None without the file.

    Reads a copy while no server runs; a copy of an older version can be migrated.

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
    """Returns kind and key of each document, even while a server writes the file.

    Raises:
        StorageFailed: the file cannot be read.
    """
    try:
        with closing(sqlite3.connect(read_only_uri(path), uri=True)) as reader:
            return frozenset(reader.execute("SELECT kind, key FROM documents").fetchall())
    except sqlite3.Error as error:
        raise StorageFailed(f"state store {path} cannot be read: {error}") from error
