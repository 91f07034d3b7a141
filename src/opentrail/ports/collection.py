"""Values of one kind in a control store: typed, limited, and changed while others change them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from opentrail.core.errors import Conflict, UsageError
from opentrail.ports.control import ControlStore, Document, Put, Remove, Stored, StoreWrite

T = TypeVar("T")
V = TypeVar("V")

_MAX_ATTEMPTS = 10
#: Kind of the documents of fences.
_FENCE = "fence"


async def retry_on_conflict(attempt: Callable[[], Awaitable[T]], failure: str) -> T:
    """Returns the result of the first attempt without a concurrent change by others.

    Args:
        attempt: reads, and writes on the condition that nothing has changed since.
        failure: the text of the error if every attempt fails.

    Raises:
        Conflict: every attempt met a change.
    """
    for _ in range(_MAX_ATTEMPTS):
        try:
            return await attempt()
        except Conflict:
            continue
    raise Conflict(failure)


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """Converts documents to values and values to documents."""

    read: Callable[[Stored], T]
    write: Callable[[T], Document]

    @staticmethod
    def of(struct: type[T]) -> Codec[T]:
        """Returns the codec of a msgspec struct that has all members."""
        return Codec(lambda stored: msgspec.convert(stored.document, struct), msgspec.to_builtins)


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """A value as read from the store."""

    stored: Stored
    value: T


@dataclass(eq=False)
class Collection(Generic[T]):
    """The values of one kind, by key."""

    control: ControlStore
    kind: str
    codec: Codec[T]
    #: The error message for a missing value is `NOUN 'KEY' MISSING`.
    noun: str = ""
    missing: str = ""
    #: Maximum values that `put` adds, and the error message beyond.
    limit: int | None = None
    full: str = ""

    def __post_init__(self) -> None:
        #: Held while values are counted and one is added.
        self._adding = asyncio.Lock()
        #: Held from reading a value to replacing it, so that only other servers interfere.
        self.turn = asyncio.Lock()

    async def items(self) -> list[Item[T]]:
        """Returns all values in the store, by key."""
        return [self._item(stored) for stored in await self.control.scan(self.kind)]

    async def all(self) -> list[T]:
        """Returns all values, by key."""
        return [item.value for item in await self.items()]

    async def find(self, key: str) -> Item[T] | None:
        """Returns a value in the store; None if there is none."""
        stored = await self.control.get(self.kind, key)
        return self._item(stored) if stored else None

    async def get(self, key: str) -> Item[T]:
        """Returns a value in the store.

        Raises:
            UsageError: there is none.
        """
        if item := await self.find(key):
            return item
        raise UsageError(f"{self.noun} {key!r} {self.missing}")

    async def revision(self) -> str:
        """Returns a string that differs after each change."""
        return (await self.control.revisions([self.kind]))[self.kind]

    async def put(self, key: str, value: T, expected: int | None = None) -> None:
        """Stores a value in place of an `expected` version: 0 for a new value, None for any.

        Raises:
            UsageError: there are as many as `limit` already.
            Conflict: the store has another version.
        """
        put = Put(self.kind, key, self.codec.write(value), expected)
        if self.limit is None:
            await self.apply([put])
            return
        async with self._adding:
            for _ in range(_MAX_ATTEMPTS):
                fence = await self.fence()
                versions = {each.key: each.version for each in await self.control.scan(self.kind)}
                if expected not in (None, versions.get(key, 0)):
                    break
                if key not in versions and len(versions) >= self.limit:
                    raise UsageError(self.full)
                with suppress(Conflict):
                    await self.apply([put, fence])
                    return
        raise Conflict(f"{key} is being changed by others; try again")

    async def fence(self, place: str = "") -> Put:
        """Returns a change that fails if another fence of a place was applied since now.

        It makes a decision hold that needs all values of the place, such as on a unique name or a
        quota: get the fence, read the values, decide, and apply it together with the new value.
        """
        key = f"{self.kind}/{place}"
        stored = await self.control.get(_FENCE, key)
        version = stored.version if stored else 0
        return Put(_FENCE, key, {"uses": version + 1}, expected=version)

    async def change(self, key: str, change: Callable[[T], T], more: Document | None = None) -> T:
        """Replaces a value, and `more` members of its document; returns the new value.

        Raises:
            UsageError: there is none.
            Conflict: others changed it during each attempt.
        """

        async def attempt() -> T:
            item = await self.get(key)
            value = change(item.value)
            await self.apply([self.replacement(item, value, more)])
            return value

        return await self.retry(key, attempt)

    async def retry(self, key: str, attempt: Callable[[], Awaitable[V]]) -> V:
        """Returns the result of the first attempt that meets no change of others to a value.

        Raises:
            Conflict: every attempt met a change.
        """
        failure = f"{self.noun} {key} is being changed by others; try again"
        async with self.turn:
            return await retry_on_conflict(attempt, failure)

    async def delete(self, key: str) -> None:
        """Removes a value.

        Raises:
            UsageError: there is none.
        """
        await self.get(key)
        await self.apply(self.removals([key]))

    # Changes, which `apply` makes together.

    def addition(self, key: str, value: T, more: Document | None = None) -> Put:
        """Returns the change that adds a value, and `more` members that no value has."""
        return Put(self.kind, key, {**self.codec.write(value), **(more or {})}, expected=0)

    def replacement(self, item: Item[T], value: T, more: Document | None = None) -> Put:
        """Returns the change that replaces a value; other members of its document stay."""
        document = {**item.stored.document, **self.codec.write(value), **(more or {})}
        return Put(self.kind, item.stored.key, document, expected=item.stored.version)

    def removals(self, keys: Iterable[str]) -> list[Remove]:
        """Returns the changes that remove values, if they exist."""
        return [Remove(self.kind, key) for key in keys]

    async def apply(self, changes: Sequence[StoreWrite]) -> None:
        """Makes all of these changes atomically.

        Raises:
            Conflict: a value has changed since it was read.
        """
        await self.control.apply(changes)

    def _item(self, stored: Stored) -> Item[T]:
        return Item(stored, self.codec.read(stored))


@dataclass(eq=False)
class KnownCollection(Collection[T], Generic[T, V]):
    """A collection that is also in memory: `known`, as `view` makes it of key and document."""

    view: Callable[[str, Document], V] = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.known: dict[str, V] = {}
        #: Held while `known` and the store are changed together.
        self._changing = asyncio.Lock()

    async def load(self) -> set[str]:
        """Reads others' changes; returns the keys of the changed values."""
        async with self._changing:
            rows, former = await self.control.scan(self.kind), self.known
            self.known = known = {row.key: self.view(row.key, row.document) for row in rows}
        return {key for key in former.keys() | known.keys() if former.get(key) != known.get(key)}

    async def apply(self, changes: Sequence[StoreWrite]) -> None:
        """Makes all of these changes atomically, also in memory.

        Raises:
            Conflict: a value has changed since it was read.
        """
        puts = [change for change in changes if isinstance(change, Put)]
        async with self._changing:
            views = {put.key: self.view(put.key, put.document) for put in puts}
            await super().apply(changes)
            for change in changes:
                self.known.pop(change.key, None)
            self.known.update(views)
