"""Copies the log files of imports from S3 into event data stores, one import at a time.

Source: "StartImport" of the API Reference; "Copying trail events to CloudTrail Lake" of the user
guide. Keys are read in order, and the import's document names the last one whose log file is in
the store's files. A log file that is read again adds no event.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from opentrail.core.errors import CloudTrailError, ObjectMissing, ObjectStoreError, OpentrailError
from opentrail.core.event_data_store import EventDataStore
from opentrail.core.faults import crash_point
from opentrail.lake.store_imports import ImportFailure, ImportStatus, StoreImport, StoreImports
from opentrail.lake.store_registry import Stores
from opentrail.ports.clock import Clock
from opentrail.ports.objects import ObjectStore
from opentrail.ports.queries import LogFile, LogFileOutcome, StoreFiles

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Log files, and their bytes, that one process reads.
_BATCH_FILES, _BATCH_BYTES = 500, 8 << 20
#: Maximum bytes of a log file as stored: CloudTrail's have at most 50 MB before compression.
MAX_FILE_BYTES = 32 << 20
#: Log files that are downloaded concurrently.
_DOWNLOADS = 4
#: Seconds until a failed import continues.
_FAILURE_SECONDS = 60.0
#: Seconds between attempts to reach S3.
_RETRIES = (1.0, 10.0, 60.0)
#: Codes of S3 that another attempt does not change.
_REFUSALS = frozenset({"AccessDenied", "403", "Forbidden", "InvalidObjectState"})
#: Folders between the one named CloudTrail and log files: Region, year, month, day.
_LEVELS = 4
#: Folders between the import's URI and folders named CloudTrail.
_MAX_DEPTH = 6
#: Maximum folders in which these are searched.
_MAX_FOLDERS = 10_000
_NAME_FOLDER = "too many folders; name the folder CloudTrail in S3LocationUri"
_CLOUDTRAIL = "CloudTrail"
#: The name of a folder with log files of some category.
_LOGS = re.compile(r"CloudTrail(-\w+)?")
_DIGEST = "CloudTrail-Digest"
_SUFFIX = ".json.gz"
#: The folder of an account; it has no other folder with log files than CloudTrail.
_ACCOUNT = re.compile(r"(^|/)AWSLogs/(o-[a-z0-9]+/)?(?P<account>\d{12})/\Z")
#: The time in the name of a log file, and the day in its key.
_NAMED_DAY = re.compile(r"_(\d{4})(\d\d)(\d\d)T\d{4}Z_[^/]*\Z")
_FOLDER_DAY = re.compile(r"/(\d{4})/(\d\d)/(\d\d)/[^/]*\Z")
#: Time after its event in which a log file is delivered.
_DELIVERY = timedelta(days=1)
#: The code of a failure because log files belong to another account.
OTHER_ACCOUNT = "OtherAccount"
_FAILED = "an import into an event data store failed"
_END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)


class Interval(NamedTuple):
    """The times of the events to copy."""

    first: datetime
    last: datetime

    def has_days(self, numbers: Sequence[int]) -> bool:
        """Returns whether log files of a year, month or day may have such events."""
        until = min(self.last, _END_OF_TIME - _DELIVERY) + _DELIVERY
        first, last = ((day.year, day.month, day.day) for day in (self.first, until))
        count = len(numbers)
        return first[:count] <= tuple(numbers) <= last[:count]

    def has_key(self, key: str) -> bool:
        """Returns whether a log file may have such events, by its key."""
        match = _NAMED_DAY.search(key) or _FOLDER_DAY.search(key)
        return match is None or self.has_days([int(number) for number in match.groups()])


@dataclass(frozen=True, slots=True)
class _Key:
    """A key to read, and the number of folders that are complete before it."""

    key: str
    done: int


class _Download(NamedTuple):
    """A log file: its bytes, or why there are none."""

    of: _Key | ImportFailure
    content: bytes | LogFileOutcome


class _Progress:
    """What became of a batch of log files."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._files = self._events = self._failed = 0
        self._last: _Key | None = None
        self.failures: list[ImportFailure] = []

    def note(self, name: str, of: _Key | ImportFailure, outcome: LogFileOutcome) -> None:
        """Notes what became of a log file."""
        earlier = of if isinstance(of, ImportFailure) else None
        # A file that cannot be read now may have been read in part.
        events = max(outcome.events, earlier.events if earlier else 0)
        self._events += events - (earlier.events if earlier else 0)
        if isinstance(of, _Key):
            self._last = of
        if outcome.error:
            failure = ImportFailure(
                name, of.key, "FAILED", outcome.error, outcome.message, self._now, events
            )
            self.failures.append(failure)
            self._failed += earlier is None
            return
        self._files += 1
        if earlier:
            changes = {"status": "SUCCEEDED", "events": events, "updated": self._now}
            self.failures.append(replace(earlier, **changes))
            self._failed -= 1

    def applied(self, current: StoreImport) -> StoreImport:
        """Returns an import after the batch."""
        changed = replace(
            current,
            files=current.files + self._files,
            events=current.events + self._events,
            failed=current.failed + self._failed,
        )
        if self._last is None:
            return changed
        return replace(changed, after=self._last.key, prefixes_done=self._last.done)


class StoreImporter:
    """Runs imports.

    Args:
        imports: the imports.
        stores: their destinations.
        files: the files of these.
        objects: has the log files.
        clock: the time by which events expire.
        retries: seconds between attempts to reach S3.
    """

    def __init__(
        self,
        imports: StoreImports,
        stores: Stores,
        files: StoreFiles,
        objects: ObjectStore,
        clock: Clock,
        retries: Sequence[float] = _RETRIES,
    ) -> None:
        self._imports = imports
        self._stores = stores
        self._files = files
        self._objects = objects
        self._clock = clock
        self._retries = retries

    async def run(self) -> None:
        """Runs until cancelled; continues the imports that were in progress."""
        while True:
            self._imports.changed.clear()
            try:
                await self.round()
            except OpentrailError as error:
                log.error("imports cannot be read", extra={"error": str(error)})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._imports.changed.wait(), _FAILURE_SECONDS)

    async def round(self) -> None:
        """Runs every import to its end, and forgets those into removed stores."""
        problems: list[str] = []
        for each in await self._imports.ongoing():
            try:
                await self._run(each)
            except OpentrailError as error:
                problems.append(f"import {each.id} cannot continue: {error}")
                log.error(_FAILED, extra={"import": each.id, "error": str(error)})
            except Exception:  # a bug must neither end the task nor go unnoticed
                log.exception("an import into an event data store failed unexpectedly")
        self._imports.problems = problems
        await self._imports.forget([store.id for store in await self._stores.all()])

    async def _run(self, ongoing: StoreImport) -> None:
        """Copies log files in the order of their keys, then the failed ones again."""
        store = await self._destination(ongoing)
        if store is None:
            await self._end(ongoing, "STOPPED")
            return
        begun = partial(_with_status, "IN_PROGRESS")
        current = await self._imports.change(ongoing, begun)
        try:
            interval = _interval_of(current, store, self._clock.now())
            folders = await self._folders(current, interval)
            found = len(folders)
            current = await self._imports.change(current, lambda c: replace(c, prefixes=found))
            if not current.is_ongoing:
                return
            bucket, keys = current.source.bucket, self._keys(current, folders, interval)
            async for batch in self._batches(bucket, keys):
                current = await self._copy(current, store, interval, batch)
                if not current.is_ongoing:
                    return
            current = await self._imports.change(current, lambda c: replace(c, prefixes_done=found))
            async for batch in self._batches(bucket, self._to_retry(current)):
                current = await self._copy(current, store, interval, batch)
                if not current.is_ongoing:
                    return
        except ObjectStoreError as error:
            await self._fail(current, error)
        else:
            await self._end(current, "FAILED" if current.failed else "COMPLETED")

    async def _destination(self, of: StoreImport) -> EventDataStore | None:
        try:
            store = await self._stores.find(of.account, of.region, of.store)
        except CloudTrailError:
            return None
        return None if store.deleted_at else store

    async def _end(self, current: StoreImport, status: ImportStatus) -> None:
        ended = await self._imports.change(current, partial(_with_status, status))
        about = {"import": ended.id, "status": ended.status, "events": ended.events}
        log.info("an import into an event data store ended", extra=about)

    async def _fail(self, current: StoreImport, error: ObjectStoreError) -> None:
        """Ends an import because S3 cannot be reached, or does not list the bucket."""
        uri, now = current.source.uri, self._imports.now()
        failure = ImportFailure(uri, "", "FAILED", error.code, error.message, now)
        failed = {each.location for each in await self._imports.failures(current)}
        new = uri not in failed

        def change(c: StoreImport) -> StoreImport:
            return replace(_with_status("FAILED", c), failed=c.failed + new)

        await self._imports.change(current, change, [failure])
        log.error(_FAILED, extra={"import": current.id, "error": str(error)})

    # Keys

    async def _folders(self, of: StoreImport, interval: Interval) -> list[str]:
        """Returns the folders of log files, in the order of their keys."""
        location = f"{of.source.prefix}/" if of.source.prefix else ""
        found = [
            folder
            for root in await self._roots(of.account, of.source.bucket, location)
            async for folder in self._days(
                of.source.bucket, root, _levels_below(root) or 0, interval
            )
        ]
        return sorted(found, key=str.encode)

    async def _roots(self, account: str, bucket: str, location: str) -> list[str]:
        """Returns an account's folders named CloudTrail below a location.

        If no account has such a folder there, it returns the location.

        Raises:
            ObjectStoreError: only other accounts have one. The server's credentials may read log
                files that the caller must not.
        """
        if _levels_below(location) is not None:
            return [location]
        roots, level, count, owners = list[str](), [location], 0, set[str]()
        for _ in range(_MAX_DEPTH):
            following: list[str] = []
            count += len(level)
            if count > _MAX_FOLDERS:
                break
            for folder in level:
                names = await self._patiently(partial(self._objects.folders, bucket, folder))
                owner = _ACCOUNT.search(folder)
                if _CLOUDTRAIL in names:
                    owners.add(owner["account"] if owner else account)
                    if owner is None or owner["account"] == account:
                        roots.append(f"{folder}{_CLOUDTRAIL}/")
                elif owner is None:
                    following += [f"{folder}{name}/" for name in names]
            level = following
        if count > _MAX_FOLDERS and (owners or not location):
            raise ObjectStoreError("TooManyFolders", f"s3://{bucket}/{location}: {_NAME_FOLDER}")
        if owners and not roots:
            named = ", ".join(sorted(owners))
            message = f"s3://{bucket}/{location}: has log files of {named}, but not of {account}"
            raise ObjectStoreError(OTHER_ACCOUNT, message)
        return roots if roots or not location else [location]

    async def _days(
        self, bucket: str, folder: str, levels: int, interval: Interval
    ) -> AsyncIterator[str]:
        """Yields folders some levels below another folder, if an interval has their days."""
        if levels <= 0:
            yield folder
            return
        for name in await self._patiently(partial(self._objects.folders, bucket, folder)):
            path = f"{folder}{name}/"
            numbers = _numbers_in(path, levels - 1)
            if numbers is None or interval.has_days(numbers):
                async for each in self._days(bucket, path, levels - 1, interval):
                    yield each

    async def _keys(
        self, of: StoreImport, folders: Sequence[str], interval: Interval
    ) -> AsyncIterator[_Key]:
        """Yields the keys of log files that the import has not read."""
        bucket = of.source.bucket
        for done, folder in enumerate(folders):
            if folder.encode() < of.after.encode() and not of.after.startswith(folder):
                continue
            after = of.after if of.after.startswith(folder) else ""
            for key in await self._patiently(partial(self._objects.keys, bucket, folder, after)):
                if is_log_file(key) and interval.has_key(key):
                    yield _Key(key, done)

    # Copies

    async def _batches(
        self, bucket: str, items: AsyncIterator[_Key] | AsyncIterator[ImportFailure]
    ) -> AsyncIterator[list[_Download]]:
        """Yields the contents of log files, as many as one process reads."""
        batch, size = list[_Download](), 0
        async for part in _parts(items):
            contents = await asyncio.gather(*(self._content(bucket, each.key) for each in part))
            batch += map(_Download, part, contents)
            size += sum(len(each) for each in contents if isinstance(each, bytes))
            if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    async def _copy(
        self,
        current: StoreImport,
        store: EventDataStore,
        interval: Interval,
        batch: Sequence[_Download],
    ) -> StoreImport:
        """Copies log files, and returns the import with what became of them."""
        bucket = current.source.bucket
        names = [f"s3://{bucket}/{each.of.key}" for each in batch]
        files = [
            LogFile(name, each.content)
            for name, each in zip(names, batch, strict=True)
            if isinstance(each.content, bytes)
        ]
        added = iter(await self._added(store, files, interval))
        outcomes = [
            next(added) if isinstance(each.content, bytes) else each.content for each in batch
        ]
        crash_point("import.copied")
        progress = _Progress(self._imports.now())
        for name, each, outcome in zip(names, batch, outcomes, strict=True):
            progress.note(name, each.of, outcome)
        return await self._imports.change(current, progress.applied, progress.failures)

    async def _added(
        self, store: EventDataStore, files: Sequence[LogFile], interval: Interval
    ) -> list[LogFileOutcome]:
        """Adds log files; returns what became of each."""
        if not files:
            return []
        current, until = await self._stores.current(store)
        return await self._files.add(current, until, files, interval)

    async def _content(self, bucket: str, key: str) -> bytes | LogFileOutcome:
        """Returns the bytes of a log file, or why there are none."""
        read = partial(self._objects.get_range, bucket, key, 0, MAX_FILE_BYTES + 1)
        try:
            content = await self._patiently(read)
        except ObjectStoreError as error:
            if _is_refusal(error):
                return LogFileOutcome(0, error.code, error.message)
            raise
        if len(content) > MAX_FILE_BYTES:
            message = f"s3://{bucket}/{key} is larger than {MAX_FILE_BYTES >> 20} MiB"
            return LogFileOutcome(0, "TooLarge", message)
        return content

    async def _to_retry(self, current: StoreImport) -> AsyncIterator[ImportFailure]:
        for failure in await self._imports.failures(current):
            if failure.status == "RETRY":
                yield failure

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Returns the result of a call to S3, however often it fails to answer."""
        for seconds in self._retries:
            try:
                return await call()
            except ObjectStoreError as error:
                if _is_refusal(error):
                    raise
                await asyncio.sleep(seconds)
        return await call()


def is_log_file(key: str) -> bool:
    """Returns whether a log file can have a key.

    >>> is_log_file("AWSLogs/1/CloudTrail/r/2020/01/01/a.json.gz"), is_log_file("a/notes.txt")
    (True, False)
    """
    return key.endswith(_SUFFIX) and _DIGEST not in key.split("/")


def _is_refusal(error: ObjectStoreError) -> bool:
    return isinstance(error, ObjectMissing) or error.code in _REFUSALS or "KMS" in error.code


def _interval_of(of: StoreImport, store: EventDataStore, now: datetime) -> Interval:
    """Returns the times that an import copies, without those of expired events."""
    first = store.kept_since(now)
    if of.first is not None:
        first = max(first, datetime.fromtimestamp(of.first, UTC))
    return Interval(
        first, _END_OF_TIME if of.last is None else datetime.fromtimestamp(of.last, UTC)
    )


def _levels_below(folder: str) -> int | None:
    """Returns the number of levels between a folder and its log files; None if it may have any.

    >>> _levels_below("AWSLogs/1/CloudTrail/"), _levels_below("CloudTrail/AWSLogs/1/")
    (4, None)
    """
    for levels, name in enumerate(reversed(folder.split("/")[:-1])):
        if name == "AWSLogs":
            break
        if _LOGS.fullmatch(name):
            return _LEVELS - levels
    return None


def _numbers_in(path: str, levels: int) -> list[int] | None:
    """Returns year, month and day of a folder some levels above log files; None without any."""
    count = _LEVELS - 1 - levels
    names = path.split("/")[-1 - count : -1]
    are_numbers = all(name.isdecimal() and name.isascii() for name in names)
    return [int(name) for name in names] if names and are_numbers else None


async def _parts(
    items: AsyncIterator[_Key] | AsyncIterator[ImportFailure],
) -> AsyncIterator[list[_Key | ImportFailure]]:
    """Yields items that are downloaded concurrently."""
    part: list[_Key | ImportFailure] = []
    async for item in items:
        part.append(item)
        if len(part) == _DOWNLOADS:
            yield part
            part = []
    if part:
        yield part


def _with_status(status: ImportStatus, current: StoreImport) -> StoreImport:
    """Returns an import with another status, unless it was stopped."""
    return replace(current, status=status) if current.is_ongoing else current
