"""Rows that SQL queries return: CloudTrail Lake, Athena and CloudWatch Logs Insights.

A row is imported if a column holds a whole record, such as Lake's `eventJson`, or if its columns
are the members of one. Athena's names are in lower case, and what it prints of a structure is not
JSON, so that such a column cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from opentrail.imports.records import (
    NOT_A_RECORD,
    InvalidText,
    decode,
    looks_like_record,
)

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

#: The columns of a row: name → value, None where it has none.
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
    """Returns the record of each row of a query's results, or why it has none.

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
        InvalidText: it is not JSON, or not what the member holds.
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
