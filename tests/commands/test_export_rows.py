"""An event as a row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.adapters.duckdb.parquet import COLUMNS
from opentrail.commands.export_rows import csv_cells, record_line, row_of
from opentrail.core.attributes import attributes_of
from opentrail.history.event_history import shown_event
from opentrail.ports.event_store import FoundEvent
from tests.factories import ACCOUNT, REGION, a_record, real_records, record_bytes


def an_event(record: dict[str, Any], text: str | None = None) -> dict[str, Any]:
    """Returns a line of the stream."""
    found = attributes_of(record)
    event = FoundEvent(
        7,
        found.event_time,
        found.event_id,
        found.event_name,
        found.event_source,
        found.read_only,
        found.username,
        found.access_key_id,
        found.resources,
        text or record_bytes(record).decode(),
    )
    return {"position": 7, **shown_event(event)}


def named(record: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(COLUMNS, row_of(an_event(record)), strict=True))


def test_a_row_has_the_columns_that_events_are_searched_by() -> None:
    record = a_record(errorCode="AccessDenied", readOnly=True)
    row = named(record)
    assert row == {
        "position": 7,
        "event_time": 1_577_869_200,
        "event_id": record["eventID"],
        "event_name": "CreateUser",
        "event_source": "iam.amazonaws.com",
        "read_only": True,
        "username": "John",
        "access_key_id": record["userIdentity"]["accessKeyId"],
        "account": ACCOUNT,
        "region": REGION,
        "category": "Management",
        "source_ip": record["sourceIPAddress"],
        "error_code": "AccessDenied",
        "principal_arn": record["userIdentity"]["arn"],
        "resource_types": row["resource_types"],
        "resource_names": row["resource_names"],
        "record": record_bytes(record).decode(),
    }
    assert "Mary" in row["resource_names"]
    assert len(row["resource_types"]) == len(row["resource_names"])


def test_every_real_record_makes_a_row() -> None:
    for record in real_records():
        row = named(record)
        found = attributes_of(record)
        assert row["resource_names"] == [resource.name for resource in found.resources]
        assert row["resource_types"] == [resource.type for resource in found.resources]
        assert row["username"] == found.username
        assert len(csv_cells(an_event(record))) == len(COLUMNS)


def test_cells_are_harmless_texts_and_the_record_is_as_it_is() -> None:
    record = a_record(eventName="=1+1", readOnly=True, requestParameters={"userName": "=x\x00"})
    cells = dict(zip(COLUMNS, csv_cells(an_event(record)), strict=True))
    assert cells["event_name"] == "'=1+1"
    assert cells["event_time"] == "2020-01-01T09:00:00Z"
    assert cells["read_only"] == "true"
    assert cells["error_code"] == ""
    assert cells["resource_names"].startswith(r"'=x\x00")
    assert cells["record"] == record_bytes(record).decode()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_record_on_several_lines_is_put_on_one_and_says_the_same(end: str) -> None:
    record = a_record(userAgent="a\nb", requestParameters={"n": 12345678901234567890123})
    text = json.dumps(record, indent=1).replace("\n", end)
    line = record_line(an_event(record, text))
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert "\r" not in line
    assert json.loads(line) == record
    plain = record_bytes(a_record()).decode()
    assert record_line({"CloudTrailEvent": plain}) == f"{plain}\n"
