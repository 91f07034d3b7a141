"""Asking tables: several side by side, and what it means that one cannot be read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from opentrail.adapters.duckdb.files import SealedFile, is_whole
from opentrail.adapters.duckdb.table_set import Database, EventTable
from opentrail.core.errors import StorageFailed

T = TypeVar("T")

log = logging.getLogger(__name__)


class Damaged(Exception):  # noqa: N818 - the store mends it, nobody else sees it
    """A sealed file could not be read."""

    def __init__(self, source: EventTable) -> None:
        super().__init__(str(source.file))
        self.source = source


class LookupPool:
    """Has the database work for look-ups, in threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        #: Files that are being compared with their hashes because they could not be read.
        self._looking: dict[Path, asyncio.Future[bool]] = {}

    async def all(
        self,
        work: Sequence[tuple[EventTable, Callable[..., list[T]], tuple[Any, ...]]],
        is_search: bool = False,
    ) -> list[T]:
        """Returns what several pieces of work give, each about one source, done side by side.

        Args:
            work: each with its source and its arguments.
            is_search: it may take long, so that others must not wait for it.
        """
        run = self._database.search if is_search else self._database.run
        done = await asyncio.gather(
            *(self._done([source], run(ask, *arguments)) for source, ask, arguments in work),
            return_exceptions=True,  # none goes on when the sources may be let go
        )
        for one in done:
            if isinstance(one, BaseException):
                raise one
        return [item for part in done if not isinstance(part, BaseException) for item in part]

    async def one(
        self, source: EventTable, work: Callable[..., list[T]], *arguments: Any
    ) -> list[T]:
        """Returns what work about one source gives.

        Raises:
            Damaged: the source is a file that is not what it was.
            StorageFailed: it failed for another reason.
        """
        return await self._done([source], self._database.run(work, *arguments))

    async def among(
        self, sources: Sequence[EventTable], work: Callable[..., list[T]], *arguments: Any
    ) -> list[T]:
        """Returns what work about several sources gives; see `one`."""
        return await self._done(sources, self._database.run(work, *arguments))

    async def _done(self, sources: Sequence[EventTable], work: Awaitable[list[T]]) -> list[T]:
        try:
            return await work
        except duckdb.Error as error:
            for source in sources:
                if source.file is not None and not await self.is_healthy(source.file):
                    log.error("sealed file cannot be read", extra={"error": str(error)})
                    raise Damaged(source) from error
            raise StorageFailed(f"history: look-up failed: {error}") from error

    async def is_healthy(self, file: SealedFile) -> bool:
        """Returns whether a file is what it was when it was written, so that others are at fault.

        All who ask meanwhile share one look.
        """

        def look() -> bool:
            try:
                return file.digest is not None and is_whole(file)
            except OSError:
                return False

        looking = self._looking.get(file.path)
        if looking is None:
            looking = asyncio.ensure_future(asyncio.to_thread(look))
            self._looking[file.path] = looking
            looking.add_done_callback(lambda _: self._looking.pop(file.path))
        return await asyncio.shield(looking)
