"""The formats that hold records: JSON objects, each with its reader in `LISTS` or `READERS`.

An object can be a whole file, a line of NDJSON or an element of a JSON list: imports/documents.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from opentrail.imports.records import (
    NOT_A_RECORD,
    NOT_AN_OBJECT,
    AcceptedRecord,
    InvalidText,
    Result,
    accept,
    decode,
    looks_like_record,
    not_a_record,
)
from opentrail.imports.splitting import Slice, members_of, split


class Reader(Protocol):
    """One format of an object that holds one record."""

    def matches(self, value: Mapping[str, Any]) -> bool:
        """Returns whether an object has the format."""

    def record(self, raw: bytes, value: Mapping[str, Any]) -> tuple[bytes, Any]:
        """Returns the record's exact bytes and its decoded value.

        Raises:
            InvalidText: the record is not JSON.
        """


@dataclass(frozen=True, slots=True)
class TextReader:
    """A record written as text, such as `{"CloudTrailEvent": "{…}"}`."""

    member: str

    def matches(self, value: Mapping[str, Any]) -> bool:
        return isinstance(value.get(self.member), str)

    def record(self, raw: bytes, value: Mapping[str, Any]) -> tuple[bytes, Any]:
        inner = value[self.member].strip(" \t\r\n").encode()
        return inner, _object(inner, self.member)


@dataclass(frozen=True, slots=True)
class ObjectReader:
    """A record as a member of an object that another member identifies."""

    member: str
    identified_by: str

    def matches(self, value: Mapping[str, Any]) -> bool:
        return isinstance(value.get(self.member), dict) and self.identified_by in value

    def record(self, raw: bytes, value: Mapping[str, Any]) -> tuple[bytes, Any]:
        return bytes(members_of(raw)[self.member]), value[self.member]


@dataclass(frozen=True, slots=True)
class ListReader:
    """A list of records, or of objects that hold one, such as `{"Records": [{…}, {…}]}`.

    A file larger than memory that is such an object with no other member is read in parts.
    """

    member: str

    def elements(self, members: Mapping[str, Slice]) -> Sequence[Slice]:
        """Returns the bytes of each element; the other members are only checked.

        Raises:
            InvalidText: a member is not JSON or the list is not a list.
        """
        for name, value in members.items():
            if name != self.member:
                decode(bytes(value))
        list_text = bytes(members[self.member])
        if not list_text.startswith(b"["):
            raise InvalidText(NOT_A_RECORD, f"{self.member} is not a list")
        return split(list_text)


#: How AWS's own log files begin, and their reader.
LOG_FILE_START = b'{"Records":['
LOG_FILE = ListReader("Records")

#: Objects that list records; the first whose member is there is used.
LISTS = {
    "log file": LOG_FILE,
    "output of LookupEvents": ListReader("Events"),
}
#: Objects that hold one record; the first that matches is used.
READERS: Mapping[str, Reader] = {
    "event of LookupEvents": TextReader("CloudTrailEvent"),
    "EventBridge event": ObjectReader("detail", identified_by="detail-type"),
}


def list_reader(members: Mapping[str, Any]) -> ListReader | None:
    """Returns the reader of an object that lists records, None for every other object."""
    if looks_like_record(members):
        return None
    return next((reader for reader in LISTS.values() if reader.member in members), None)


def read_object(raw: bytes, line: int) -> Iterator[Result]:
    """Yields the records of a JSON text, all with the same line number."""
    reader = LOG_FILE
    try:
        # A log file is not decoded as a whole, which would double the time.
        if not raw.startswith(LOG_FILE_START):
            value = _object(raw)
            own_reader = list_reader(value)
            if own_reader is None:
                yield _record(raw, value, line)
                return
            reader = own_reader
        for element in reader.elements(members_of(raw)):
            yield read_record(bytes(element), line)
    except InvalidText as invalid:
        yield invalid.at(line)


def read_record(raw: bytes, line: int) -> Result:
    """Returns the record that a JSON text is or holds."""
    try:
        return _record(raw, _object(raw), line)
    except InvalidText as invalid:
        return invalid.at(line)


def _record(raw: bytes, value: dict[str, Any], line: int) -> AcceptedRecord:
    if not looks_like_record(value):
        for reader in READERS.values():
            if reader.matches(value):
                raw, value = reader.record(raw, value)
                break
        if not looks_like_record(value):
            raise not_a_record(value)
    return accept(raw, value, line)


def _object(raw: bytes, where: str = "") -> dict[str, Any]:
    value = decode(raw)
    if not isinstance(value, dict):
        raise InvalidText(NOT_AN_OBJECT, where)
    return value
