"""Rows of SQL queries; files of them are in test_documents.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.imports.formats import row_records
from opentrail.imports.json_records import InvalidText

ROW = {
    "eventid": "1",
    "eventtime": "2026-11-20 10:00:00.000",
    "eventname": "CreateUser",
    "eventsource": "iam.amazonaws.com",
}


def records_of(*rows: dict[str, Any]) -> list[Any]:
    cells = [[{name: value} for name, value in row.items()] for row in rows]
    results = row_records({"QueryResultRows": cells}) or ()
    return [r if isinstance(r, InvalidText) else json.loads(r) for r in results]


def test_columns_become_members_of_a_record() -> None:
    row = {**ROW, "readonly": "true", "awsregion": None, "resources": '[{"ARN": "x"}]', "n": "5"}
    assert records_of(row) == [
        {
            "eventID": "1",
            "eventTime": "2026-11-20T10:00:00Z",
            "eventName": "CreateUser",
            "eventSource": "iam.amazonaws.com",
            "readOnly": True,
            "resources": [{"ARN": "x"}],
        }
    ]


def test_a_member_like_a_record_is_none() -> None:
    row = {**ROW, "requestparameters": '{"eventName": "x", "eventID": "2"}'}
    (record,) = records_of(row)
    assert record["requestParameters"] == {"eventName": "x", "eventID": "2"}


def test_rejections_name_the_missing_member() -> None:
    absent, unreadable = records_of({"count": "5"}, {**ROW, "useridentity": "{type=IAMUser}"})
    assert "eventID, eventTime, eventName, eventSource" in absent.detail
    assert "userIdentity is not JSON" in unreadable.detail


@pytest.mark.parametrize(
    "document",
    [{}, {"results": 5}, {"results": [5]}, {"QueryResultRows": [["x"]]}, {"ResultSet": {}}],
)
def test_other_documents_are_no_rows(document: dict[str, Any]) -> None:
    assert row_records(document) is None
