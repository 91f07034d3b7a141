"""Imports into event data stores: which there are, and what became of each, in the control store.

Source: "StartImport" and "ListImportFailures" of the API Reference.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from opentrail.core.errors import CloudTrailError, Unsupported
from opentrail.core.event_data_store import EventDataStore
from opentrail.ports.clock import Clock
from opentrail.ports.collection import Codec, Collection
from opentrail.ports.control import ControlStore, Put, Remove, StoreWrite

KIND, FAILURE = "import", "import-failure"
ImportStatus = Literal["INITIALIZING", "IN_PROGRESS", "COMPLETED", "FAILED", "STOPPED"]
FailureStatus = Literal["FAILED", "RETRY", "SUCCEEDED"]
ONGOING: tuple[ImportStatus, ...] = ("INITIALIZING", "IN_PROGRESS")


class ImportSource(msgspec.Struct, frozen=True):
    """Where the log files are: a URI with its bucket and prefix; Region and role as given."""

    uri: str
    bucket: str
    prefix: str
    region: str
    role: str


class StoreImport(msgspec.Struct, frozen=True):
    """An import and its progress.

    Attributes:
        store: the id of the event data store.
        first, last: the times of the events to copy, in seconds since 1970; None: any.
        created, updated: seconds since 1970.
        after: the last key whose log file was copied, or is in a failure.
        prefixes, prefixes_done: folders of log files that were found, and that are copied.
        files: log files without failure.
        events: their events in the range of time.
        failed: failures that no retry has resolved.
    """

    id: str
    account: str
    region: str
    store: str
    source: ImportSource
    status: ImportStatus
    created: float
    updated: float
    first: float | None = None
    last: float | None = None
    after: str = ""
    prefixes: int = 0
    prefixes_done: int = 0
    files: int = 0
    events: int = 0
    failed: int = 0

    @property
    def key(self) -> str:
        """The key of its document."""
        return f"{self.account}/{self.region}/{self.id}"

    @property
    def is_ongoing(self) -> bool:
        """Whether it has not ended."""
        return self.status in ONGOING


class ImportFailure(msgspec.Struct, frozen=True):
    """A log file that was not copied completely.

    Attributes:
        location: its URI, or the URI of the import.
        key: the object's key; "" if the bucket cannot be listed or reached.
        updated: seconds since 1970.
        events: its events that were copied.
    """

    location: str
    key: str
    status: FailureStatus
    error: str
    message: str
    updated: float
    events: int = 0


class StoreImports:
    """Starts, finds and stops imports.

    Args:
        control: has the documents.
        clock: the time.
        is_supported: whether this server can run imports.
    """

    def __init__(self, control: ControlStore, clock: Clock, *, is_supported: bool) -> None:
        self._control = control
        self._clock = clock
        self._is_supported = is_supported
        self._collection = Collection(control, KIND, Codec.of(StoreImport), "import")
        self._starting = asyncio.Lock()
        #: Set after each change by a caller.
        self.changed = asyncio.Event()
        #: What failed in the last round; set by the importer.
        self.problems: list[str] = []

    def now(self) -> float:
        """Returns the current time, in seconds since 1970."""
        return self._clock.now().timestamp()

    async def start(
        self,
        store: EventDataStore,
        source: ImportSource,
        first: float | None,
        last: float | None,
    ) -> StoreImport:
        """Starts an import of the events between two times.

        Raises:
            CloudTrailError: `AccountHasOngoingImportException`.
            Unsupported: this server cannot run imports.
        """
        self.require_supported()
        async with self._starting:
            await self._check_no_other(store.account)
            now = self.now()
            place = (str(uuid.uuid4()), store.account, store.region, store.id, source)
            new = StoreImport(*place, "INITIALIZING", now, now, first, last)
            await self._collection.put(new.key, new, expected=0)
        self.changed.set()
        return new

    def require_supported(self) -> None:
        """Returns if this server can run imports.

        Raises:
            Unsupported: it cannot.
        """
        if not self._is_supported:
            raise Unsupported("imports into event data stores of a cluster")

    async def retry(self, stopped: StoreImport) -> StoreImport:
        """Continues a stopped or failed import, and retries its failures.

        Raises:
            CloudTrailError: `AccountHasOngoingImportException`; `InvalidParameterException` for a
                completed import.
        """
        async with self._starting:
            await self._check_no_other(stopped.account)
            if stopped.status == "COMPLETED":
                message = f"Import {stopped.id} is completed."
                raise CloudTrailError("InvalidParameterException", message)
            # The import itself tries again to list folders.
            now, failures = self.now(), await self.failures(stopped)
            again = [replace(f, status="RETRY", updated=now) for f in failures if _may_retry(f)]
            folders = [f for f in failures if not f.key]
            removals: list[StoreWrite] = [
                Remove(FAILURE, _failure_key(stopped, failure)) for failure in folders
            ]
            retried = await self.change(
                stopped,
                lambda current: replace(
                    current, status="INITIALIZING", failed=current.failed - len(folders)
                ),
                again,
                removals,
            )
        self.changed.set()
        return retried

    async def _check_no_other(self, account: str) -> None:
        for each in await self._collection.all():
            if each.account == account and each.is_ongoing:
                raise CloudTrailError(
                    "AccountHasOngoingImportException", f"Import {each.id} is {each.status}."
                )

    async def stop(self, running: StoreImport) -> StoreImport:
        """Ends an import, unless it has ended; its log file of this moment is still copied."""

        def stopped(current: StoreImport) -> StoreImport:
            return replace(current, status="STOPPED") if current.is_ongoing else current

        changed = await self.change(running, stopped)
        self.changed.set()
        return changed

    async def find(self, account: str, region: str, import_id: str) -> StoreImport | None:
        """Returns an import of an account and Region; None if there is none."""
        item = await self._collection.find(f"{account}/{region}/{import_id}")
        return item.value if item else None

    async def of(self, account: str, region: str) -> list[StoreImport]:
        """Returns the imports of an account and Region, newest first."""
        own = [
            each
            for each in await self._collection.all()
            if (each.account, each.region) == (account, region)
        ]
        return sorted(own, key=lambda each: (-each.created, each.id))

    async def ongoing(self) -> list[StoreImport]:
        """Returns the imports that have not ended, oldest first."""
        ongoing = [each for each in await self._collection.all() if each.is_ongoing]
        return sorted(ongoing, key=lambda each: each.created)

    async def check_none_into(self, store: EventDataStore) -> None:
        """Returns if no import into a store is in progress.

        Raises:
            CloudTrailError: `EventDataStoreHasOngoingImportException`.
        """
        for each in await self.ongoing():
            if each.store == store.id:
                raise CloudTrailError(
                    "EventDataStoreHasOngoingImportException",
                    f"Import {each.id} into event data store {store.name} is {each.status}.",
                )

    async def failures(self, of: StoreImport) -> list[ImportFailure]:
        """Returns the failures of an import, by location."""
        rows = await self._control.scan(FAILURE, f"{of.id}/")
        return [msgspec.convert(row.document, ImportFailure) for row in rows]

    async def change(
        self,
        of: StoreImport,
        change: Callable[[StoreImport], StoreImport],
        failures: Sequence[ImportFailure] = (),
        more: Sequence[StoreWrite] = (),
    ) -> StoreImport:
        """Replaces an import, and some of its failures, in one transaction; returns the new one.

        Raises:
            Conflict: others changed it during each attempt.
            UsageError: it does not exist.
        """
        puts = [Put(FAILURE, _failure_key(of, f), msgspec.to_builtins(f)) for f in failures]

        async def attempt() -> StoreImport:
            item = await self._collection.get(of.key)
            changed = replace(change(item.value), updated=self.now())
            replacement = self._collection.replacement(item, changed)
            await self._collection.apply([replacement, *puts, *more])
            return changed

        return await self._collection.retry(of.key, attempt)

    async def forget(self, stores: Sequence[str]) -> None:
        """Removes the ended imports into other stores than these ids."""
        for each in await self._collection.all():
            if each.store not in stores and not each.is_ongoing:
                failures = [_failure_key(each, one) for one in await self.failures(each)]
                removals: list[StoreWrite] = [Remove(FAILURE, key) for key in failures]
                await self._collection.apply([*removals, *self._collection.removals([each.key])])


def _may_retry(failure: ImportFailure) -> bool:
    return bool(failure.key) and failure.status != "SUCCEEDED"


def _failure_key(of: StoreImport, failure: ImportFailure) -> str:
    return f"{of.id}/{failure.location}"
