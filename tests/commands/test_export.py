"""`opentrail export` against a small server."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from opentrail.cli import main
from opentrail.commands import export_files as parts
from tests.commands.test_export_rows import an_event
from tests.factories import a_record, event_id, record_bytes
from tests.stub_console import StubConsole, stub_console

Capture = pytest.CaptureFixture[str]
EVIL = "名\x00\"',\r\n\u2028\U0001f600=1 \\"


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubConsole]:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENTRAIL_DATA_DIR", str(tmp_path / "data"))
    with stub_console(tmp_path / "data") as stub:
        yield stub


def records() -> list[dict[str, Any]]:
    return [
        a_record(eventID=event_id(1)),
        a_record(eventID=event_id(2), userAgent=EVIL, requestParameters={"userName": EVIL}),
        a_record(eventID=event_id(3), requestParameters={"userName": "x" * 300_000}),
        a_record(eventID=event_id(4), eventName=f"={EVIL}"),
    ]


def stream(console: StubConsole, found: list[dict[str, Any]], *last: Any) -> None:
    end = last or ({"end": True, "events": len(found)},)
    lines = [*(an_event(record) for record in found), *end]
    console.body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def test_parquet_holds_columns_and_exact_records(
    console: StubConsole, tmp_path: Path, capsys: Capture
) -> None:
    stream(console, records())
    folder = tmp_path / "out"
    assert main(["export", "user=John", "--since", "2020-01-01", "--parquet", str(folder)]) == 0
    assert capsys.readouterr().out == f"4 events in 1 file of {folder}\n"
    query = "expression=user%3DJohn&since=2020-01-01&account=123456789012&region=us-east-1"
    assert console.asked[0].path == f"/api/v1/events/stream?{query}"
    found = duckdb.execute(
        f"SELECT event_id, event_name, resource_names, record FROM '{folder}/*.parquet'"  # noqa: S608
    ).fetchall()
    assert [row[-1].encode() for row in found] == [record_bytes(record) for record in records()]
    assert [row[0] for row in found] == [event_id(n) for n in (1, 2, 3, 4)]
    assert found[3][1] == f"={EVIL}"
    assert EVIL in found[1][2]


def test_ndjson_holds_the_exact_records(console: StubConsole, tmp_path: Path) -> None:
    stream(console, records())
    assert main(["export", "--ndjson", str(tmp_path / "out")]) == 0
    raw = (tmp_path / "out" / "events-00001.ndjson").read_bytes()
    assert raw == b"".join(record_bytes(record) + b"\n" for record in records())
    (count,) = duckdb.execute(
        f"SELECT count(*) FROM read_json('{tmp_path}/out/*.ndjson', format='newline_delimited')"  # noqa: S608
    ).fetchall()
    assert count == (4,)


def test_csv_can_be_read_and_its_records_are_exact(console: StubConsole, tmp_path: Path) -> None:
    stream(console, records())
    assert main(["export", "--csv", str(tmp_path / "out")]) == 0
    csv.field_size_limit(10_000_000)
    with (tmp_path / "out" / "events-00001.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [json.loads(row["record"]) for row in rows] == records()
    assert rows[3]["event_name"].startswith("'=")
    read = duckdb.execute(
        f"SELECT event_id, record FROM read_csv('{tmp_path}/out/*.csv')"  # noqa: S608
    ).fetchall()
    assert [(row["event_id"], row["record"]) for row in rows] == read


@pytest.mark.parametrize("kind", ["parquet", "ndjson", "csv"])
def test_nothing_found_is_an_empty_file(
    kind: str, console: StubConsole, tmp_path: Path, capsys: Capture
) -> None:
    stream(console, [])
    assert main(["export", f"--{kind}", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "events": 0,
        "folder": str(tmp_path / "out"),
        "files": [f"events-00001.{kind}"],
    }
    if kind == "csv":
        assert (tmp_path / "out" / "events-00001.csv").read_text().startswith("position,event_time")


@pytest.mark.parametrize(
    "end",
    [
        ({"error": "the server is stopping"},),
        ({"end": True, "events": 7},),
        ({"position": 3},),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "ndjson", "csv"])
def test_an_answer_without_its_end_is_not_good(
    kind: str,
    end: tuple[Any, ...],
    console: StubConsole,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "MOST_ROWS", 3)
    stream(console, records(), *end)
    folder = tmp_path / "out"
    assert main(["export", f"--{kind}", str(folder)]) == 1
    assert [file.name for file in folder.iterdir()] == [f"events-00001.{kind}"]
    said = capsys.readouterr().err
    assert "3 events are in 1 whole files" in said
    assert "--overwrite" in said


def test_a_connection_that_is_cut_is_not_good(
    console: StubConsole, tmp_path: Path, capsys: Capture
) -> None:
    stream(console, records())
    console.raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    console.raw += b"%x\r\n" % len(console.body) + console.body[:-40]
    assert main(["export", "--ndjson", str(tmp_path / "out")]) == 1
    assert list((tmp_path / "out").iterdir()) == []
    assert "0 events are in 0 whole files" in capsys.readouterr().err


def test_a_search_that_makes_no_sense_leaves_an_earlier_export_alone(
    console: StubConsole, tmp_path: Path
) -> None:
    stream(console, records())
    folder = tmp_path / "out"
    command = ["export", "--csv", str(folder), "--overwrite"]
    assert main(command) == 0
    console.answers({"code": "InvalidParameterException", "error": "column 1: …"}, 400)
    assert main(command) == 2
    assert (folder / "_SUCCESS").exists()
    asked = len(console.asked)
    assert main(["export", "--csv", str(folder)]) == 2
    assert len(console.asked) == asked
