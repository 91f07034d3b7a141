"""The table of event history: rows come back unchanged, and the record is compressed."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import duckdb

from opentrail.adapters.duckdb.schema import (
    Table,
    create_hot,
    create_sealed,
    found_event,
    row_of,
    select_page,
    select_rows,
)
from opentrail.adapters.duckdb.table_set import insert_rows
from opentrail.core.attributes import LOOKUP_KEYS, attributes_of
from opentrail.core.event import Entry, micros
from opentrail.ports.event_store import EventQuery, Snapshot
from tests.factories import MOMENT, a_data_record, a_record, an_entry, event_id
from tests.fakes import naive_page


def some_entries(count: int = 20) -> list[Entry]:
    records = [
        (a_data_record if number % 3 == 0 else a_record)(
            eventID=event_id(number),
            eventTime=f"{MOMENT + timedelta(seconds=number % 7):%Y-%m-%dT%H:%M:%SZ}",
        )
        for number in range(1, count + 1)
    ]
    return [an_entry(position, record) for position, record in enumerate(records, 1)]


def rows(entries: list[Entry]) -> list[tuple[Any, ...]]:
    return [row_of(entry, attributes_of(json.loads(entry.record))) for entry in entries]


def test_inserted_rows_are_selected() -> None:
    entries = some_entries()
    query, table = EventQuery(limit=9, snapshot=Snapshot(18)), Table("events")
    with duckdb.connect(":memory:") as database:
        database.execute(create_hot("events"))
        insert_rows(database, "events", rows(entries[:12]))
        insert_rows(database, "events", rows(entries[12:]))
        found = database.execute(*select_page(Table("events"), query)).fetchall()
        keys = database.execute(*select_page(table, query, table.keys)).fetchall()
        places = [keys[2][2:], keys[5][2:]]
        ((statement, arguments),) = select_rows(table, places)
        some = database.execute(statement, arguments).fetchall()
        few = database.execute(*select_page(table, query, table.keys, [1, 4, 400])).fetchall()
    page = naive_page(entries, query)
    assert [found_event(row) for row in found] == page
    assert [(key[0], key[1]) for key in keys] == [
        (event.event_time.timestamp(), event.position) for event in page
    ]
    assert {row[0] for row in some} == {page[2].position, page[5].position}
    assert {key[1] for key in few} == {2, 5}


def test_every_lookup_attribute_is_searchable() -> None:
    with duckdb.connect(":memory:") as database:
        database.execute(create_hot("events"))
        for key in LOOKUP_KEYS:
            query = EventQuery(limit=1, snapshot=Snapshot(1), attribute=(key, "x' OR 1=1 --"))
            assert database.execute(*select_page(Table("events"), query)).fetchall() == []


def test_a_sealed_table_compresses_records_without_indexed_columns() -> None:
    assert "record_0 VARCHAR USING COMPRESSION ZSTD" in create_sealed()
    assert "ZSTD" not in create_hot("events")
    for column in ("event_id", "resource_names"):
        assert column in create_hot("events")
        assert column not in create_sealed()


def test_columns_match_the_record() -> None:
    (entry,) = some_entries(1)
    with duckdb.connect(":memory:") as database:
        database.execute(create_hot("events"))
        insert_rows(database, "events", rows([entry]))
        cursor = database.execute("SELECT * FROM events")
        row = dict(
            zip([column[0] for column in cursor.description], cursor.fetchall()[0], strict=True)
        )
    record = json.loads(entry.record)
    assert row.pop("record") == entry.record.decode()
    assert row == {
        "position": 1,
        "origin": "recorder",
        "recorded_at": micros(MOMENT),
        "event_time": int(MOMENT.timestamp()) + 1,
        "event_id": event_id(1),
        "event_name": "CreateUser",
        "event_source": "iam.amazonaws.com",
        "read_only": False,
        "category": "Management",
        "account": "123456789012",
        "region": "us-east-1",
        "username": "John",
        "access_key_id": record["userIdentity"]["accessKeyId"],
        "principal_arn": "arn:aws:iam::123456789012:user/John",
        "source_ip": "192.0.2.10",
        "error_code": None,
        "resource_types": ["AWS::IAM::User", "AWS::IAM::User"],
        "resource_names": ["Mary", "arn:aws:iam::123456789012:user/Mary"],
    }
