"""Digest chains of a trail, in the control store and in its bucket.

The control store also has the log files that no digest lists yet. Digests of the bucket are checked
with the signing keys.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from opentrail.core.errors import ObjectMissing
from opentrail.core.event import parse_time
from opentrail.core.logfile import (
    DeliveredLog,
    DeliveryPlace,
    LogFileLocation,
    PreviousDigest,
    digest_end,
    digest_key,
    sha256_hex,
    string_to_sign,
)
from opentrail.core.trail import Trail
from opentrail.ports.control import ControlStore, Put, Remove, StoredDocument
from opentrail.ports.objects import ObjectStore, StoredContent
from opentrail.ports.signer import Signer
from opentrail.ports.verifier import Verifier
from opentrail.trails.outbox import file_key
from opentrail.trails.writing import decompress

#: Kinds of documents: the chain of a trail's place; a log file that its next digest lists.
_CHAIN = "chain"
_LOG = "log"


class PendingDigest(msgspec.Struct, frozen=True, kw_only=True):
    """A signed digest to be written: the same bytes after any failure."""

    bucket: str
    key: str
    end: datetime
    content: bytes
    signature: str
    kms_key: str = ""
    #: `started_at` of the span whose last digest it is; None if the chain continues.
    ends: str | None


class DigestChain(StoredDocument, frozen=True, kw_only=True):
    """The digests of a trail's place, each with a reference to the previous one."""

    #: End of the last digest, in whole seconds: the next one begins there.
    end: datetime
    previous: PreviousDigest | None
    pending: PendingDigest | None
    #: `started_at` of the span whose last digest has ended the chain; None while it continues.
    ended: str | None
    #: First digests of this chain and of those before it; None if the first of them is of an
    #: earlier version, which did not store it.
    starts: tuple[PreviousDigest, ...] | None = None
    #: Last digests of the chains before it.
    ends: tuple[PreviousDigest, ...] = ()
    #: Since when digests cannot be written; None if they can.
    failing_since: datetime | None = None

    @classmethod
    def begin(
        cls,
        end: datetime,
        starts: tuple[PreviousDigest, ...] | None = (),
        ends: tuple[PreviousDigest, ...] = (),
    ) -> DigestChain:
        """Returns a chain without digests; its first one begins at `end`."""
        return cls(end=end, previous=None, pending=None, ended=None, starts=starts, ends=ends)

    @property
    def all_ends(self) -> tuple[PreviousDigest, ...]:
        """The last digests of the chains until now: also its own, if it ends here."""
        return (*self.ends, self.previous) if self.previous else self.ends


class UndigestedLog(DeliveredLog, frozen=True):
    """A log file that the next digest of its place lists."""

    #: Time of delivery; None if an earlier version delivered it.
    delivered: datetime | None = None


class StoredChains:
    """The chains and the undigested log files of trails."""

    def __init__(self, control: ControlStore) -> None:
        self._control = control

    async def get(self, trail: Trail, place: DeliveryPlace) -> DigestChain | None:
        """Returns the chain of a place, if any."""
        stored = await self._control.get(_CHAIN, _key(trail, place))
        return DigestChain.of(stored.document) if stored else None

    async def all(self, trail: Trail) -> list[tuple[DeliveryPlace, DigestChain]]:
        """Returns the chains of a trail, with their places."""
        start = f"{trail.uid}/"
        return [
            (
                DeliveryPlace.of_key(stored.key.removeprefix(start), trail.account),
                DigestChain.of(stored.document),
            )
            for stored in await self._control.scan(_CHAIN, start)
        ]

    async def logs(self, trail: Trail, place: DeliveryPlace) -> dict[str, UndigestedLog]:
        """Returns the log files that the next digest of a place lists, by their stored keys."""
        stored = await self._control.scan(_LOG, f"{_key(trail, place)}/")
        return {log.key: msgspec.convert(log.document, UndigestedLog) for log in stored}

    async def forget(self, trail: Trail) -> None:
        """Removes chains and undigested log files, because their bucket was deleted."""
        await self._control.apply(
            [
                Remove(kind, stored.key)
                for kind in (_CHAIN, _LOG)
                for stored in await self._control.scan(kind, f"{trail.uid}/")
            ]
        )


def about_chain(trail: Trail, place: DeliveryPlace) -> dict[str, str]:
    """Returns the fields of a log entry that name a chain."""
    return {"trail": trail.arn, "account": place.account, "region": place.region}


def put_chain(trail: Trail, place: DeliveryPlace, chain: DigestChain) -> Put:
    """Returns the change that stores a chain."""
    return Put(_CHAIN, _key(trail, place), chain.document())


def put_log(trail: Trail, place: DeliveryPlace, number: int, log: UndigestedLog) -> Put:
    """Returns the change that makes the next digest list a log file, the trail's `number`-th."""
    return Put(_LOG, file_key(_key(trail, place), number), msgspec.to_builtins(log))


def remove_logs(keys: Iterable[str]) -> list[Remove]:
    """Returns the changes that keep log files with these stored keys out of later digests."""
    return [Remove(_LOG, key) for key in keys]


def _key(trail: Trail, place: DeliveryPlace) -> str:
    return f"{trail.uid}/{place.key}"


#: Maximum bytes of a digest: more than 100,000 log files.
_MAX_DIGEST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BucketDigest:
    """A digest file in a bucket. `is_ours` is whether one of the server's keys signed it."""

    reference: PreviousDigest
    start: datetime
    end: datetime
    previous: PreviousDigest | None
    logs: tuple[DeliveredLog, ...]
    is_ours: bool


class BucketDigests:
    """Reads digests of trails.

    Args:
        objects: the buckets.
        signer: knows the public keys.
        verifier: verifies signatures.
    """

    def __init__(self, objects: ObjectStore, signer: Signer, verifier: Verifier) -> None:
        self._objects = objects
        self._signer = signer
        self._verifier = verifier

    async def since(
        self, trail: Trail, place: LogFileLocation, after: datetime
    ) -> list[BucketDigest]:
        """Returns the digests of a chain that end after a time, oldest first.

        Files that only have the name of a digest are left out.

        Raises:
            ObjectStoreError: the bucket cannot be read.
        """
        name = (trail.name, trail.home_region)
        folder = digest_key(place, *name, after).rpartition("/")[0]
        root = folder[: -len("/2000/01/01")] + "/"
        keys = await self._objects.keys(place.bucket, root, digest_key(place, *name, after))
        candidates = [
            await self.read(place.bucket, key) for key in keys if digest_end(place, *name, key)
        ]
        digests = [digest for digest in candidates if digest is not None and digest.end > after]
        return sorted(digests, key=lambda digest: (digest.end, digest.reference.key))

    async def read(self, bucket: str, key: str) -> BucketDigest | None:
        """Returns a digest, or None.

        Raises:
            ObjectStoreError: the bucket cannot be read.
        """
        try:
            stored = await self._objects.read(bucket, key)
        except ObjectMissing as error:
            if error.code == "NoSuchBucket":
                raise
            return None
        keys = {key.fingerprint: key.public_der for key in await self._signer.keys()}
        return await asyncio.to_thread(self._parse, bucket, key, stored, keys)

    def _parse(
        self, bucket: str, key: str, stored: StoredContent, keys: Mapping[str, bytes]
    ) -> BucketDigest | None:
        try:
            content = decompress(stored.content, _MAX_DIGEST_BYTES)
            document = json.loads(content)
            if (document["digestS3Bucket"], document["digestS3Object"]) != (bucket, key):
                return None
            previous = _previous(document)
            end_text = str(document["digestEndTime"])
            signature = stored.metadata.get("signature", "")
            return BucketDigest(
                PreviousDigest(bucket, key, sha256_hex(content), signature),
                parse_time(document["digestStartTime"]),
                parse_time(end_text),
                previous,
                tuple(logs_in(document)),
                self._is_signed(
                    keys.get(str(document["digestPublicKeyFingerprint"])),
                    signature,
                    string_to_sign(end_text, bucket, key, content, previous),
                ),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def _is_signed(self, public_der: bytes | None, signature: str, text: bytes) -> bool:
        if public_der is None:
            return False
        return self._verifier.verifies(public_der, bytes.fromhex(signature), text)


def _previous(document: Mapping[str, Any]) -> PreviousDigest | None:
    if document["previousDigestS3Object"] is None:
        return None
    return PreviousDigest(
        str(document["previousDigestS3Bucket"]),
        str(document["previousDigestS3Object"]),
        str(document["previousDigestHashValue"]),
        str(document["previousDigestSignature"]),
    )


def logs_in(document: Mapping[str, Any]) -> list[DeliveredLog]:
    """Returns the log files that a digest lists.

    Raises:
        KeyError, TypeError: the document is not a digest.
    """
    return [
        DeliveredLog(
            str(log["s3Bucket"]),
            str(log["s3Object"]),
            str(log["hashValue"]),
            str(log["oldestEventTime"]),
            str(log["newestEventTime"]),
        )
        for log in document["logFiles"]
    ]


async def continuation(
    newer: Sequence[BucketDigest],
    last: PreviousDigest | None,
    begin: datetime,
    read_digest: Callable[[str, str], Awaitable[BucketDigest | None]],
) -> list[BucketDigest] | None:
    """Returns the signed digests that continue a chain, oldest first; None if they do not.

    They are followed from the newest one back to `last`. The first digest of a later chain counts
    as continuing as well: the server wrote it after a pause of logging.

    Args:
        newer: the digests that end after the chain, oldest first.
        last: the last known digest of the chain, or None.
        begin: the time up to which the chain is known.
        read_digest: returns the digest at a bucket and key, for digests in another bucket.
    """
    ours = [digest for digest in newer if digest.is_ours]
    path: list[BucketDigest] = []
    while ours:
        digest = ours[-1]
        path.append(digest)
        while (previous := digest.previous) is not None and previous != last:
            matching = (d for d in ours if d.reference == previous)
            before = next(matching, None) or await read_digest(previous.bucket, previous.key)
            if before is None or not before.is_ours or before.reference != previous:
                return None
            if not begin < before.end <= digest.start:
                return None
            path.append(digest := before)
        if previous is not None:
            break
        if digest.start < begin:
            return None
        ours = [d for d in ours if d.end <= digest.start]
    return path[::-1] or None
