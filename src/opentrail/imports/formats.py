"""The formats that hold records: JSON objects, each with its reader in `LISTS` or `READERS`.

An object can be a whole file, a line of NDJSON or an element of a JSON list: imports/documents.py.

A row that an SQL query of CloudTrail Lake, Athena or CloudWatch Logs Insights returned is imported
if a column holds a whole record, such as Lake's `eventJson`, or if its columns are the members of
a record. Athena's names are in lower case, and it does not print structures as JSON, so that
columns with structures cannot be read.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from opentrail.core.event import Json
from opentrail.imports.json_records import (
    NOT_A_RECORD,
    NOT_AN_OBJECT,
    AcceptedRecord,
    InvalidText,
    Result,
    Slice,
    accept,
    decode,
    looks_like_record,
    members_of,
    not_a_record,
    placed,
    split,
)
from opentrail.imports.unpacking import is_gzip, unpack_large

#: The members of a record at its top level (the CloudTrail user guide, record contents).
_MEMBERS = {
    name.lower(): name
    for name in (
        *("eventVersion", "userIdentity", "eventTime", "eventSource", "eventName", "awsRegion"),
        *("sourceIPAddress", "userAgent", "errorCode", "errorMessage", "requestParameters"),
        *("responseElements", "additionalEventData", "requestID", "eventID", "readOnly"),
        *("resources", "eventType", "apiVersion", "managementEvent", "recipientAccountId"),
        *("sharedEventID", "annotation", "vpcEndpointId", "vpcEndpointAccountId"),
        *("serviceEventDetails", "addendum", "edgeDeviceDetails", "insightDetails"),
        *("eventCategory", "tlsDetails", "sessionCredentialFromConsole", "eventContext"),
    )
}
_NEEDED = ("eventID", "eventTime", "eventName", "eventSource")
#: Members whose values are objects or lists.
_STRUCTURES = frozenset(
    {
        *("userIdentity", "requestParameters", "responseElements", "additionalEventData"),
        *("resources", "serviceEventDetails", "addendum", "edgeDeviceDetails", "insightDetails"),
        *("tlsDetails", "eventContext"),
    }
)
_FLAGS = frozenset({"readOnly", "managementEvent"})
_SELECT = "select the whole record (eventJson in Lake), or the columns of a record as JSON"
#: A time as SQL prints it: in UTC, without `T` and `Z`.
_SQL_TIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d+)?(?: UTC)?")

#: The columns of a row: name → value or None.
Row = Mapping[str, str | None]


def _lake_rows(document: Mapping[str, Any]) -> list[Row]:
    """Returns the rows of `aws cloudtrail get-query-results`."""
    return [
        {name: value for cell in row for name, value in cell.items()}
        for row in document["QueryResultRows"]
    ]


def _athena_rows(document: Mapping[str, Any]) -> list[Row]:
    """Returns the rows of `aws athena get-query-results`; the first of a query has the names."""
    result = document["ResultSet"]
    names = [column["Name"] for column in result["ResultSetMetadata"]["ColumnInfo"]]
    rows = [[cell.get("VarCharValue") for cell in row["Data"]] for row in result["Rows"]]
    if rows and rows[0] == names:
        del rows[0]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _insights_rows(document: Mapping[str, Any]) -> list[Row]:
    """Returns the rows of `aws logs get-query-results`."""
    return [{cell["field"]: cell.get("value") for cell in row} for row in document["results"]]


#: Results by the member that identifies them.
_RESULTS: Mapping[str, Callable[[Mapping[str, Any]], list[Row]]] = {
    "QueryResultRows": _lake_rows,
    "ResultSet": _athena_rows,
    "results": _insights_rows,
}


def row_records(document: Mapping[str, Any]) -> Sequence[bytes | InvalidText] | None:
    """Returns the record of each row of a query's results, or the reason for its absence.

    None: the document is something else.
    """
    for member, rows_of in _RESULTS.items():
        if member in document:
            try:
                return [_record_of(row) for row in rows_of(document)]
            except (TypeError, KeyError, ValueError, AttributeError):
                return None
    return None


def _record_of(row: Row) -> bytes | InvalidText:
    for name, value in row.items():
        if value is not None and not _is_member(name) and value.lstrip().startswith("{"):
            raw = value.strip().encode()
            try:
                inner = decode(raw)
            except InvalidText:
                continue
            if looks_like_record(inner):
                return raw
    members = {_MEMBERS[name.lower()]: value for name, value in row.items() if _is_member(name)}
    if absent := [name for name in _NEEDED if members.get(name) is None]:
        return InvalidText(NOT_A_RECORD, f"the row has no {', '.join(absent)}: {_SELECT}")
    try:
        return orjson.dumps({n: _member(n, v) for n, v in members.items() if v is not None})
    except InvalidText as invalid:
        return invalid


def _is_member(name: str) -> bool:
    return name.lower() in _MEMBERS


def _member(name: str, value: str) -> Any:
    """Returns the value of a member from its text.

    Raises:
        InvalidText: it is not JSON, or not a value of the member.
    """
    if name in _STRUCTURES:
        try:
            return decode(value.encode())
        except InvalidText as error:
            message = f"{name} is not JSON: {_SELECT}"
            raise InvalidText(NOT_A_RECORD, message) from error
    if name in _FLAGS:
        return {"true": True, "false": False}.get(value, value)
    if name == "eventTime" and (time := _SQL_TIME.fullmatch(value)):
        return f"{time[1]}T{time[2]}Z"
    return value


NOT_BASE64 = "not base64"


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
    """A record written as text, such as `{"CloudTrailEvent": "{…}"}`.

    A member that may also hold other text is read only if that begins with `opening`.
    """

    member: str
    opening: str = ""

    def matches(self, value: Mapping[str, Any]) -> bool:
        text = value.get(self.member)
        return isinstance(text, str) and text.lstrip().startswith(self.opening)

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
        if bytes(members.get("messageType", b"")) == _CONTROL_MESSAGE:
            return ()
        return split(list_text)


#: The type of CloudWatch Logs' messages that test a destination and contain no events.
_CONTROL_MESSAGE = b'"CONTROL_MESSAGE"'
#: The beginning of AWS's own log files, and their reader.
LOG_FILE_START = b'{"Records":['
LOG_FILE = ListReader("Records")

#: Objects that list records; the first whose member is there is used.
LISTS = {
    "log file": LOG_FILE,
    "output of LookupEvents": ListReader("Events"),
    "CloudWatch Logs subscription": ListReader("logEvents"),
    "output of FilterLogEvents": ListReader("events"),
    "Firehose records": ListReader("records"),
}
#: Objects that hold one record; the first that matches is used.
READERS: Mapping[str, Reader] = {
    "event of LookupEvents": TextReader("CloudTrailEvent"),
    "EventBridge event": ObjectReader("detail", identified_by="detail-type"),
    "CloudWatch Logs event": TextReader("message", opening="{"),
}
#: Members of members that hold another document in base64, often with gzip: Lambda's events from
#: CloudWatch Logs, and records of Kinesis and Firehose.
_PACKED = (("awslogs", "data"), ("kinesis", "data"), ("data",), ("Data",))
#: The beginnings of base64 of gzip, and of a JSON object.
_BASE64_GZIP, _BASE64_OBJECT = "H4sI", "eyJ"


def list_reader(members: Mapping[str, Any]) -> ListReader | None:
    """Returns the reader of an object that lists records, None for every other object."""
    if looks_like_record(members):
        return None
    return next((reader for reader in LISTS.values() if reader.member in members), None)


def read_document(raw: bytes, line: int) -> Iterator[Result]:
    """Yields the records of an object, or of a list of objects, all with the same line number."""
    if not raw.startswith(b"["):
        yield from read_object(raw, line)
        return
    try:
        for number, element in enumerate(split(raw), 1):
            for result in read_object(bytes(element), line):
                yield placed(result, f"element {number}")
    except InvalidText as invalid:
        yield invalid.at(line)


def read_object(raw: bytes, line: int) -> Iterator[Result]:
    """Yields the records of a JSON text, all with the same line number."""
    try:
        if raw.startswith(_BASE64_GZIP.encode()):
            raw = _unpacked(raw.decode("ascii", "replace"))
        # A log file is not decoded as a whole, which would double the time.
        value = None if raw.startswith(LOG_FILE_START) else _object(raw)
        if value is not None and _is_record(value):  # nearly always; other generators cost time
            yield accept(raw, value, line)
        else:
            yield from _records(raw, value, line)
    except InvalidText as invalid:
        yield invalid.at(line)


def _records(raw: bytes, value: Json | None, line: int) -> Iterator[Result]:
    """Yields the records in an object; None: it is a log file.

    Raises:
        InvalidText: it is not JSON, or holds no records.
    """
    reader = LOG_FILE
    if value is not None:
        own_reader = list_reader(value)
        if own_reader is None:
            rows = rows_of(value, itertools.repeat(line))
            yield from _of_element(raw, value, line) if rows is None else rows
            return
        reader = own_reader
    for number, element in enumerate(reader.elements(members_of(raw)), 1):
        for result in read_element(bytes(element), line):
            yield placed(result, f"element {number}")


def read_element(raw: bytes, line: int) -> Iterator[Result]:
    """Yields the record that an element of a list is or holds, or the records packed in it."""
    try:
        value = _object(raw)
        if _is_record(value):
            yield accept(raw, value, line)
        else:
            yield from _of_element(raw, value, line)
    except InvalidText as invalid:
        yield invalid.at(line)


def _is_record(value: Mapping[str, Any]) -> bool:
    """Returns whether an object is a record; Lambda's events from Kinesis have an eventName."""
    return looks_like_record(value) and "kinesis" not in value


def rows_of(value: Mapping[str, Any], lines: Iterable[int]) -> Iterator[Result] | None:
    """Returns the record of each row of a query's results; None: the object is something else."""
    rows = None if looks_like_record(value) else row_records(value)
    return None if rows is None else map(_of_row, rows, lines)


def _of_row(row: bytes | InvalidText, line: int) -> Result:
    if isinstance(row, InvalidText):
        return row.at(line)
    try:
        return _record(row, _object(row), line)
    except InvalidText as invalid:
        return invalid.at(line)


def _of_element(raw: bytes, value: Json, line: int) -> Iterator[Result]:
    text = None if _is_record(value) else _packed_text(value)
    if text is None:
        yield _record(raw, value, line)
        return
    inner = _unpacked(text)
    document = _object(inner)
    reader = list_reader(document)
    if reader is None:
        yield _record(inner, document, line)
        return
    for element in reader.elements(members_of(inner)):
        try:
            yield _record(bytes(element), _object(bytes(element)), line)
        except InvalidText as invalid:
            yield invalid.at(line)


def _packed_text(value: Mapping[str, Any]) -> str | None:
    for path in _PACKED:
        inner: Any = value
        for member in path:
            inner = inner.get(member) if isinstance(inner, dict) else None
        if isinstance(inner, str) and inner.startswith((_BASE64_GZIP, _BASE64_OBJECT)):
            return inner
    return None


def _unpacked(text: str) -> bytes:
    """Returns the content of base64, and of gzip in it.

    Raises:
        InvalidText: it is damaged, or too large.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidText(NOT_BASE64, str(error)) from error
    return (unpack_large(content) if is_gzip(content) else content).strip(b" \t\r\n")


def _record(raw: bytes, value: Json, line: int) -> AcceptedRecord:
    if not looks_like_record(value):
        for reader in READERS.values():
            if reader.matches(value):
                raw, value = reader.record(raw, value)
                break
        if not looks_like_record(value):
            raise not_a_record(value)
    return accept(raw, value, line)


def _object(raw: bytes, where: str = "") -> Json:
    value = decode(raw)
    if not isinstance(value, dict):
        raise InvalidText(NOT_AN_OBJECT, where)
    return value
