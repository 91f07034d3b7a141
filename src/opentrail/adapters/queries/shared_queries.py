"""Queries and their results in the control store that the servers of a cluster share.

Any server answers for each query. The server that runs a query writes its rows to a file, and then
to the control store; others fetch them from there into a local file.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from opentrail.adapters.data_directory.files import write_durably
from opentrail.adapters.queries.query_files import QueryFiles
from opentrail.core.errors import QueryFailed
from opentrail.ports.collection import Codec, Collection
from opentrail.ports.control import ControlStore, Put, Remove
from opentrail.ports.queries import Row, StoredQuery

QUERY, ROWS, SIZE = "query", "query-rows", "query-size"
#: Maximum compressed bytes of a result, and of a document that has a part of it.
MAX_RESULT, _PART = 16 << 20, 1 << 20


class SharedQueries:
    """A `QueryStore` in a control store.

    Args:
        control: keeps queries and results.
        files: this server's copies of results.
        server: this server's installation.
        is_running: returns whether the server with an installation runs.
    """

    max_bytes = 512 << 20

    def __init__(
        self,
        control: ControlStore,
        files: QueryFiles,
        server: str,
        is_running: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._control = control
        self._files = files
        self.server = server
        self._is_running = is_running
        self._queries = Collection(control, QUERY, Codec.of(StoredQuery))

    async def open(self) -> list[StoredQuery]:
        found = await self.all()
        await self._files.keep_only({query.id for query in found})
        return found

    async def all(self) -> list[StoredQuery]:
        return sorted(await self._queries.all(), key=lambda query: query.created)

    async def get(self, query_id: str) -> StoredQuery | None:
        item = await self._queries.find(query_id)
        return item.value if item else None

    async def put(self, query: StoredQuery) -> None:
        await self._queries.put(query.id, query)

    async def is_running(self, server: str) -> bool:
        return await self._is_running(server)

    async def publish(self, query_id: str) -> None:
        content = await asyncio.to_thread(self._packed, self._files.result(query_id))
        if len(content) > MAX_RESULT:
            limit = MAX_RESULT >> 20
            raise QueryFailed(f"the compressed result is larger than {limit} MB: add a LIMIT")
        parts = [content[start : start + _PART] for start in range(0, len(content), _PART)]
        changes = [
            Put(ROWS, _key(query_id, number), {"content": base64.b64encode(part).decode()})
            for number, part in enumerate(parts)
        ]
        size = Put(SIZE, query_id, {"bytes": len(content), "parts": len(parts)})
        await self._control.apply([*changes, size])

    def _packed(self, path: Path) -> bytes:
        return zlib.compress(path.read_bytes(), 1)

    async def rows(self, query: StoredQuery, first: int, limit: int) -> list[Row]:
        path = self._files.result(query.id)
        if await asyncio.to_thread(path.exists):
            with contextlib.suppress(QueryFailed):  # the copy is damaged
                return await self._files.rows(query, first, limit)
        parts = await self._control.scan(ROWS, f"{query.id}/")
        packed = b"".join(base64.b64decode(part.document["content"]) for part in parts)
        content = await asyncio.to_thread(zlib.decompress, packed)
        await asyncio.to_thread(write_durably, path, content)
        return await self._files.rows(query, first, limit)

    async def size(self) -> int:
        return sum(size.document["bytes"] for size in await self._control.scan(SIZE))

    async def delete(self, query_id: str) -> int:
        size = await self._control.get(SIZE, query_id)
        document = size.document if size else {"bytes": 0, "parts": 0}
        parts = [Remove(ROWS, _key(query_id, number)) for number in range(document["parts"])]
        await self._control.apply([*parts, Remove(SIZE, query_id), Remove(QUERY, query_id)])
        await self._files.delete(query_id)
        return int(document["bytes"])


def _key(query_id: str, number: int) -> str:
    return f"{query_id}/{number:04}"
