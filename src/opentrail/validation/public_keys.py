"""Public keys, from a file of `aws cloudtrail list-public-keys` or from the API."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from opentrail.core.errors import UsageError
from opentrail.validation.bucket_objects import format_time

#: Tolerance for a key's validity: a digest is signed some time after it ends.
_SLACK = timedelta(hours=2)

#: Returns the keys of a Region for digests of a time range, in the form of the API.
FetchKeys = Callable[[str, datetime, datetime], Iterable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key (PKCS#1 DER) and its validity."""

    fingerprint: str
    der: bytes
    valid_from: datetime
    valid_until: datetime

    def is_valid_at(self, moment: datetime) -> bool:
        """Returns whether the key may sign a digest that ended at this time."""
        return self.valid_from <= moment + _SLACK and moment - _SLACK <= self.valid_until

    def as_json(self) -> dict[str, Any]:
        """Returns the key in the form of `aws cloudtrail list-public-keys`."""
        return {
            "Value": base64.b64encode(self.der).decode(),
            "ValidityStartTime": format_time(self.valid_from),
            "ValidityEndTime": format_time(self.valid_until),
            "Fingerprint": self.fingerprint,
        }


class PublicKeys:
    """The trusted keys; the keys of a Region are fetched on first use."""

    def __init__(self, keys: Iterable[PublicKey] = (), ask: FetchKeys | None = None) -> None:
        self._given = list(keys)
        self._ask = ask
        self._fetched: dict[str, list[PublicKey]] = {}
        self._ranges: dict[str, tuple[datetime, datetime]] = {}

    def load(self, region: str, start: datetime, end: datetime) -> None:
        """Fetches the keys of a Region unless this time range was fetched before.

        Raises:
            OpentrailError: the API refused or failed.
            UsageError: the answer has no valid keys.
        """
        if self._ask is None:
            return
        first, last = self._ranges.get(region, (start, end))
        if region in self._ranges and first <= start and end <= last:
            return
        self._ranges[region] = first, last = min(first, start), max(last, end)
        answer = self._ask(region, first - _SLACK, last + _SLACK)
        self._fetched[region] = [_key(key, "ListPublicKeys") for key in answer]

    def find(self, region: str, fingerprint: str) -> list[PublicKey]:
        keys = [*self._given, *self._fetched.get(region, ())]
        return [key for key in keys if key.fingerprint == fingerprint]

    def as_json(self) -> dict[str, Any]:
        """Returns all keys in the form of `aws cloudtrail list-public-keys`."""
        every = {*self._given, *(key for keys in self._fetched.values() for key in keys)}
        ordered = sorted(every, key=lambda key: (key.valid_from, key.fingerprint))
        return {"PublicKeyList": [key.as_json() for key in ordered]}


def read_keys(file: Path) -> list[PublicKey]:
    """Reads the output of `aws cloudtrail list-public-keys`.

    Raises:
        UsageError: the file cannot be read or has no keys.
    """
    try:
        document = orjson.loads(file.read_bytes())
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{file} is not JSON") from error
    keys = document.get("PublicKeyList") if isinstance(document, dict) else None
    if not isinstance(keys, list) or not keys:
        raise UsageError(
            f"{file} has no PublicKeyList as aws cloudtrail list-public-keys prints it"
        )
    return [_key(key, str(file)) for key in keys]


def _key(item: object, origin: str) -> PublicKey:
    if not isinstance(item, Mapping):
        raise UsageError(f"{origin}: a key is not a JSON object")
    value, fingerprint = item.get("Value"), item.get("Fingerprint")
    if not isinstance(fingerprint, str):
        raise UsageError(f"{origin}: a key has no Fingerprint")
    try:
        der = value if isinstance(value, bytes) else base64.b64decode(str(value), validate=True)
    except binascii.Error as error:
        raise UsageError(f"{origin}: Value of key {fingerprint} is not base64") from error
    validity = [_moment(item.get(f"Validity{end}Time"), origin) for end in ("Start", "End")]
    return PublicKey(fingerprint, der, *validity)


def _moment(value: object, origin: str) -> datetime:
    """Parses a time of aws-cli: seconds since 1970, or ISO 8601."""
    try:
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        moment = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{origin}: a key is valid from or until {value!r}, not a time") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
