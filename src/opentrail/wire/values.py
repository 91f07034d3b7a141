"""Scalars: text or JSON values as Python values, by shape."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import threading
from collections.abc import Callable, Hashable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.model import Shape

from opentrail.core.event import Json

Decoder = Callable[[Any], Any]


class ByShape:
    """Functions that handle values of a shape, each made once, whichever thread needs it first."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Decoder] = {}
        self._being_made: set[Hashable] = set()
        self._making = threading.RLock()

    def memoize(self, key: Hashable, make: Callable[[], Decoder]) -> Decoder:
        """Returns the function for a key, made by `make` the first time."""
        function = self._made.get(key)
        if function is not None:
            return function
        with self._making:
            if key in self._being_made:  # by this thread, for a shape that contains itself
                return lambda value: (self._made.get(key) or self._awaited(key))(value)
            if key not in self._made:
                self._being_made.add(key)
                try:
                    self._made[key] = make()
                finally:
                    self._being_made.discard(key)
            return self._made[key]

    def _awaited(self, key: Hashable) -> Decoder:
        """Returns the function for a key that another thread is making."""
        with self._making:
            return self._made[key]


def from_text(shape: Shape) -> Decoder:
    """Returns the decoder of a scalar that is text (query, XML, headers, paths)."""
    return _TEXT.get(shape.type_name, _same)


def from_json(shape: Shape) -> Decoder:
    """Returns the decoder of a scalar that is a JSON or CBOR value."""
    return _JSON.get(shape.type_name, _same)


def from_header(member: Shape) -> Decoder:
    """Returns the decoder of a member in a header: lists have commas, JSON is base64."""
    if member.type_name == "list":
        decode = from_header(member.member)
        return lambda text: [decode(part) for part in _parts_of(text)]
    if member.serialization.get("jsonvalue"):
        return _json_text
    return from_text(member)


#: A part of a list in a header: quoted, if it holds a comma or a quotation mark, else bare.
_PART = re.compile(r'\s*(?:"(?P<quoted>(?:\\"|[^"])*)"\s*(?=,|\Z)|(?P<bare>[^,]*))(?:,|\Z)')


def _parts_of(text: str) -> Iterator[str]:
    r"""Yields the parts of a list in a header; within quotation marks, `\"` is one of them.

    >>> list(_parts_of('a, "b,c",  "say \\"d\\"" ,'))
    ['a', 'b,c', 'say "d"', '']
    """
    start = 0
    while match := _PART.match(text, start):
        quoted = match["quoted"]
        yield match["bare"].strip() if quoted is None else quoted.replace('\\"', '"')
        start = match.end()
        if start == len(text) and not match[0].endswith(","):
            return


def _json_text(text: Any) -> Any:
    """Returns the JSON in a header, decoded; boto3 sends strings as JSON as well."""
    try:
        document = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, TypeError, ValueError):
        return text
    if not document.startswith('"'):
        return document
    try:
        value = json.loads(document)
    except ValueError:
        return document
    return value if isinstance(value, str) else document


def _same(value: Any) -> Any:
    return value


def _integer(text: Any) -> Any:
    """Returns a whole number; one beyond 64 bits stays text."""
    try:
        value = int(text)
    except (TypeError, ValueError):
        return text
    return value if -(2**63) <= value < 2**63 else text


def _number(text: Any) -> Any:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return text
    return value if math.isfinite(value) else text


def _boolean(text: Any) -> Any:
    if text in ("true", "True"):
        return True
    return False if text in ("false", "False") else text


def _blob(text: Any) -> Any:
    if isinstance(text, bytes):
        return text
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        return text


class WireTime(datetime):
    """A time with its text, which may be more precise than a `datetime` (nanoseconds)."""

    text: str

    @classmethod
    def of(cls, text: str) -> WireTime:
        """Returns the time in ISO 8601; raises `ValueError` if it is invalid."""
        exact = cls.fromisoformat(text)
        exact.text = text
        return exact


#: Characters of a time that a `datetime` represents exactly: 2025-01-21T17:39:10.379877Z.
_EXACT_LENGTH = 27


def timestamp(value: Any) -> Any:
    """Returns the time in epoch seconds, ISO 8601 or an HTTP date; other values unchanged."""
    if isinstance(value, bool):
        return value
    try:
        if isinstance(value, datetime):
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        return _time_from_text(str(value))
    except (ValueError, OverflowError, OSError):
        return value


def _time_from_text(text: str) -> datetime:
    if text[4:5] == "-" and text.endswith("Z"):
        try:
            return (datetime.fromisoformat if len(text) <= _EXACT_LENGTH else WireTime.of)(text)
        except ValueError:
            pass
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = parsedate_to_datetime(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


_TEXT: dict[str, Decoder] = {
    "integer": _integer,
    "long": _integer,
    "float": _number,
    "double": _number,
    "boolean": _boolean,
    "timestamp": timestamp,
    "blob": _blob,
}
_JSON: dict[str, Decoder] = {"timestamp": timestamp, "blob": _blob}


class JsonDocument:
    """A JSON text's value, and whether an object has a key twice; the last one counts."""

    def __init__(self, raw: bytes) -> None:
        """Parses `raw`.

        Raises:
            ValueError: it is not JSON, or nested too deeply.
        """
        # `json.loads` would make a decoder for each text, at the cost of parsing a short one.
        text = raw.decode(json.detect_encoding(raw), "surrogatepass")
        self.duplicate_keys = False
        try:
            try:
                self.value = _ONCE_EACH.decode(text)
            except _DuplicateKeyError:
                self.duplicate_keys = True
                self.value = _LAST_OF_EACH.decode(text)
        except RecursionError as error:
            raise ValueError("JSON is nested too deeply") from error


class _DuplicateKeyError(Exception):
    """An object has a key twice."""


def _object(pairs: list[tuple[str, Any]]) -> Json:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _DuplicateKeyError
    return members


def _safe_int(text: str) -> int | str:
    """Returns an integer of 64 bits, or the text of a longer one."""
    if len(text) < 19:
        return int(text)
    if len(text) > 20:
        return text
    value = int(text)
    return value if -(2**63) <= value < 2**63 else text


def _safe_float(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


_ONCE_EACH, _LAST_OF_EACH = (
    json.JSONDecoder(
        object_pairs_hook=hook, parse_int=_safe_int, parse_float=_safe_float, parse_constant=str
    )
    for hook in (_object, None)
)
