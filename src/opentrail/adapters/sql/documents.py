"""What documents a control store in a SQLite file has, read beside the server that writes it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from opentrail.core.errors import StorageFailed


def stored_keys(path: Path) -> frozenset[tuple[str, str]]:
    """Returns kind and key of each document.

    Raises:
        StorageFailed: the file cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as reader:
            return frozenset(reader.execute("SELECT kind, key FROM documents").fetchall())
    except sqlite3.Error as error:
        raise StorageFailed(f"state store {path} cannot be read: {error}") from error
