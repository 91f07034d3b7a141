"""Names and bytes of log files and digest files (cloudtrail-format §5).

Everything here is deterministic, so that a repeated delivery writes the same object.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import msgspec

from opentrail.core.event import DATA, INSIGHT, MANAGEMENT, NETWORK_ACTIVITY, Json

#: Maximum uncompressed bytes of a file (AWS's limit is 50 MB). Small files keep trails that start
#: together close to each other, so that they share most reads of the journal.
MAX_FILE_BYTES = 16 * 1024 * 1024
#: Maximum records of a file.
MAX_FILE_RECORDS = 50_000

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

#: Category → kind of log file: its folder and a part of its name (cloudtrail-format §5.1).
CLOUDTRAIL = "CloudTrail"
LOG_KINDS = {
    MANAGEMENT: CLOUDTRAIL,
    DATA: CLOUDTRAIL,
    NETWORK_ACTIVITY: "CloudTrail-NetworkActivity",
    INSIGHT: "CloudTrail-Insight",
}


_LOG_NAME = re.compile(
    r"\d{12}_CloudTrail(-[A-Za-z]+)?_[a-z0-9-]+_(?P<minute>\d{8}T\d{4}Z)_[A-Za-z0-9]{16}\.json\.gz"
)


@dataclass(frozen=True, slots=True)
class LogFileLocation:
    """The place of a trail's files for one account and Region.

    `organization` is the id of an organization trail's organization, "" for other trails.
    """

    bucket: str
    prefix: str
    account: str
    region: str
    organization: str = ""

    @property
    def root(self) -> str:
        """The folder of all files of the trail: `{prefix/}AWSLogs/{organization or account}/`.

        A prefix that ends with a slash gets another one, as aws-cli's `validate-logs` expects.
        """
        start = f"{self.prefix}/" if self.prefix else ""
        return f"{start}AWSLogs/{self.organization or self.account}/"

    def folder(self, kind: str) -> str:
        """Returns `{prefix/}AWSLogs/{organization/}{account}/{kind}/`."""
        return f"{self.root}{self.account}/{kind}/" if self.organization else f"{self.root}{kind}/"


@dataclass(frozen=True, slots=True, order=True)
class DeliveryPlace:
    """An account and a Region: a trail writes their events into the same files and digest chain.

    `organization` is the id of an organization trail's organization, "" for other trails.
    """

    organization: str
    account: str
    region: str

    @property
    def key(self) -> str:
        """Its form in stored documents: `organization/account/region`, or the Region alone."""
        if not self.organization:
            return self.region
        return f"{self.organization}/{self.account}/{self.region}"

    @classmethod
    def of_key(cls, key: str, account: str) -> Self:
        """Returns the place with a key; the inverse of `key`.

        Args:
            key: its key.
            account: the trail's account, which is missing from keys without organization.
        """
        organization, account, region = key.split("/") if "/" in key else ("", account, key)
        return cls(organization, account, region)

    def location(self, bucket: str, prefix: str) -> LogFileLocation:
        """Returns where its files are in a bucket."""
        return LogFileLocation(bucket, prefix, self.account, self.region, self.organization)


def unique_string(*parts: object) -> str:
    """Returns the 16 letters and digits that end a log file's name, made from `parts`."""
    number = int.from_bytes(hashlib.sha256(repr(parts).encode()).digest(), "big")
    letters = []
    for _ in range(16):
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return "".join(letters)


def log_key(
    place: LogFileLocation, delivered_at: datetime, unique: str, kind: str = CLOUDTRAIL
) -> str:
    """Returns the key of a log file: minute precision, UTC delivery time."""
    moment = delivered_at.astimezone(UTC)
    name = f"{place.account}_{kind}_{place.region}_{moment:%Y%m%dT%H%MZ}_{unique}.json.gz"
    return f"{place.folder(kind)}{place.region}/{moment:%Y/%m/%d}/{name}"


def log_name_start(place: LogFileLocation, moment: datetime, kind: str = CLOUDTRAIL) -> str:
    """Returns the part before the unique string in keys of log files of a minute."""
    return log_key(place, moment, "", kind).removesuffix(".json.gz")


def delivery_minute(key: str) -> datetime | None:
    """Returns the minute in the key of a log file; None for other keys."""
    match = _LOG_NAME.fullmatch(key.rpartition("/")[2])
    return moment_of(match["minute"], "%Y%m%dT%H%MZ") if match else None


def moment_of(text: str, form: str) -> datetime | None:
    """Returns the time in a part of a file's name; None if it has another form."""
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None


def encryption_context(trail_arn: str) -> dict[str, str]:
    """Returns the encryption context of a trail's files (cloudtrail-format §5.1)."""
    return {"aws:cloudtrail:arn": trail_arn}


def log_bytes(records: Iterable[bytes]) -> bytes:
    """Returns the uncompressed log file around the records' own bytes."""
    return b'{"Records":[' + b",".join(records) + b"]}"


def sha256_hex(content: bytes) -> str:
    """Returns the lowercase hex SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()


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
    document: Json = {
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
