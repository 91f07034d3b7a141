"""What a digest file says, and whether it is by itself what it says (cloudtrail-format §5.3)."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from opentrail.validation.content import BadContent, unpack
from opentrail.validation.names import read_time, split_key

#: A digest of an hour lists what was delivered in it; 32 MiB are some 75,000 log files.
_LARGEST = 32 * 1024 * 1024
SIGNATURE_ALGORITHM = "SHA256withRSA"
HASH_ALGORITHM = "SHA-256"
_HEX_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
_PREVIOUS = (
    "previousDigestS3Bucket",
    "previousDigestS3Object",
    "previousDigestHashValue",
    "previousDigestHashAlgorithm",
    "previousDigestSignature",
)


@dataclass(frozen=True, slots=True)
class Previous:
    """The digest file before, as a digest names it."""

    bucket: str
    key: str
    sha256: str
    signature: str


@dataclass(frozen=True, slots=True)
class ListedLog:
    """A log file as a digest lists it."""

    bucket: str
    key: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest file that could be read; what it says is proven by nothing but its signature."""

    bucket: str
    key: str
    account: str
    start: datetime
    end: datetime
    end_text: str
    fingerprint: str
    algorithm: str
    previous: Previous | None
    previous_signature: str
    #: Buckets and prefixes of the log files that it lists.
    log_places: frozenset[tuple[str, str]]
    sha256: str
    #: As it was read: a tenth of what it unpacks to, and needed again for its list of log files.
    packed: bytes

    def text_to_sign(self) -> bytes:
        """Returns the signed text, time and signature unchanged (cloudtrail-format §5.3)."""
        place = f"{self.bucket}/{self.key}"
        return "\n".join((self.end_text, place, self.sha256, self.previous_signature)).encode()

    def logs(self) -> Iterator[ListedLog]:
        """Yields the log files that it lists."""
        for listed in orjson.loads(_unpacked(self.packed))["logFiles"]:
            yield ListedLog(listed["s3Bucket"], listed["s3Object"], listed["hashValue"].lower())


def read_digest(packed: bytes) -> Digest:
    """Returns what a digest file says.

    Raises:
        BadContent: it is no digest file.
    """
    content = _unpacked(packed)
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise BadContent("not JSON") from None
    if not isinstance(document, dict):
        raise BadContent("not a JSON object")
    start, end = _time(document, "digestStartTime"), _time(document, "digestEndTime")
    if start >= end:
        raise BadContent("digestStartTime is not before digestEndTime")
    return Digest(
        bucket=_text(document, "digestS3Bucket"),
        key=_text(document, "digestS3Object"),
        account=_text(document, "awsAccountId"),
        start=start,
        end=end,
        end_text=_text(document, "digestEndTime"),
        fingerprint=_text(document, "digestPublicKeyFingerprint"),
        algorithm=_text(document, "digestSignatureAlgorithm"),
        previous=_previous(document),
        previous_signature=document["previousDigestSignature"] or "null",
        log_places=_log_places(document),
        sha256=hashlib.sha256(content).hexdigest(),
        packed=packed,
    )


def signature_bytes(text: str) -> bytes | None:
    """Returns a signature that is written in hex, None if it is not."""
    return bytes.fromhex(text) if _HEX.fullmatch(text) else None


def _unpacked(packed: bytes) -> bytes:
    return unpack(io.BytesIO(packed), _LARGEST)


def _previous(document: Mapping[str, Any]) -> Previous | None:
    """Returns the digest before, None in the first of a chain."""
    absent = [name for name in _PREVIOUS if name not in document]
    if absent:
        raise BadContent(f"no {absent[0]}")
    if all(document[name] is None for name in _PREVIOUS):
        return None
    bucket, key, sha256, algorithm, signature = (_text(document, name) for name in _PREVIOUS)
    if algorithm != HASH_ALGORITHM:
        raise BadContent(f"previousDigestHashAlgorithm is not {HASH_ALGORITHM}")
    if not _HEX_SHA256.fullmatch(sha256):
        raise BadContent("previousDigestHashValue is no SHA-256 in hex")
    return Previous(bucket, key, sha256.lower(), signature)


def _log_places(document: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Returns where log files are, and checks the list of them."""
    logs = document.get("logFiles")
    if not isinstance(logs, list):
        raise BadContent("no list logFiles")
    places = set()
    for listed in logs:
        if not isinstance(listed, dict):
            raise BadContent("logFiles holds what is no object")
        places.add((_text(listed, "s3Bucket"), split_key(_text(listed, "s3Object"))[0]))
        if listed.get("hashAlgorithm") != HASH_ALGORITHM:
            raise BadContent(f"hashAlgorithm of a log file is not {HASH_ALGORITHM}")
        if not _HEX_SHA256.fullmatch(_text(listed, "hashValue")):
            raise BadContent("hashValue of a log file is no SHA-256 in hex")
    return frozenset(places)


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise BadContent(f"no {name}")
    return value


def _time(document: Mapping[str, Any], name: str) -> datetime:
    try:
        return read_time(document.get(name))
    except ValueError as error:
        raise BadContent(f"{name}: {error}") from None
