"""Parquet files, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from opentrail.adapters.parquet import COLUMNS, OcsfParquetFile, ParquetFile
from opentrail.core.errors import StorageFailed
from opentrail.core.ocsf import ocsf_event
from tests.core.test_ocsf import problems_of
from tests.factories import a_record, an_insight_record, real_records

EVIL = "名\x00\"',\r\n\u2028\U0001f600=1"


def a_row(position: int, **changes: Any) -> tuple[Any, ...]:
    values = {
        **dict.fromkeys(COLUMNS),
        "position": position,
        "event_time": 1_577_869_200 + position,
        "read_only": position % 2 == 0,
        "resource_types": [],
        "resource_names": [],
        "record": "{}",
        **changes,
    }
    return tuple(values[name] for name in COLUMNS)


def read(path: Path) -> list[tuple[Any, ...]]:
    columns = "* REPLACE (epoch(event_time)::BIGINT AS event_time)"
    return duckdb.execute(f"SELECT {columns} FROM read_parquet('{path}')").fetchall()  # noqa: S608


def test_rows_come_back_unchanged_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "it's.parquet"
    rows = [a_row(position) for position in range(9_999, -3, -1)]
    rows.append(a_row(-3, username=EVIL, record=EVIL, account=""))
    rows.append(a_row(-4, resource_types=[None, EVIL], resource_names=["a", EVIL]))
    rows.append(a_row(-5, record="x" * 300_000))
    file = ParquetFile(path)
    for start in range(0, len(rows), 700):
        file.add(rows[start : start + 700])
    file.finish()
    found = duckdb.execute(
        "SELECT * REPLACE (epoch(event_time)::BIGINT AS event_time)"  # noqa: S608
        f" FROM read_parquet('{tmp_path}/*.parquet')"
    ).fetchall()
    assert found == rows


def test_columns_have_their_types_and_times_are_utc(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    file = ParquetFile(path)
    file.add([a_row(1)])
    file.finish()
    described = duckdb.execute(f"DESCRIBE SELECT * FROM read_parquet('{path}')").fetchall()  # noqa: S608
    kinds = {
        name: kind.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
        for name, kind, *_ in described
    }
    assert kinds == COLUMNS
    codecs = duckdb.execute(
        f"SELECT DISTINCT compression FROM parquet_metadata('{path}')"  # noqa: S608
    ).fetchall()
    assert codecs == [("ZSTD",)]
    assert read(path) == [a_row(1)]


def test_file_without_rows_is_a_file_with_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    ParquetFile(path).finish()
    assert read(path) == []
    described = duckdb.execute(f"SELECT * FROM read_parquet('{path}')").description  # noqa: S608
    assert len(described or ()) == len(COLUMNS)


def test_a_failed_file_is_reported(tmp_path: Path) -> None:
    file = ParquetFile(tmp_path / "no" / "a.parquet")
    file.add([a_row(1)])
    with pytest.raises(StorageFailed, match=r"a\.parquet"):
        file.finish()
    file.close()


def write_ocsf(path: Path, events: list[dict[str, Any]]) -> None:
    file = OcsfParquetFile(path)
    file.add([(json.dumps(event),) for event in events])
    file.finish()


def read_ocsf(path: Path) -> list[dict[str, Any]]:
    """Returns the events of a file as JSON values."""
    time = "strftime(time_dt AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ')"
    rows = duckdb.execute(
        f"SELECT to_json(e) FROM (SELECT * REPLACE ({time} AS time_dt)"  # noqa: S608
        f" FROM read_parquet('{path}')) e"
    ).fetchall()
    events = [without_nulls(json.loads(row[0])) for row in rows]
    for event in events:
        parse(event, "unmapped")
        parse(event["api"].get("request", {}), "data")
        parse(event["api"].get("response", {}), "data")
    return events


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def parse(members: dict[str, Any], name: str) -> None:
    """Replaces a string of JSON by its value."""
    if name in members:
        members[name] = json.loads(members[name])


def test_ocsf_events_are_read_back_valid(tmp_path: Path) -> None:
    records = [
        *real_records(),
        an_insight_record(),
        a_record(userAgent=EVIL, requestParameters={EVIL: [EVIL, None, {"a": 1.5}], "n": 2**63}),
        a_record(sourceIPAddress="::1", vpcEndpointId="vpce-1", apiVersion="2010-05-08"),
        a_record(userIdentity={"type": "FederatedUser", "arn": "a", "identityProvider": "p"}),
        a_record(userIdentity={"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}),
    ]
    events = [ocsf_event(record) for record in records]
    write_ocsf(tmp_path / "it's.parquet", events)
    found = read_ocsf(tmp_path / "*.parquet")
    assert found == events
    assert [problem for event in found for problem in problems_of(event)] == []


def test_ocsf_columns_do_not_depend_on_events(tmp_path: Path) -> None:
    write_ocsf(tmp_path / "1.parquet", [])
    write_ocsf(tmp_path / "2.parquet", [ocsf_event(record) for record in real_records()])
    empty, full = (
        duckdb.execute(f"DESCRIBE FROM read_parquet('{tmp_path}/{n}.parquet')").fetchall()
        for n in (1, 2)
    )
    assert empty == full
    query = (
        "SELECT count(*) FILTER (api.response.error = 'AccessDenied'), count(DISTINCT unmapped),"
        " count(DISTINCT actor.user.uid)"
    )
    ((denied, *distinct),) = duckdb.execute(f"{query} FROM '{tmp_path}/*.parquet'").fetchall()
    codes = [record.get("errorCode") for record in real_records()]
    assert denied == codes.count("AccessDenied")
    assert min(distinct) > 1
