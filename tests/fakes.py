"""Small real stand-ins for engines: ports in memory, with the faults that engines have.

They hold the same contracts as the adapters (`tests/contracts` runs over both). A fake's state
lives in a separate object ("disk"), so that a test can drop the fake and start again on it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import hashlib
import json
import os
import selectors
import shutil
import subprocess
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from opentrail.core.arns import without_session
from opentrail.core.attributes import Attributes, attributes_of
from opentrail.core.errors import (
    Conflict,
    LeaseLost,
    ObjectExists,
    ObjectMissing,
    ObjectStoreError,
    OpentrailError,
    RecordRefused,
    ServiceError,
    ServiceMissing,
)
from opentrail.core.event import Entry, NewEntry
from opentrail.core.expression import holds
from opentrail.core.expression.tree import field_values
from opentrail.core.user_agents import family_of
from opentrail.ports.control import Document, Lease, Put, Remove, Stored, StoreWrite
from opentrail.ports.event_store import (
    DATA_CATEGORIES,
    PRESENT,
    CallCounts,
    CallKey,
    CountedField,
    EventOverview,
    EventQuery,
    FoundEvent,
    PeriodCounts,
    PrincipalActivity,
    PrincipalCounts,
    Snapshot,
    ValueCount,
    ValueCounts,
)
from opentrail.ports.journal import LostPositions
from opentrail.ports.objects import Bucket, NewObject, StoredContent
from opentrail.ports.services import BusEvent, LogEvent
from opentrail.ports.signer import SigningKey
from tests.factories import MOMENT

T = TypeVar("T")

#: Time limit of every wait in a test, even on a busy machine.
TIMEOUT_SECONDS = 300.0
GENESIS = b"\0" * 32


# Running asynchronous stories


def run(story: Coroutine[Any, Any, T], seconds: float = TIMEOUT_SECONDS) -> T:
    """Runs a coroutine in a new loop; it must end in time."""

    async def limited() -> T:
        async with asyncio.timeout(seconds):
            return await story

    return asyncio.run(limited())


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Lets pytest run an asynchronous test."""

    @functools.wraps(test)
    def plain(*arguments: Any, **named: Any) -> None:
        run(test(*arguments, **named))

    return plain


class _SkippingSelector(selectors.DefaultSelector):
    """Never waits: only the skipped sleep passes on the loop's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """Returns the ready files."""
        if timeout is None:
            raise AssertionError("everything waits for something that cannot come")
        self.skipped += max(0.0, timeout)
        return super().select(0)


class _SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop in which days pass immediately, and work for threads runs immediately."""

    def __init__(self) -> None:
        self.selector = _SkippingSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        """Returns the loop's own time, in which work takes none."""
        return self.selector.skipped

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, work: Any, *arguments: Any
    ) -> Any:
        """Returns the result of a thread; a test cannot wait for one here."""
        done = self.create_future()
        try:
            done.set_result(work(*arguments))
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to who awaits it
            done.set_exception(error)
        return done


def run_skipping_time(story: Coroutine[Any, Any, T], days: float = 40) -> T:
    """Runs a coroutine as `run` does, but skips all its pauses."""

    async def limited() -> T:
        async with asyncio.timeout(days * 86_400):
            return await story

    with asyncio.Runner(loop_factory=_SkippingLoop) as runner:
        return runner.run(limited())


def immediately(work: Coroutine[Any, Any, T]) -> T:
    """Returns the result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits for something")


async def turns(count: int = 20) -> None:
    """Lets every other task run for a few steps."""
    for _ in range(count):
        await asyncio.sleep(0)


async def a_store_id() -> str:
    """Returns the id of a control store."""
    return "a" * 32


def at(position: int) -> Callable[[], Coroutine[Any, Any, int]]:
    """Returns a journal's `newest` that stays at one position."""

    async def newest() -> int:
        return position

    return newest


async def eventually(
    condition: Callable[[], object], every: float = 0.005, timeout: float = TIMEOUT_SECONDS
) -> None:
    """Polls until a condition without an event holds; fails after a timeout."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(every)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """Mounts a file system of this size, or skips the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], timeout=TIMEOUT_SECONDS, check=True)


def fill(folder: Path, leave_kilobytes: int = 0) -> Path:
    """Fills a small disk up to a rest; removing the returned file makes room again."""
    filler = folder / "filler"
    block = b"\0" * 1024
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(block)
        except OSError:
            file.truncate(max(0, file.tell() - leave_kilobytes * 1024))
    return filler


# Clock


class SettableClock:
    """A `Clock` that moves only when a test sets it."""

    def __init__(self, now: datetime = MOMENT) -> None:
        self.moment = now

    def now(self) -> datetime:
        """Returns the current time."""
        return self.moment

    def advance(self, seconds: float) -> None:
        """Moves the clock; backwards with a negative number."""
        self.moment += timedelta(seconds=seconds)


# Crashes


class PowerCutError(BaseException):
    """The process dies here; no handler may catch it."""


class Breaker:
    """Counts the operations of stores and cuts the power at the n-th.

    With `done`, the operation happens, but its result is not reported.
    """

    def __init__(self, at: int = 0, done: bool = False) -> None:
        self.count = 0
        self._at = at
        self._done = done
        self._interludes: dict[int, Callable[[], Awaitable[None]]] = {}

    def before_next(self, number: int, interlude: Callable[[], Awaitable[None]]) -> None:
        """Runs a callback just before the `number`-th next operation."""
        self._interludes[self.count + number] = interlude

    @property
    def tripped(self) -> bool:
        """Whether the power was cut."""
        return 0 < self._at <= self.count

    async def pass_through(self, operation: Callable[[], T]) -> T:
        """Runs an operation, unless the power is cut at it."""
        self.count += 1
        mine = self.count
        interlude = self._interludes.pop(mine, None)
        if interlude is not None:
            await interlude()
        await asyncio.sleep(0)
        if mine != self._at:
            return operation()
        if self._done:
            with suppress(OpentrailError):
                operation()
        raise PowerCutError


# Ports in memory


class MemoryJournal:
    """A `Journal`; `disk` outlives it. Setting `failure` makes it refuse records."""

    def __init__(self, disk: list[Entry] | None = None, breaker: Breaker | None = None) -> None:
        self.disk = [] if disk is None else disk
        self.failure: str | None = None
        #: Positions without records; those in `lost` were lost, the others have expired.
        self.missing: set[int] = set()
        self.lost: list[LostPositions] = []
        self._breaker = breaker or Breaker()
        self._closed = False
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def head(self) -> int:
        """Returns the last position."""
        return len(self.disk)

    @property
    def backlog_seconds(self) -> float:
        """Returns 0: nothing waits here."""
        return 0.0

    async def write(self, entries: Sequence[NewEntry]) -> None:
        """Stores the records."""
        await self.append(entries)

    async def append(self, entries: Sequence[NewEntry]) -> int:
        """Stores the records."""
        if self._closed or self.failure:
            raise RecordRefused(self.failure or "closed")
        return await self._breaker.pass_through(lambda: self._append(entries))

    def _append(self, entries: Sequence[NewEntry]) -> int:
        for new in entries:
            before = self.disk[-1].chain if self.disk else GENESIS
            chain = hashlib.sha256(before + new.record).digest()
            self.disk.append(
                Entry(
                    self.head + 1,
                    new.origin,
                    new.recorded_at,
                    new.account,
                    new.region,
                    new.category,
                    new.event_id,
                    chain,
                    new.record,
                )
            )
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        return self.head

    async def read(self, after: int, limit: int, until: int | None = None) -> list[Entry]:
        """Returns a stretch of entries."""
        last = self.head if until is None else min(until, self.head)
        entries = [e for e in self.disk[after:last] if e.position not in self.missing][:limit]
        return await self._breaker.pass_through(lambda: entries)

    async def find(self, event_id: str) -> int | None:
        """Returns the position of an event."""
        found = (e.position for e in self.disk if e.event_id == event_id)
        return await self._breaker.pass_through(lambda: next(found, None))

    async def newest(self) -> int:
        """Returns the last position."""
        return self.head

    async def wait_beyond(self, position: int) -> None:
        """Returns once the head is behind `position`."""
        while self.head <= position:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    async def close(self) -> None:
        """Refuses later entries."""
        self._closed = True


class MemoryLeases:
    """`Leases` of several processes in one; `lasting` returns the same leases."""

    def __init__(self, seconds: float = 5.0) -> None:
        self._seconds = seconds
        #: Name → the newest lease, and its end (time.monotonic).
        self._held: dict[str, tuple[Lease, float]] = {}

    def lasting(self, seconds: float) -> MemoryLeases:
        """Returns the same leases for a process whose leases last this long."""
        other = MemoryLeases(seconds)
        other._held = self._held
        return other

    async def acquire(self, name: str, holder: str) -> Lease | None:
        """Returns the lease, unless another holder has it."""
        former, until = self._held.get(name, (None, 0.0))
        if former and former.holder != holder and until > time.monotonic():
            return None
        lease = Lease(name, holder, former.epoch + 1 if former else 1)
        self._held[name] = (lease, time.monotonic() + self._seconds)
        return lease

    async def renew(self, lease: Lease) -> bool:
        """Extends a lease, unless it is another's."""
        if self._held[lease.name][0] != lease:
            return False
        self._held[lease.name] = (lease, time.monotonic() + self._seconds)
        return True

    async def release(self, lease: Lease) -> None:
        """Ends a lease, unless it is another's."""
        if self._held[lease.name][0] == lease:
            self._held[lease.name] = (lease, 0.0)

    def expire(self, name: str) -> None:
        """Lets a lease expire."""
        if name in self._held:
            self._held[name] = (self._held[name][0], 0.0)

    def current(self, name: str) -> tuple[Lease | None, bool]:
        """Returns the newest lease, and whether it has expired."""
        lease, until = self._held.get(name, (None, 0.0))
        return lease, until <= time.monotonic()

    def fence(self, lease: Lease) -> None:
        """Extends a lease; raises `LeaseLost` if it is another's."""
        if self._held[lease.name][0] != lease:
            raise LeaseLost(f"another process has acquired the lease {lease.name!r}")
        self._held[lease.name] = (lease, time.monotonic() + self._seconds)


Documents = dict[tuple[str, str], tuple[int, str]]


class MemoryControl:
    """A `ControlStore`; `disk` outlives it."""

    def __init__(self, disk: Documents | None = None, breaker: Breaker | None = None) -> None:
        self.disk: Documents = {} if disk is None else disk
        self._breaker = breaker or Breaker()

    async def get(self, kind: str, key: str) -> Stored | None:
        """Returns a document."""
        return await self._breaker.pass_through(lambda: self._read(kind, key))

    async def get_each(self, kinds: Sequence[str], key: str) -> dict[str, Stored]:
        """Returns the documents of several kinds."""
        found = await self._breaker.pass_through(
            lambda: {kind: self._read(kind, key) for kind in kinds}
        )
        return {kind: stored for kind, stored in found.items() if stored is not None}

    async def scan(self, kind: str, prefix: str = "") -> list[Stored]:
        """Returns documents by prefix."""
        return await self._breaker.pass_through(lambda: self._scan(kind, prefix))

    async def page(self, kind: str, after: str, count: int) -> list[Stored]:
        """Returns documents beyond a key."""
        documents = await self.scan(kind)
        return [stored for stored in documents if stored.key > after][:count]

    async def revisions(self, kinds: Sequence[str]) -> dict[str, str]:
        """Returns all documents of each kind."""
        return await self._breaker.pass_through(
            lambda: {
                kind: repr(sorted((key, *it) for (k, key), it in self.disk.items() if k == kind))
                for kind in kinds
            }
        )

    async def apply(self, changes: Sequence[StoreWrite]) -> None:
        """Makes all changes or no change."""
        await self._breaker.pass_through(lambda: self._apply(changes))

    async def remove_below(self, kind: str, key: str) -> None:
        """Removes documents by the order of keys."""
        below = [Remove(k, other) for k, other in self.disk if k == kind and other < key]
        await self.apply(below)

    async def close(self) -> None:
        """Does nothing: the disk stays."""

    def _read(self, kind: str, key: str) -> Stored | None:
        found = self.disk.get((kind, key))
        return None if found is None else Stored(key, found[0], json.loads(found[1]))

    def _scan(self, kind: str, prefix: str) -> list[Stored]:
        keys = sorted(key for k, key in self.disk if k == kind and key.startswith(prefix))
        return [Stored(key, *self._whole(kind, key)) for key in keys]

    def _whole(self, kind: str, key: str) -> tuple[int, Document]:
        version, text = self.disk[kind, key]
        return version, json.loads(text)

    def _apply(self, changes: Sequence[StoreWrite]) -> None:
        after = dict(self.disk)
        for change in changes:
            here = (change.kind, change.key)
            if not isinstance(change, Put):
                after.pop(here, None)
                continue
            version = after[here][0] if here in after else 0
            if change.expected is not None and change.expected != version:
                raise Conflict(f"{change.kind} {change.key!r}")
            after[here] = (version + 1, json.dumps(change.document))
        self.disk.clear()
        self.disk.update(after)


class Fault(enum.Enum):
    """Faults of an object store during a PUT."""

    UNAVAILABLE = "503, nothing stored"
    LOST_ANSWER = "stored, but the answer never arrives"
    WRONG_BYTES = "stored and answered, but other bytes"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A stored object."""

    content: bytes
    metadata: dict[str, str]
    content_type: str
    content_encoding: str | None
    kms_key: str = ""


@dataclass
class Buckets:
    """The content of a `MemoryObjects`: bucket → key → object, and every PUT that changed it."""

    objects: dict[str, dict[str, StoredObject]] = field(default_factory=dict)
    stored: list[tuple[str, str]] = field(default_factory=list)


class MemoryObjects:
    """An `ObjectStore`; `disk` outlives it.

    The next PUTs meet the `faults` in turn; while `down` is set, every call fails with that code.
    """

    def __init__(
        self,
        *buckets: str,
        disk: Buckets | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self.disk = disk or Buckets()
        for bucket in buckets:
            self.disk.objects.setdefault(bucket, {})
        self.faults: deque[Fault | None] = deque()
        self.down: str | None = None
        self.policies: dict[str, str] = {}
        self.calls = 0
        self._breaker = breaker or Breaker()

    async def check_bucket(self, bucket: str) -> None:
        """Returns if the bucket exists."""
        await self._call(lambda: self._bucket(bucket))

    async def describe_bucket(self, bucket: str) -> Bucket:
        """Returns the policy from `policies`; every bucket is in the first Region."""
        await self.check_bucket(bucket)
        return Bucket("us-east-1", self.policies.get(bucket))

    async def create_bucket(self, bucket: str) -> None:
        """Makes a bucket."""
        await self._call(lambda: self.disk.objects.setdefault(bucket, {}))

    async def put(self, new: NewObject) -> None:
        """Stores a new object."""
        fault = self.faults.popleft() if self.faults else None
        await self._call(lambda: self._put(new, fault))

    async def get(self, bucket: str, key: str) -> bytes:
        """Returns an object's bytes."""
        return await self._call(lambda: self._get(bucket, key).content)

    async def get_range(self, bucket: str, key: str, first: int, length: int) -> bytes:
        """Returns a range of an object's bytes."""
        return (await self.get(bucket, key))[first : first + length]

    async def read(self, bucket: str, key: str) -> StoredContent:
        """Returns an object's bytes and metadata."""
        found = await self._call(lambda: self._get(bucket, key))
        return StoredContent(found.content, found.metadata)

    async def keys(self, bucket: str, prefix: str, after: str = "") -> list[str]:
        """Returns the keys under a prefix after one."""
        found = await self._call(lambda: list(self._bucket(bucket)))
        return sorted(key for key in found if key.startswith(prefix) and key > after)

    async def delete(self, bucket: str, key: str) -> None:
        """Deletes an object, if it exists."""
        await self._call(lambda: self._bucket(bucket).pop(key, None))

    async def folders(self, bucket: str, prefix: str) -> list[str]:
        """Returns the next part of the keys under a prefix."""
        under = [key.removeprefix(prefix) for key in await self.keys(bucket, prefix)]
        return sorted({name.partition("/")[0] for name in under if "/" in name})

    async def _call(self, operation: Callable[[], T]) -> T:
        self.calls += 1
        if self.down is not None:
            await asyncio.sleep(0)
            raise ObjectStoreError(self.down, "the store is down")
        return await self._breaker.pass_through(operation)

    def _bucket(self, bucket: str) -> dict[str, StoredObject]:
        if bucket not in self.disk.objects:
            raise ObjectMissing("NoSuchBucket", f"bucket {bucket}")
        return self.disk.objects[bucket]

    def _put(self, new: NewObject, fault: Fault | None) -> None:
        if fault is Fault.UNAVAILABLE:
            raise ObjectStoreError("SlowDown", "503")
        bucket = self._bucket(new.bucket)
        if new.key in bucket:
            raise ObjectExists("PreconditionFailed", new.key)
        content = new.content[:-1] + b"?" if fault is Fault.WRONG_BYTES else new.content
        bucket[new.key] = StoredObject(
            content, dict(new.metadata), new.content_type, new.content_encoding, new.kms_key
        )
        self.disk.stored.append((new.bucket, new.key))
        if fault is Fault.LOST_ANSWER:
            raise ObjectStoreError("ReadTimeoutError", "no answer")

    def _get(self, bucket: str, key: str) -> StoredObject:
        found = self._bucket(bucket).get(key)
        if found is None:
            raise ObjectMissing("NoSuchKey", key)
        return found


class MemoryServices:
    """`Topics`, `LogGroups`, `EventBus` and `EncryptionKeys` in one; they outlive processes.

    The next writing calls meet the `faults` in turn; while `down` is set, all calls fail with it.
    """

    def __init__(self) -> None:
        self.topics: dict[str, list[tuple[str, str]]] = {}
        #: Group → stream → events.
        self.groups: dict[str, dict[str, list[LogEvent]]] = {}
        self.rules: dict[str, frozenset[str]] = {}
        self.asked_for_rules = 0
        self.bus: dict[str, list[BusEvent]] = {}
        #: Key's id or alias → its ARN; None while it is disabled.
        self.kms: dict[str, str | None] = {}
        self.faults: deque[Fault | None] = deque()
        self.down: str | None = None

    def _write(self, write: Callable[[], T]) -> T:
        fault = self.faults.popleft() if self.faults else None
        if self.down is not None or fault is Fault.UNAVAILABLE:
            raise ServiceError(self.down or "ServiceUnavailable", "the service is down")
        done = write()
        if fault is Fault.LOST_ANSWER:
            raise ServiceError("ReadTimeoutError", "no answer")
        return done

    async def publish(self, topic_arn: str, subject: str, message: str) -> None:
        """Stores a message."""
        await asyncio.sleep(0)
        if topic_arn not in self.topics:
            raise ServiceMissing("NotFound", topic_arn)
        self._write(lambda: self.topics[topic_arn].append((subject, message)))

    def _group(self, arn: str) -> dict[str, list[LogEvent]]:
        if arn.removesuffix(":*") not in self.groups:
            raise ServiceMissing("ResourceNotFoundException", arn)
        return self.groups[arn.removesuffix(":*")]

    async def create_stream(self, group_arn: str, stream: str) -> None:
        """Makes a stream."""
        self._write(lambda: self._group(group_arn).setdefault(stream, []))

    async def put(self, group_arn: str, stream: str, events: Sequence[LogEvent]) -> int:
        """Stores events."""
        await asyncio.sleep(0)
        assert list(events) == sorted(events, key=lambda event: event.time)
        if stream not in self._group(group_arn):
            raise ServiceMissing("ResourceNotFoundException", stream)
        self._write(lambda: self._group(group_arn)[stream].extend(events))
        return 0

    async def holds(self, group_arn: str, stream: str, event: LogEvent) -> bool:
        """Returns whether an event was stored."""
        if self.down is not None:
            raise ServiceError(self.down, "the service is down")
        if stream not in self._group(group_arn):
            raise ServiceMissing("ResourceNotFoundException", stream)
        return event.message in [kept.message for kept in self._group(group_arn)[stream]]

    async def arn_of(self, key: str, region: str) -> str:
        """Returns a key's ARN."""
        if key not in self.kms:
            raise ServiceMissing("NotFoundException", key)
        found = self.kms[key]
        if found is None:
            raise ServiceError("DisabledException", key)
        return found


class MemoryBus:
    """An `EventBus` over `MemoryServices`."""

    def __init__(self, services: MemoryServices) -> None:
        self._services = services

    async def rule_states(self, region: str) -> frozenset[str]:
        """Returns the states of rules."""
        self._services.asked_for_rules += 1
        if self._services.down is not None:
            raise ServiceError(self._services.down, "the service is down")
        return self._services.rules.get(region, frozenset())

    async def put(self, region: str, events: Sequence[BusEvent]) -> list[int]:
        """Stores events."""
        assert len(events) <= 10
        self._services._write(lambda: self._services.bus.setdefault(region, []).extend(events))
        return []


class MemoryEvents:
    """An `EventStore` that tests every event in turn."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    @property
    def position(self) -> int:
        """Returns the last position."""
        return max(0, self._entries[-1].position) if self._entries else 0

    @property
    def snapshot(self) -> Snapshot:
        """Returns a snapshot of its current content."""
        return Snapshot(self.position, max((0, *(-each.position for each in self._entries[:1]))))

    def add_imported(self, entry: Entry) -> None:
        """Adds an imported event, whose position is negative and lower than the others'."""
        self._entries.insert(0, entry)

    async def add(self, entries: Sequence[Entry]) -> None:
        """Adds new entries."""
        await asyncio.sleep(0)
        self._entries.extend([e for e in entries if e.position > self.position])

    async def lookup(self, query: EventQuery) -> list[FoundEvent]:
        """Returns a page."""
        await asyncio.sleep(0)
        return naive_page(self._entries, query)

    async def count(self, query: EventQuery) -> int:
        """Counts."""
        return min(query.limit, len(await self._all(query)))

    async def histogram(self, query: EventQuery, seconds: int) -> list[PeriodCounts]:
        """Counts by period."""
        counts: dict[int, list[int]] = {}
        for known in await self._all(query):
            moment = int(known.event_time.timestamp())
            counts.setdefault(moment - moment % seconds, [0, 0])[known.error_code is not None] += 1
        return [
            PeriodCounts(datetime.fromtimestamp(start, UTC), *counts[start])
            for start in sorted(counts)
        ]

    async def top_values(
        self, query: EventQuery, fields: Sequence[CountedField], limit: int, prefix: str = ""
    ) -> dict[CountedField, list[ValueCount]]:
        """Counts values."""
        found = await self._all(query)
        counts = {
            name: Counter(value for known in found for value in set(field_values(known, name)))
            for name in fields
        }
        return {
            name: sorted(
                [one for one in of.items() if one[0] and one[0].lower().startswith(prefix.lower())],
                key=lambda one: (-one[1], one[0]),
            )[:limit]
            for name, of in counts.items()
        }

    async def overview(
        self, query: EventQuery, seconds: int, fields: Sequence[CountedField], limit: int
    ) -> EventOverview:
        """Counts by period, and values."""
        return EventOverview(
            await self.histogram(query, seconds), await self.top_values(query, fields, limit)
        )

    async def list_principals(self, query: EventQuery, limit: int) -> list[PrincipalActivity]:
        """Lists principals."""
        calls: dict[str, list[Attributes]] = {}
        for known in await self._all(query):
            if known.principal_arn:
                calls.setdefault(known.principal_arn, []).append(known)
        found = [
            PrincipalActivity(
                *(arn, len(events), sum(event.error_code is not None for event in events)),
                min(event.event_time for event in events).replace(microsecond=0),
                max(event.event_time for event in events).replace(microsecond=0),
            )
            for arn, events in calls.items()
        ]
        return sorted(found, key=lambda one: (-one.last.timestamp(), one.arn))[:limit]

    async def _all(self, query: EventQuery) -> list[Attributes]:
        """Returns the attributes of all events of a query."""
        await asyncio.sleep(0)
        everything = dataclasses.replace(query, before=None)
        return [_attributes(entry.record) for entry in self._entries if _fits(entry, everything)]

    async def count_calls(
        self, start: datetime, end: datetime, snapshot: Snapshot = PRESENT
    ) -> list[CallCounts]:
        """Counts all kinds."""
        await asyncio.sleep(0)
        counts: dict[tuple[Any, ...], Counter[int]] = {}
        for entry in self._between(start, end, snapshot):
            known = _attributes(entry.record)
            if known.category in ("Management", "Data"):
                kind = (
                    *(known.account, known.region, known.category, known.event_source),
                    *(known.event_name, known.error_code, known.read_only),
                )
                minute = int(known.event_time.timestamp()) // 60
                counts.setdefault(kind, Counter())[minute] += 1
        rows: list[list[Any]] = [
            [*kind, sorted(found), [found[minute] for minute in sorted(found)]]
            for kind, found in counts.items()
        ]
        return [CallCounts(*row) for row in rows]

    async def count_principals(
        self, start: datetime, end: datetime, snapshot: Snapshot = PRESENT
    ) -> list[PrincipalCounts]:
        """Counts by principal."""
        await asyncio.sleep(0)
        counts: dict[tuple[Any, ...], Counter[int]] = {}
        for entry in self._between(start, end, snapshot):
            known = _attributes(entry.record)
            if known.category in ("Management", "Data"):
                user_agent = _decoded(entry.record).get("userAgent")
                kind = (
                    *(known.account, known.region, known.event_source, known.event_name),
                    known.principal_arn and without_session(known.principal_arn),
                    family_of(user_agent) if user_agent else None,
                    known.agent,
                    known.error_code,
                )
                minute = int(known.event_time.timestamp()) // 60
                counts.setdefault(kind, Counter())[minute] += 1
        rows: list[list[Any]] = [
            [*kind, sorted(found), [found[minute] for minute in sorted(found)]]
            for kind, found in counts.items()
        ]
        return [PrincipalCounts(*row) for row in rows]

    async def count_values(
        self,
        key: CallKey,
        start: datetime,
        end: datetime,
        snapshot: Snapshot = PRESENT,
        limit: int = 50,
    ) -> ValueCounts:
        """Counts values."""
        await asyncio.sleep(0)
        counts: tuple[Counter[str], ...] = (Counter(), Counter(), Counter())
        between = self._between(start, end, snapshot)
        of_key = [entry for entry in between if _is_of(entry, key)]
        for entry in of_key:
            for counter, value in zip(counts, _attributed(entry), strict=True):
                if value:
                    counter[value] += 1
        return ValueCounts(
            len(of_key),
            *(sorted(c.items(), key=lambda item: (-item[1], item[0]))[:limit] for c in counts),
        )

    async def count_key(
        self,
        key: CallKey,
        start: datetime,
        end: datetime,
        period: int,
        snapshot: Snapshot = PRESENT,
        recorded_since: datetime | None = None,
    ) -> list[tuple[datetime, int]]:
        """Counts by period."""
        await asyncio.sleep(0)
        counts: Counter[int] = Counter()
        for entry in self._between(start, end, snapshot, recorded_since):
            if _is_of(entry, key):
                moment = int(_attributes(entry.record).event_time.timestamp())
                counts[moment - moment % period] += 1
        return [(datetime.fromtimestamp(moment, UTC), counts[moment]) for moment in sorted(counts)]

    def _between(
        self,
        start: datetime,
        end: datetime,
        snapshot: Snapshot,
        recorded_since: datetime | None = None,
    ) -> list[Entry]:
        query = EventQuery(
            0, snapshot, start=start, end=end, recorded_since=recorded_since, categories=None
        )
        fitting = [entry for entry in self._entries if _fits(entry, query)]
        return [e for e in fitting if _attributes(e.record).event_time.replace(microsecond=0) < end]

    async def close(self) -> None:
        """Does nothing."""


def naive_page(entries: Sequence[Entry], query: EventQuery) -> list[FoundEvent]:
    """Returns the page of a query, by the port's docstring, literally."""
    fitting = [_found(entry) for entry in entries if _fits(entry, query)]
    fitting.sort(key=lambda event: (event.event_time, event.position), reverse=True)
    return fitting[: query.limit]


@functools.lru_cache(20_000)
def _decoded(record: bytes) -> Any:
    return json.loads(record)


@functools.lru_cache(20_000)
def _attributes(record: bytes) -> Attributes:
    return attributes_of(_decoded(record))


def _fits(entry: Entry, query: EventQuery) -> bool:
    known = _attributes(entry.record)
    moment = known.event_time.replace(microsecond=0)
    conditions = (
        -query.snapshot.imported <= entry.position <= query.snapshot.recorded,
        query.recorded_since is None or entry.recorded_at >= query.recorded_since,
        query.data_since is None
        or entry.recorded_at >= query.data_since
        or known.category not in DATA_CATEGORIES,
        query.account in (None, known.account),
        query.region in (None, known.region),
        query.categories is None or known.category in query.categories,
        query.attribute is None
        or query.attribute[1] in attribute_values(entry, query.attribute[0]),
        query.start is None or moment >= query.start,
        query.end is None or moment <= query.end,
        query.before is None or (moment, entry.position) < query.before,
        query.expression is None or holds(query.expression, known, _decoded(entry.record)),
    )
    return all(conditions)


def _is_of(entry: Entry, key: CallKey) -> bool:
    known = _attributes(entry.record)
    same = (
        (known.account, known.region, known.category, known.event_source, known.event_name)
    ) == (key.account, key.region, key.category, key.event_source, key.event_name)
    if key.error_code is not None:
        return same and known.error_code == key.error_code
    return same and not (key.category == "Management" and known.read_only)


def _attributed(entry: Entry) -> tuple[str | None, str | None, str]:
    """Returns caller, user agent and error code in the form of Insights events."""
    record, known = _decoded(entry.record), _attributes(entry.record)
    identity = record.get("userIdentity")
    identity = identity if isinstance(identity, dict) else {}
    arn = known.principal_arn
    if arn and ":sts::" in arn and ":assumed-role/" in arn:
        arn = "/".join(arn.split("/")[:2])
    caller = arn or identity.get("invokedBy") or identity.get("principalId")
    return caller, record.get("userAgent"), known.error_code or "null"


def attribute_values(entry: Entry, key: str) -> list[str | None]:
    """Returns the values by which LookupEvents finds an entry."""
    known = _attributes(entry.record)
    values: dict[str, list[str | None]] = {
        "EventId": [known.event_id],
        "EventName": [known.event_name],
        "ReadOnly": ["true" if known.read_only else "false"],
        "Username": [known.username],
        "ResourceType": [resource.type for resource in known.resources],
        "ResourceName": [resource.name for resource in known.resources],
        "EventSource": [known.event_source],
        "AccessKeyId": [known.access_key_id],
    }
    return values[key]


def _found(entry: Entry) -> FoundEvent:
    known = _attributes(entry.record)
    return FoundEvent(
        entry.position,
        known.event_time.replace(microsecond=0),
        known.event_id,
        known.event_name,
        known.event_source,
        known.read_only,
        known.username,
        known.access_key_id,
        known.resources,
        entry.record.decode(),
    )


@functools.cache
def _private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class MemorySigner:
    """A `Signer` with one key for the whole test run (making one takes a while)."""

    def __init__(self, valid_from: datetime = MOMENT) -> None:
        self._valid_from = valid_from
        self.problems: list[str] = []

    async def check(self) -> list[str]:
        """Returns an empty list of problems."""
        return self.problems

    async def keys(self) -> list[SigningKey]:
        """Returns the one key."""
        public = _private_key().public_key()
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
        fingerprint = hashlib.md5(der, usedforsecurity=False).hexdigest()
        until = self._valid_from + timedelta(days=3650)
        return [SigningKey(fingerprint, der, self._valid_from, until)]

    async def current(self, moment: datetime | None = None) -> SigningKey:
        """Returns the one key."""
        return (await self.keys())[0]

    async def sign(self, content: bytes, fingerprint: str) -> bytes:
        """Returns a signature."""
        assert fingerprint == (await self.current()).fingerprint
        return _private_key().sign(content, padding.PKCS1v15(), hashes.SHA256())


def utc(text: str) -> datetime:
    """Returns a moment: `utc("2020-01-01T09:00:00")`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
