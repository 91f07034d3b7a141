"""Compares the columns of an entry with its record: the chain covers the record alone."""

from __future__ import annotations

import orjson

from opentrail.core.event import Entry

#: Members of a record that an entry repeats in columns, which the chain does not cover.
_REPEATED = {
    b'"eventID":"': "event_id",
    b'"recipientAccountId":"': "account",
    b'"awsRegion":"': "region",
    b'"eventCategory":"': "category",
}


def agrees(entry: Entry) -> bool:
    """Returns whether the columns of an entry match its record."""
    repeated = (key + getattr(entry, column).encode() + b'"' for key, column in _REPEATED.items())
    if all(member in entry.record for member in repeated):
        return True
    # JSON has other spellings of a value, and not every record has every member.
    return not differing(entry)


def is_record(entry: Entry) -> bool:
    """Returns whether an entry is a JSON object: the only possible check after lost entries."""
    try:
        return isinstance(orjson.loads(entry.record), dict)
    except orjson.JSONDecodeError:
        return False


def differing(entry: Entry) -> dict[str, str]:
    """Returns the columns of an entry that differ from its record, with the record's values."""
    try:
        record = orjson.loads(entry.record)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(record, dict):
        return {}
    values = {column: record.get(key[1:-3].decode()) for key, column in _REPEATED.items()}
    return {
        column: value
        for column, value in values.items()
        if isinstance(value, str) and value != getattr(entry, column)
    }
