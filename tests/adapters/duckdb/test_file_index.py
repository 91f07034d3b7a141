"""Indexes of sealed files: no file with the value is left out."""

from __future__ import annotations

from pathlib import Path

import duckdb
import orjson
import pytest

from opentrail.adapters.duckdb import file_index
from opentrail.adapters.duckdb.file_index import FileIndex, write_index
from opentrail.adapters.duckdb.seal import seal
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.attributes import attributes_of
from opentrail.core.errors import StorageFailed
from opentrail.core.event import DATA, INSIGHT, MANAGEMENT
from tests.factories import (
    KEY,
    a_data_record,
    a_new_entry,
    a_record,
    an_insight_record,
    event_id,
    some_records,
)
from tests.fakes import asynchronous


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A sealed file of many kinds of events."""

    @asynchronous
    async def fill() -> None:
        journal = SqliteJournal(tmp_path)
        strange = "user \u00e4\U0001f600 'x' \" %"
        records = [
            *some_records(60),
            a_data_record(eventID=event_id(1_001), eventName="GetObject"),
            an_insight_record(eventID=event_id(1_002)),
            a_record(
                eventID=event_id(1_003), userIdentity={"type": "IAMUser", "userName": strange}
            ),
        ]
        await journal.append([a_new_entry(record) for record in records])
        await journal.close()

    fill()
    return seal(SqliteJournalSource(tmp_path), tmp_path, 1, 63)[0]


def test_every_value_of_every_event_is_in_it(file: Path) -> None:
    index = FileIndex(write_index(file))
    assert (index.first, index.last, index.size) == (1, 63, file.stat().st_size)
    with duckdb.connect(str(file), read_only=True) as database:
        records = [
            orjson.loads(row[0]) for row in database.execute("SELECT record FROM events").fetchall()
        ]
    assert len(records) == 63
    for record in records:
        found = attributes_of(record)
        values = [
            ("EventId", found.event_id),
            ("EventName", found.event_name),
            ("EventSource", found.event_source),
            ("ReadOnly", str(found.read_only).lower()),
            ("Username", found.username),
            ("AccessKeyId", found.access_key_id),
            *(("ResourceType", resource.type) for resource in found.resources),
            *(("ResourceName", resource.name) for resource in found.resources),
        ]
        for attribute, value in values:
            if value is not None:
                assert index.may_contain(attribute, value)
                assert index.may_contain(attribute, value, (found.category,))
                assert index.may_contain(attribute, value, (MANAGEMENT, DATA, INSIGHT))


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("EventId", event_id(99_999)),
        ("EventName", "NoSuchEvent"),
        ("AccessKeyId", KEY[::-1]),
        ("ResourceName", ""),
    ],
)
def test_a_missing_value_is_not_in_it(file: Path, attribute: str, value: str) -> None:
    assert not FileIndex(write_index(file)).may_contain(attribute, value)


def test_value_is_not_in_it_under_another_category(file: Path) -> None:
    index = FileIndex(write_index(file))
    assert index.may_contain("EventName", "GetObject", (DATA,))
    assert not index.may_contain("EventName", "GetObject", (INSIGHT,))


def test_the_same_file_gives_the_same_index(file: Path) -> None:
    first = write_index(file).read_bytes()
    assert write_index(file).read_bytes() == first


def test_an_unknown_format_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_index(file)
    monkeypatch.setattr(file_index, "FORMAT", 99)
    with pytest.raises(StorageFailed, match=rf"{file.name} in S3 is of format \d; this version"):
        FileIndex(path)
