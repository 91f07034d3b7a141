"""Names and bytes of digest files (cloudtrail-format §5.3).

Everything here is deterministic, so that a delivery which is tried again writes the same object.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from opentrail.core.logfile import LogFileLocation, moment_of, sha256_hex

SIGNATURE_ALGORITHM = "SHA256withRSA"
#: Their folder and a part of their name (cloudtrail-format §5.1).
DIGEST = "CloudTrail-Digest"


def digest_key(place: LogFileLocation, trail: str, home_region: str, end: datetime) -> str:
    """Returns the key of a digest file: second precision, the digest's end time."""
    moment = end.astimezone(UTC)
    name = (
        f"{place.account}_{DIGEST}_{place.region}_{trail}_{home_region}_"
        f"{moment:%Y%m%dT%H%M%SZ}.json.gz"
    )
    return f"{place.folder(DIGEST)}{place.region}/{moment:%Y/%m/%d}/{name}"


def digest_end(place: LogFileLocation, trail: str, home_region: str, key: str) -> datetime | None:
    """Returns the end time in the key of a digest of a trail; None for other keys."""
    start = f"{place.account}_{DIGEST}_{place.region}_{trail}_{home_region}_"
    name = key.rpartition("/")[2]
    if not (name.startswith(start) and name.endswith(".json.gz")):
        return None
    moment = moment_of(name[len(start) :].removesuffix(".json.gz"), "%Y%m%dT%H%M%SZ")
    if moment is None or digest_key(place, trail, home_region, moment) != key:
        return None
    return moment


class DeliveredLog(msgspec.Struct, frozen=True):
    """A log file as a digest lists it; the hash is over the uncompressed bytes."""

    bucket: str
    key: str
    sha256: str
    oldest: str
    newest: str


class PreviousDigest(msgspec.Struct, frozen=True):
    """The reference of a digest to the previous one."""

    bucket: str
    key: str
    sha256: str
    signature: str


def digest_bytes(
    place: LogFileLocation,
    key: str,
    start: str,
    end: str,
    fingerprint: str,
    logs: Sequence[DeliveredLog],
    previous: PreviousDigest | None,
) -> bytes:
    """Returns the uncompressed digest file; times are CloudTrail's form.

    A starting digest has null in the five `previousDigest…` members (cloudtrail-format §5.3).
    """
    ordered = sorted(logs, key=lambda log: (log.newest, log.key), reverse=True)
    document: dict[str, Any] = {
        "awsAccountId": place.account,
        "digestStartTime": start,
        "digestEndTime": end,
        "digestS3Bucket": place.bucket,
        "digestS3Object": key,
        "digestPublicKeyFingerprint": fingerprint,
        "digestSignatureAlgorithm": SIGNATURE_ALGORITHM,
        "newestEventTime": max((log.newest for log in logs), default=None),
        "oldestEventTime": min((log.oldest for log in logs), default=None),
        "previousDigestS3Bucket": previous.bucket if previous else None,
        "previousDigestS3Object": previous.key if previous else None,
        "previousDigestHashValue": previous.sha256 if previous else None,
        "previousDigestHashAlgorithm": "SHA-256" if previous else None,
        "previousDigestSignature": previous.signature if previous else None,
        "logFiles": [
            {
                "s3Bucket": log.bucket,
                "s3Object": log.key,
                "hashValue": log.sha256,
                "hashAlgorithm": "SHA-256",
                "newestEventTime": log.newest,
                "oldestEventTime": log.oldest,
            }
            for log in ordered
        ],
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def string_to_sign(
    end: str, bucket: str, key: str, content: bytes, previous: PreviousDigest | None
) -> bytes:
    """Returns the text that is signed for a digest (cloudtrail-format §5.3)."""
    before = previous.signature if previous else "null"
    return f"{end}\n{bucket}/{key}\n{sha256_hex(content)}\n{before}".encode()
