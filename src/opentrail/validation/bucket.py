"""Buckets, read with the user's own access."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from opentrail.core.errors import UsageError
from opentrail.validation.inventory import Opened, OpenedObject, Root
from opentrail.validation.names import ROOT, split_key

S3 = "s3://"


class Listed(Protocol):
    """What a listing tells of an object."""

    @property
    def key(self) -> str:
        """The object's key."""
        ...

    @property
    def size(self) -> int:
        """Its bytes."""
        ...


class Body(OpenedObject, Protocol):
    """An object's bytes and metadata."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """User metadata, names in lower case."""
        ...


class Reader(Protocol):
    """Reads buckets."""

    def keys(self, bucket: str, prefix: str) -> Iterator[Listed]:
        """Yields every object under a prefix."""
        ...

    def open(self, bucket: str, key: str) -> Body:
        """Returns an object."""
        ...


class BucketRoot(Root):
    """`AWSLogs/` behind a prefix of a bucket."""

    def __init__(self, reader: Reader, bucket: str, prefix: str) -> None:
        super().__init__(bucket, prefix)
        self._reader = reader
        self._bucket = bucket

    def covers(self, tail: str) -> bool:
        """Returns whether it names something CloudTrail may have written."""
        return tail.startswith(ROOT)

    def told(self, tail: str) -> str:
        """Returns the object's address."""
        return f"{S3}{self._bucket}/{self.prefix}{tail}"

    def open(self, tail: str) -> Opened:
        """Returns the object and what its metadata say of its signature.

        Raises:
            ObjectMissing, ObjectStoreError: it is not there, or cannot be read.
        """
        body = self._reader.open(self._bucket, f"{self.prefix}{tail}")
        metadata = body.metadata
        return Opened(body, metadata.get("signature"), metadata.get("signature-algorithm"))


class Buckets:
    """All that is read with one access; a bucket that comes up later can be listed, too."""

    def __init__(self, reader: Callable[[], Reader]) -> None:
        self._make = reader
        self._reader: Reader | None = None
        self._roots: dict[tuple[str, str], BucketRoot] = {}
        self._listed: set[tuple[str, str]] = set()

    @property
    def is_used(self) -> bool:
        """Whether any bucket was named."""
        return bool(self._listed)

    def under(self, bucket: str, prefix: str) -> Part:
        """Returns what stands behind a prefix of a bucket, to be listed."""
        self._listed.add((bucket, prefix))
        return Part(self, bucket, prefix)

    def has_listed(self, bucket: str, key: str) -> bool:
        """Returns whether a listing held, or would have held, a key."""
        return any(b == bucket and key.startswith(prefix) for b, prefix in self._listed)

    def files(self, bucket: str, prefix: str) -> Iterator[tuple[Root, str, int]]:
        """Yields each file of a trail under a prefix."""
        for listed in self._opened().keys(bucket, prefix):
            before, tail = split_key(listed.key)
            if tail:
                yield self.root(bucket, before), tail, listed.size

    def root(self, bucket: str, prefix: str) -> BucketRoot:
        """Returns what stands for `AWSLogs/` behind a prefix of a bucket."""
        if (bucket, prefix) not in self._roots:
            self._roots[bucket, prefix] = BucketRoot(self._opened(), bucket, prefix)
        return self._roots[bucket, prefix]

    def _opened(self) -> Reader:
        if self._reader is None:
            self._reader = self._make()
        return self._reader


class Part:
    """What stands behind a prefix of a bucket."""

    def __init__(self, buckets: Buckets, bucket: str, prefix: str) -> None:
        self._buckets = buckets
        self._bucket = bucket
        self._prefix = prefix

    def files(self) -> Iterator[tuple[Root, str, int]]:
        """Yields each file of a trail."""
        return self._buckets.files(self._bucket, self._prefix)


def bucket_and_prefix(address: str) -> tuple[str, str]:
    """Returns what `s3://BUCKET/PREFIX` names; a prefix without a slash at its end gets one.

    Raises:
        UsageError: it names no bucket.
    """
    bucket, _, prefix = address.removeprefix(S3).partition("/")
    if not bucket:
        raise UsageError(f"{address} names no bucket: s3://BUCKET/PREFIX")
    return bucket, f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
