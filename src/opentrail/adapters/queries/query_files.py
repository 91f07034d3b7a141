"""Queries and their results in a folder of the data directory.

`ID.json` has a query and its SHA-256, `ID.rows` its rows as lines of JSON. Both are compared with
their hash before they are used.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
import orjson

from opentrail.adapters.data_directory.files import sha256_of, sync_folder, write_durably
from opentrail.core.errors import DiskFull, QueryFailed, StorageFailed
from opentrail.ports.queries import Row, StoredQuery

log = logging.getLogger(__name__)

#: Rows between two remembered places in a file.
_EVERY = 1_000


class QueryFiles:
    """A `QueryStore` in a folder, for one server."""

    server = ""
    max_bytes = 4 << 30

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: Query id → the offsets of every thousandth row.
        self._places: dict[str, list[int]] = {}
        #: Query id → the state of its file when it was whole.
        self._whole: dict[str, tuple[int, int, int, int]] = {}

    def result(self, query_id: str) -> Path:
        """Returns the file of a query's rows."""
        return self.folder / f"{query_id}.rows"

    async def open(self) -> list[StoredQuery]:
        queries = await self.all()
        await self.keep_only({query.id for query in queries})
        return queries

    async def keep_only(self, query_ids: set[str]) -> None:
        """Deletes unfinished results, and all files of other queries, while none runs."""
        await asyncio.to_thread(self._keep_only, query_ids)

    def _keep_only(self, query_ids: set[str]) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        for path in self.folder.glob("*.*"):
            if path.suffix == ".tmp" or path.stem not in query_ids:
                path.unlink(missing_ok=True)

    async def all(self) -> list[StoredQuery]:
        return await asyncio.to_thread(self._all)

    def _all(self) -> list[StoredQuery]:
        queries = []
        for path in self.folder.glob("*.json"):
            try:
                queries.append(_query_in(path.read_bytes()))
            except FileNotFoundError:
                continue  # it has just been deleted
            except (OSError, ValueError) as error:
                log.warning(
                    "a stored query cannot be read", extra={"file": path.name, "error": str(error)}
                )
        return sorted(queries, key=lambda query: query.created)

    async def get(self, query_id: str) -> StoredQuery | None:
        path = self.folder / f"{query_id}.json"
        try:
            content = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            return None
        try:
            return _query_in(content)
        except ValueError as error:
            raise QueryFailed(f"query {query_id} is damaged ({error}): run it again") from error

    async def is_running(self, _server: str) -> bool:
        return True  # it is this one

    async def publish(self, query_id: str) -> None:
        pass

    async def put(self, query: StoredQuery) -> None:
        path = self.folder / f"{query.id}.json"
        content = msgspec.json.encode(query)
        stored = {"sha256": hashlib.sha256(content).hexdigest(), "query": msgspec.Raw(content)}
        try:
            await asyncio.to_thread(write_durably, path, msgspec.json.encode(stored))
        except OSError as error:
            failure = DiskFull if error.errno == errno.ENOSPC else StorageFailed
            raise failure(f"query {query.id} cannot be stored: {error}") from error

    async def rows(self, query: StoredQuery, first: int, limit: int) -> list[Row]:
        try:
            return await asyncio.to_thread(self._rows, query, first, limit)
        except OSError as error:
            message = f"the result of query {query.id} cannot be read: {error.strerror}"
            raise QueryFailed(message) from error

    def _verify(self, query: StoredQuery) -> None:
        """Compares the rows with their hash, if the file has changed since the last time.

        Raises:
            QueryFailed: they are damaged.
        """
        path = self.result(query.id)
        found = path.stat()
        state = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        expected = query.statistics.sha256 if query.statistics else ""
        if not expected or self._whole.get(query.id) == state:
            return
        if sha256_of(path) != expected:
            raise QueryFailed(f"the result of query {query.id} is damaged: run the query again")
        self._whole[query.id] = state

    def _rows(self, query: StoredQuery, first: int, limit: int) -> list[Row]:
        self._verify(query)
        with self.result(query.id).open("rb") as file:
            places = self._places.setdefault(query.id, [0])
            while len(places) <= first // _EVERY:
                file.seek(places[-1])
                skipped = sum(len(line) for line in itertools.islice(file, _EVERY))
                places.append(places[-1] + skipped)
            file.seek(places[first // _EVERY])
            lines = itertools.islice(file, first % _EVERY, first % _EVERY + limit)
            return [orjson.loads(line) for line in lines]

    async def size(self) -> int:
        return await asyncio.to_thread(
            lambda: sum(path.stat().st_size for path in self.folder.glob("*.rows"))
        )

    async def delete(self, query_id: str) -> int:
        self._places.pop(query_id, None)
        self._whole.pop(query_id, None)
        return await asyncio.to_thread(self._delete, query_id)

    def _delete(self, query_id: str) -> int:
        result, size = self.result(query_id), 0
        with contextlib.suppress(FileNotFoundError):
            size = result.stat().st_size
        for path in (result, self.folder / f"{query_id}.json"):
            path.unlink(missing_ok=True)
        sync_folder(self.folder)
        return size


def damaged_results(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yields the damaged files in a folder of queries and results, and the problems."""
    for path in sorted(folder.glob("*.json")):
        try:
            query = _query_in(path.read_bytes())
        except (OSError, ValueError) as error:
            if path.exists():  # else a running server has deleted it
                yield path, f"the query cannot be read: {error}"
            continue
        rows, expected = path.with_suffix(".rows"), query.statistics and query.statistics.sha256
        try:
            is_whole = not expected or sha256_of(rows) == expected
        except OSError as error:
            if path.exists():
                yield rows, f"cannot be read: {error}"
        else:
            if not is_whole:
                yield rows, "its content differs from its hash"


class _Stored(msgspec.Struct):
    """A query in a file, with the SHA-256 of its JSON."""

    sha256: str
    query: msgspec.Raw


def _query_in(content: bytes) -> StoredQuery:
    """Returns the query in a file.

    Raises:
        ValueError: it is damaged.
    """
    try:
        stored = msgspec.json.decode(content, type=_Stored)
    except msgspec.ValidationError:
        return msgspec.json.decode(content, type=StoredQuery)  # of releases before 0.4
    if hashlib.sha256(stored.query).hexdigest() != stored.sha256:
        raise ValueError("its SHA-256 is another one")
    return msgspec.json.decode(stored.query, type=StoredQuery)
