"""Runs the statements of lookups, and finds the damaged file after a failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from opentrail.adapters.data_directory.sealed_file_names import SealedFile, is_intact
from opentrail.adapters.duckdb.table_set import Database, EventTable
from opentrail.core.errors import StorageFailed

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Maximum seconds for deciding which records match, where SQL cannot.
SEARCH_SECONDS = 100.0


class Damaged(Exception):  # noqa: N818 - internal: the store repairs the file
    """A sealed file could not be read."""

    def __init__(self, table: EventTable) -> None:
        super().__init__(str(table.file))
        self.table = table


class LookupPool:
    """Runs pieces of lookups in the database's threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        #: Files being compared with their hashes.
        self._comparing: dict[Path, asyncio.Future[bool]] = {}

    async def run_all(
        self,
        work: Sequence[tuple[EventTable, Callable[..., list[T]], tuple[Any, ...]]],
        is_search: bool = False,
    ) -> list[T]:
        """Returns the combined results of several pieces of work, which run in parallel.

        Args:
            work: the table, function and arguments of each.
            is_search: the work may take long, and must not delay lookups.
        """
        results = await asyncio.gather(
            *(
                self.run([table], function, *arguments, is_search=is_search)
                for table, function, arguments in work
            ),
            return_exceptions=True,  # all must end before the tables are released
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [item for part in results if not isinstance(part, BaseException) for item in part]

    async def run(
        self,
        tables: Sequence[EventTable],
        work: Callable[..., list[T]],
        *arguments: Any,
        is_search: bool = False,
    ) -> list[T]:
        """Returns the result of one piece of work, which reads these tables.

        Args:
            tables: the tables.
            work: the function to call with `arguments`.
            arguments: its arguments.
            is_search: the work may take long, and must not delay lookups.

        Raises:
            Damaged: one of them is a file changed since it was written.
            StorageFailed: the work failed for another reason.
        """
        run = self._database.search if is_search else self._database.run
        try:
            for table in tables:
                if not table.is_attached:
                    await self._database.ensure_attached(table)
            return await run(work, *arguments)
        except duckdb.Error as error:
            for table in tables:
                if table.is_remote:
                    continue  # records read from it are verified
                if table.file is not None and not await self._is_intact(table.file):
                    log.error("sealed file cannot be read", extra={"error": str(error)})
                    raise Damaged(table) from error
            raise StorageFailed(f"history: lookup failed: {error}") from error

    async def _is_intact(self, file: SealedFile) -> bool:
        """Compares a file with its hash, once for all concurrent failed lookups."""
        comparing = self._comparing.get(file.path)
        if comparing is None:
            comparing = asyncio.ensure_future(asyncio.to_thread(is_intact, file))
            self._comparing[file.path] = comparing
            comparing.add_done_callback(lambda _: self._comparing.pop(file.path))
        return await asyncio.shield(comparing)
