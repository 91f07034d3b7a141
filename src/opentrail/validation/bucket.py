"""Buckets, read with the user's credentials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from opentrail.core.errors import UsageError
from opentrail.validation.inventory import Opened, OpenedObject, Root
from opentrail.validation.names import ROOT, split_key

S3 = "s3://"


class Listed(Protocol):
    """An object in a listing."""

    @property
    def key(self) -> str: ...

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...


class Body(OpenedObject, Protocol):
    """An object's bytes and metadata."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """User metadata, names in lower case."""
        ...


class BucketReader(Protocol):
    """Reads buckets."""

    def keys(self, bucket: str, prefix: str) -> Iterator[Listed]:
        """Yields every object under a prefix."""
        ...

    def open(self, bucket: str, key: str) -> Body:
        """Returns an object."""
        ...


class BucketRoot(Root):
    """`AWSLogs/` under a prefix of a bucket."""

    def __init__(self, reader: BucketReader, bucket: str, prefix: str) -> None:
        super().__init__(bucket, prefix)
        self._reader = reader
        self._bucket = bucket

    def covers(self, tail: str) -> bool:
        """Returns whether CloudTrail may have written this key."""
        return tail.startswith(ROOT)

    def address(self, tail: str) -> str:
        """Returns the object's address."""
        return f"{S3}{self._bucket}/{self.prefix}{tail}"

    def open(self, tail: str) -> Opened:
        """Returns the object with the signature in its metadata.

        Raises:
            ObjectMissing, ObjectStoreError: the object does not exist or cannot be read.
        """
        body = self._reader.open(self._bucket, f"{self.prefix}{tail}")
        metadata = body.metadata
        return Opened(body, metadata.get("signature"), metadata.get("signature-algorithm"))


class Buckets:
    """All buckets that one set of credentials reads; buckets can be added during a run."""

    def __init__(self, reader: Callable[[], BucketReader]) -> None:
        self._make = reader
        self._reader: BucketReader | None = None
        self._roots: dict[tuple[str, str], BucketRoot] = {}
        self._listed: set[tuple[str, str]] = set()

    @property
    def is_used(self) -> bool:
        """Whether any bucket is listed."""
        return bool(self._listed)

    def under(self, bucket: str, prefix: str) -> BucketListing:
        """Returns the objects under a prefix of a bucket, as a source to list."""
        self._listed.add((bucket, prefix))
        return BucketListing(self, bucket, prefix)

    def has_listed(self, bucket: str, key: str) -> bool:
        """Returns whether a listing covered a key."""
        return any(b == bucket and key.startswith(prefix) for b, prefix in self._listed)

    def files(self, bucket: str, prefix: str) -> Iterator[tuple[Root, str, int]]:
        """Yields the files of trails under a prefix."""
        for entry in self._opened().keys(bucket, prefix):
            before, tail = split_key(entry.key)
            if tail:
                yield self.root(bucket, before), tail, entry.size

    def root(self, bucket: str, prefix: str) -> BucketRoot:
        """Returns the root for `AWSLogs/` under a prefix of a bucket."""
        if (bucket, prefix) not in self._roots:
            self._roots[bucket, prefix] = BucketRoot(self._opened(), bucket, prefix)
        return self._roots[bucket, prefix]

    def _opened(self) -> BucketReader:
        if self._reader is None:
            self._reader = self._make()
        return self._reader


@dataclass(frozen=True)
class BucketListing:
    """The objects under a prefix of a bucket."""

    buckets: Buckets
    bucket: str
    prefix: str

    def files(self) -> Iterator[tuple[Root, str, int]]:
        """Yields the files of trails."""
        return self.buckets.files(self.bucket, self.prefix)


def bucket_and_prefix(address: str) -> tuple[str, str]:
    """Splits `s3://BUCKET/PREFIX`; a prefix without a trailing slash gets one.

    Raises:
        UsageError: the address names no bucket.
    """
    bucket, _, prefix = address.removeprefix(S3).partition("/")
    if not bucket:
        raise UsageError(f"{address} names no bucket: s3://BUCKET/PREFIX")
    return bucket, f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
