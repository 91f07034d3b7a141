"""Queries and their results in a folder of the data directory.

`ID.json` has a query, `ID.rows` its rows as lines of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from pathlib import Path

import msgspec
import orjson

from opentrail.adapters.files import sync_folder, write_durably
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
                queries.append(msgspec.json.decode(path.read_bytes(), type=StoredQuery))
            except FileNotFoundError:
                continue  # it has just been deleted
            except (OSError, msgspec.MsgspecError) as error:
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
        return msgspec.json.decode(content, type=StoredQuery)

    async def publish(self, query_id: str) -> None:
        pass

    async def put(self, query: StoredQuery) -> None:
        path = self.folder / f"{query.id}.json"
        await asyncio.to_thread(write_durably, path, msgspec.json.encode(query))

    async def rows(self, query_id: str, first: int, limit: int) -> list[Row]:
        return await asyncio.to_thread(self._rows, query_id, first, limit)

    def _rows(self, query_id: str, first: int, limit: int) -> list[Row]:
        with self.result(query_id).open("rb") as file:
            places = self._places.setdefault(query_id, [0])
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
        return await asyncio.to_thread(self._delete, query_id)

    def _delete(self, query_id: str) -> int:
        result, size = self.result(query_id), 0
        with contextlib.suppress(FileNotFoundError):
            size = result.stat().st_size
        for path in (result, self.folder / f"{query_id}.json"):
            path.unlink(missing_ok=True)
        sync_folder(self.folder)
        return size
