"""ControlStore on SQLAlchemy Core: SQLite by default, PostgreSQL by the same code."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from opentrail.core.errors import Conflict, StorageFailed
from opentrail.ports.control import Put, Stored, StoreWrite

T = TypeVar("T")

_metadata = sa.MetaData()
_documents = sa.Table(
    "documents",
    _metadata,
    sa.Column("kind", sa.String, primary_key=True),
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)


class SqlControl:
    """A `ControlStore` in one table of a SQL database."""

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url, pool_size=1, max_overflow=0)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _set_up_sqlite)
        self._lock = asyncio.Lock()
        try:
            _metadata.create_all(self._engine)
        except sa.exc.SQLAlchemyError as error:
            raise StorageFailed(f"state store cannot be opened: {_cause(error)}") from error

    @classmethod
    def in_file(cls, path: Path) -> SqlControl:
        """Returns a store in a SQLite file."""
        store = cls(f"sqlite:///{path}")
        path.chmod(0o600)
        return store

    async def get(self, kind: str, key: str) -> Stored | None:
        """Returns the document, or None."""
        query = sa.select(_documents).where(_documents.c.kind == kind, _documents.c.key == key)
        found = await self._run(lambda connection: connection.execute(query).first())
        return _stored(found) if found else None

    async def scan(self, kind: str, prefix: str = "") -> list[Stored]:
        """Returns the documents of a kind whose keys start with `prefix`, by key."""
        query = (
            sa.select(_documents)
            .where(_documents.c.kind == kind, _documents.c.key.startswith(prefix, autoescape=True))
            .order_by(_documents.c.key)
        )
        rows = await self._run(lambda connection: connection.execute(query).all())
        # SQLite's LIKE ignores case; keys do not.
        return [_stored(row) for row in rows if row.key.startswith(prefix)]

    async def apply(self, changes: Sequence[StoreWrite]) -> None:
        """Returns only once all changes are durable; on an error none is made."""

        def change_all(connection: sa.Connection) -> None:
            blind = [c for c in changes if isinstance(c, Put) and c.expected is None]
            keys = {(change.kind, change.key) for change in changes}
            if len(blind) == len(changes) == len(keys) > 1:
                _put_many(connection, blind)
                return
            for change in changes:
                _change(connection, change)

        await self._run(change_all)

    async def close(self) -> None:
        """Closes the connections."""
        async with self._lock:
            await asyncio.to_thread(self._engine.dispose)

    async def _run(self, work: Callable[[sa.Connection], T]) -> T:
        async with self._lock:
            return await asyncio.to_thread(self._in_transaction, work)

    def _in_transaction(self, work: Callable[[sa.Connection], T]) -> T:
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except sa.exc.SQLAlchemyError as error:
            raise StorageFailed(f"state store failed: {_cause(error)}") from error


def _change(connection: sa.Connection, change: StoreWrite) -> None:
    here = sa.and_(_documents.c.kind == change.kind, _documents.c.key == change.key)
    if not isinstance(change, Put):
        connection.execute(sa.delete(_documents).where(here))
        return
    present = connection.execute(sa.select(_documents.c.version).where(here)).scalar()
    if change.expected is not None and (present or 0) != change.expected:
        raise Conflict(f"{change.kind} {change.key!r} was changed since it was read")
    body = json.dumps(change.document, separators=(",", ":"))
    if present is None:
        row = {"kind": change.kind, "key": change.key, "version": 1, "body": body}
        connection.execute(sa.insert(_documents).values(**row))
        return
    connection.execute(sa.update(_documents).where(here).values(version=present + 1, body=body))


def _put_many(connection: sa.Connection, puts: Sequence[Put]) -> None:
    """Writes documents of any version, in one statement."""
    # Loading a dialect takes megabytes and a tenth of a second or more.
    dialect = import_module(f"sqlalchemy.dialects.{connection.dialect.name}")
    insert = dialect.insert
    statement = insert(_documents).values(
        kind=sa.bindparam("kind"), key=sa.bindparam("key"), version=1, body=sa.bindparam("body")
    )
    statement = statement.on_conflict_do_update(
        index_elements=[_documents.c.kind, _documents.c.key],
        set_={"version": _documents.c.version + 1, "body": statement.excluded.body},
    )
    rows = [
        {
            "kind": put.kind,
            "key": put.key,
            "body": json.dumps(put.document, separators=(",", ":")),
        }
        for put in puts
    ]
    connection.execute(statement, rows)


def _stored(row: sa.Row[tuple[str, str, int, str]]) -> Stored:
    return Stored(row.key, row.version, json.loads(row.body))


def _cause(error: sa.exc.SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error)


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
