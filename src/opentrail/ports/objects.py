"""Buckets and objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object to write; the store keeps `content` unchanged."""

    bucket: str
    key: str
    content: bytes
    content_type: str = "application/json"
    content_encoding: str | None = "gzip"
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: ARN of the KMS key and its encryption context; without a key, the bucket's default applies.
    kms_key: str = ""
    encryption_context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredContent:
    """An object's bytes as stored, and its user metadata by lowercase name."""

    content: bytes
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket's Region, and its policy (JSON), if any."""

    region: str
    policy: str | None


class ObjectStore(Protocol):
    """An S3-like store. Every method raises `ObjectStoreError` (or `ObjectMissing`) on failure."""

    async def check_bucket(self, bucket: str) -> None:
        """Return if the bucket exists and may be read."""
        ...

    async def describe_bucket(self, bucket: str) -> Bucket:
        """Return the bucket's Region and policy."""
        ...

    async def create_bucket(self, bucket: str) -> None:
        """Return once the bucket exists."""
        ...

    async def put(self, new: NewObject) -> None:
        """Return once the object is stored.

        Raises:
            ObjectExists: an object with this key exists; it is not changed.
        """
        ...

    async def get(self, bucket: str, key: str) -> bytes:
        """Return the object's bytes as stored."""
        ...

    async def get_range(self, bucket: str, key: str, first: int, length: int) -> bytes:
        """Return `length` of the object's bytes as stored, from byte `first` (0 or more) on.

        If the object is empty, and `first` is 0, it returns b"".
        """
        ...

    async def read(self, bucket: str, key: str) -> StoredContent:
        """Return the object's bytes as stored, and its metadata."""
        ...

    async def keys(self, bucket: str, prefix: str, after: str = "") -> list[str]:
        """Return every key under `prefix` that is greater than `after`, in order of UTF-8."""
        ...

    async def delete(self, bucket: str, key: str) -> None:
        """Return once there is no object with this key."""
        ...

    async def folders(self, bucket: str, prefix: str) -> list[str]:
        """Return the names between `prefix` and the next slash of all keys under it, in order."""
        ...
