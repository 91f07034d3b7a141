"""Public keys: from a file that `aws cloudtrail list-public-keys` wrote, or asked for."""

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
from opentrail.validation.names import told_time

#: A digest is signed soon after it ends, a key may take as long to be used.
_SLACK = timedelta(hours=2)

#: Gives the keys of a Region, as the API answers, for digests of a time range.
AskKeys = Callable[[str, datetime, datetime], Iterable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key, PKCS#1 DER, and when signatures by it count."""

    fingerprint: str
    der: bytes
    valid_from: datetime
    valid_until: datetime

    def counts_at(self, moment: datetime) -> bool:
        """Returns whether a digest that ended then may be signed with it."""
        return self.valid_from - _SLACK <= moment <= self.valid_until + _SLACK

    def as_json(self) -> dict[str, Any]:
        """Returns the key as `aws cloudtrail list-public-keys` shows it."""
        return {
            "Value": base64.b64encode(self.der).decode(),
            "ValidityStartTime": told_time(self.valid_from),
            "ValidityEndTime": told_time(self.valid_until),
            "Fingerprint": self.fingerprint,
        }


class PublicKeys:
    """The keys that are trusted; those of a Region are asked for when they are needed."""

    def __init__(self, given: Iterable[PublicKey] = (), ask: AskKeys | None = None) -> None:
        self._given = list(given)
        self._ask = ask
        self._asked: dict[str, list[PublicKey]] = {}
        self._ranges: dict[str, tuple[datetime, datetime]] = {}

    def load(self, region: str, start: datetime, end: datetime) -> None:
        """Asks for the keys of a Region, if they are to be asked for and were not yet.

        Raises:
            OpentrailError: who is asked refused or failed.
            UsageError: what came are no keys.
        """
        if self._ask is None:
            return
        first, last = self._ranges.get(region, (start, end))
        if region in self._ranges and first <= start and end <= last:
            return
        self._ranges[region] = first, last = min(first, start), max(last, end)
        answer = self._ask(region, first - _SLACK, last + _SLACK)
        self._asked[region] = [_key(key, "ListPublicKeys") for key in answer]

    def find(self, region: str, fingerprint: str) -> list[PublicKey]:
        """Returns the keys of this fingerprint."""
        known = [*self._given, *self._asked.get(region, ())]
        return [key for key in known if key.fingerprint == fingerprint]

    def as_json(self) -> dict[str, Any]:
        """Returns all keys as `aws cloudtrail list-public-keys` shows them."""
        every = {*self._given, *(key for keys in self._asked.values() for key in keys)}
        shown = sorted(every, key=lambda key: (key.valid_from, key.fingerprint))
        return {"PublicKeyList": [key.as_json() for key in shown]}


def read_keys(file: Path) -> list[PublicKey]:
    """Returns the keys in a file that `aws cloudtrail list-public-keys` wrote.

    Raises:
        UsageError: it cannot be read or holds no keys.
    """
    try:
        document = orjson.loads(file.read_bytes())
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{file} is not JSON") from error
    listed = document.get("PublicKeyList") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not listed:
        raise UsageError(
            f"{file} has no PublicKeyList as aws cloudtrail list-public-keys prints it"
        )
    return [_key(key, str(file)) for key in listed]


def _key(listed: object, origin: str) -> PublicKey:
    if not isinstance(listed, Mapping):
        raise UsageError(f"{origin}: a key is no JSON object")
    value, fingerprint = listed.get("Value"), listed.get("Fingerprint")
    if not isinstance(fingerprint, str):
        raise UsageError(f"{origin}: a key has no Fingerprint")
    try:
        der = value if isinstance(value, bytes) else base64.b64decode(str(value), validate=True)
    except binascii.Error as error:
        raise UsageError(f"{origin}: Value of key {fingerprint} is not base64") from error
    validity = [_moment(listed.get(f"Validity{end}Time"), origin) for end in ("Start", "End")]
    return PublicKey(fingerprint, der, *validity)


def _moment(value: object, origin: str) -> datetime:
    """Returns a time as aws-cli prints it: seconds since 1970, or ISO 8601."""
    try:
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        moment = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{origin}: a key is valid from or until {value!r}, no time") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
