"""Configuration and state, as versioned JSON documents; leases, for work of one process only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import msgspec

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """A document as read from the store; changing it requires its `version`."""

    key: str
    version: int
    document: Document


@dataclass(frozen=True, slots=True)
class Put:
    """Writes a document. `expected` is the version read, 0 for a new document, None for any."""

    kind: str
    key: str
    document: Document
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """Removes a document if it exists."""

    kind: str
    key: str


StoreWrite = Put | Remove


class ControlStore(Protocol):
    """Documents by kind and key."""

    async def get(self, kind: str, key: str) -> Stored | None:
        """Return the document, or None."""
        ...

    async def get_each(self, kinds: Sequence[str], key: str) -> dict[str, Stored]:
        """Return the documents with this key that there are, by kind."""
        ...

    async def scan(self, kind: str, prefix: str = "") -> list[Stored]:
        """Return the documents of a kind whose keys start with `prefix`, by key."""
        ...

    async def page(self, kind: str, after: str, count: int) -> list[Stored]:
        """Return the first `count` documents of a kind with keys beyond `after`, by key."""
        ...

    async def revisions(self, kinds: Sequence[str]) -> dict[str, str]:
        """Return a string for each kind, which differs after a change of its documents.

        A document that was removed and created again counts as a change, unless it is the same.
        """
        ...

    async def apply(self, changes: Sequence[StoreWrite]) -> None:
        """Return only once all changes are durable; on an error none is made.

        Raises:
            Conflict: a document has another version than expected.
        """
        ...

    async def remove_below(self, kind: str, key: str) -> None:
        """Remove the documents of a kind whose keys sort before `key`, by code point."""
        ...

    async def close(self) -> None:
        """Return once the store is closed."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of a holder to do something; a later holder's `epoch` is higher."""

    name: str
    #: Unique to a process and its start.
    holder: str
    epoch: int


class Leases(Protocol):
    """Leases that expire; an effect and its fence, the check of the epoch, are one transaction.

    After a pause longer than its lease, a process still believes that it is the holder. So each of
    its transactions checks the epoch first, with a lock that lasts until the commit: it changes
    nothing once another process has acquired the lease, and no other process can acquire it before
    the commit.
    """

    async def acquire(self, name: str, holder: str) -> Lease | None:
        """Return the lease with a new epoch; None if another holder has it.

        Raises:
            StorageFailed: the outcome is unknown; a later attempt may succeed.
        """
        ...

    async def renew(self, lease: Lease) -> bool:
        """Extend a lease; return False if another process has acquired it.

        Raises:
            StorageFailed: the outcome is unknown.
        """
        ...

    async def release(self, lease: Lease) -> None:
        """End a lease, so that another process can acquire it immediately.

        Raises:
            StorageFailed: it may last until it expires.
        """
        ...


class StoredDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A document with its class's members; absent members have their defaults."""

    #: Members of other versions, stored again unchanged.
    others: dict[str, Any] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, document: Document) -> Self:
        """Returns the value that a document describes; the inverse of `document`.

        Raises:
            msgspec.ValidationError: a member is missing or has another type.
        """
        others = {k: v for k, v in document.items() if k not in cls.__struct_fields__}
        return msgspec.convert({**document, "others": others}, cls)

    def document(self) -> Document:
        """Returns the document to store."""
        members: Document = msgspec.to_builtins(self)
        return {**members.pop("others"), **members}
