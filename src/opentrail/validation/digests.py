"""Parses digest files and checks their form (cloudtrail-format §5.3)."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from opentrail.validation.bucket_objects import read_time, split_key
from opentrail.validation.content import BadContent, unpack

#: Maximum bytes of a digest: 32 MiB list about 75,000 log files, far more than an hour has.
_MAX_DIGEST_BYTES = 32 * 1024 * 1024
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
    """The reference of a digest to the previous one."""

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
    """A parsed digest file; only its signature proves its content."""

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
    #: Buckets and prefixes of the listed log files.
    log_places: frozenset[tuple[str, str]]
    sha256: str
    #: The compressed file, from which `logs` reads the list again; a tenth of its content's size.
    packed: bytes

    def text_to_sign(self) -> bytes:
        """Returns the signed text, time and signature unchanged (cloudtrail-format §5.3)."""
        place = f"{self.bucket}/{self.key}"
        return "\n".join((self.end_text, place, self.sha256, self.previous_signature)).encode()

    def logs(self) -> Iterator[ListedLog]:
        """Yields the listed log files."""
        for entry in orjson.loads(_unpacked(self.packed))["logFiles"]:
            yield ListedLog(entry["s3Bucket"], entry["s3Object"], entry["hashValue"].lower())


def read_digest(packed: bytes) -> Digest:
    """Parses a digest file.

    Raises:
        BadContent: the file is not a digest file.
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
    """Decodes a signature from hex; None if it is not hex."""
    return bytes.fromhex(text) if _HEX.fullmatch(text) else None


def _unpacked(packed: bytes) -> bytes:
    return unpack(io.BytesIO(packed), _MAX_DIGEST_BYTES)


def _previous(document: Mapping[str, Any]) -> Previous | None:
    """Returns the reference to the previous digest; None in the first of a chain."""
    absent = [name for name in _PREVIOUS if name not in document]
    if absent:
        raise BadContent(f"no {absent[0]}")
    if all(document[name] is None for name in _PREVIOUS):
        return None
    bucket, key, sha256, algorithm, signature = (_text(document, name) for name in _PREVIOUS)
    if algorithm != HASH_ALGORITHM:
        raise BadContent(f"previousDigestHashAlgorithm is not {HASH_ALGORITHM}")
    if not _HEX_SHA256.fullmatch(sha256):
        raise BadContent("previousDigestHashValue is not a SHA-256 in hex")
    return Previous(bucket, key, sha256.lower(), signature)


def _log_places(document: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Returns buckets and prefixes of the listed log files; checks the list."""
    logs = document.get("logFiles")
    if not isinstance(logs, list):
        raise BadContent("logFiles is not a list")
    places = set()
    for entry in logs:
        if not isinstance(entry, dict):
            raise BadContent("an element of logFiles is not an object")
        places.add((_text(entry, "s3Bucket"), split_key(_text(entry, "s3Object"))[0]))
        if entry.get("hashAlgorithm") != HASH_ALGORITHM:
            raise BadContent(f"hashAlgorithm of a log file is not {HASH_ALGORITHM}")
        if not _HEX_SHA256.fullmatch(_text(entry, "hashValue")):
            raise BadContent("hashValue of a log file is not a SHA-256 in hex")
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
