"""`opentrail export`: rows, part files, and the command against a small server."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from opentrail.adapters.parquet import COLUMNS
from opentrail.cli import main
from opentrail.commands import export as module
from opentrail.commands.export import KINDS, Parts, csv_row, record_line, row_of
from opentrail.core.attributes import attributes_of
from opentrail.core.errors import StorageFailed, UsageError
from opentrail.core.ocsf import ocsf_event
from opentrail.history.event_history import event_document
from opentrail.ports.event_store import FoundEvent
from tests.factories import ACCOUNT, REGION, a_record, event_id, real_records, record_bytes
from tests.stub_console import StubConsole, stub_console


def cells_of(record: dict[str, Any]) -> list[str]:
    (cells,) = csv.reader(io.StringIO(csv_row(an_event(record)), newline=""))
    return cells


def an_event(record: dict[str, Any], text: str | None = None) -> Any:
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
    return {"position": 7, **event_document(event)}


def named(record: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(COLUMNS, row_of(an_event(record)), strict=True))


def test_a_row_has_the_searchable_columns() -> None:
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
        assert len(cells_of(record)) == len(COLUMNS)


def test_cells_are_escaped_but_the_record_is_unchanged() -> None:
    record = a_record(eventName="=1+1", readOnly=True, requestParameters={"userName": "=x\x00"})
    cells = dict(zip(COLUMNS, cells_of(record), strict=True))
    assert cells["event_name"] == "'=1+1"
    assert cells["event_time"] == "2020-01-01T09:00:00Z"
    assert cells["read_only"] == "true"
    assert cells["error_code"] == ""
    assert cells["resource_names"].startswith(r"'=x\x00")
    assert cells["record"] == record_bytes(record).decode()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_record_on_several_lines_becomes_one(end: str) -> None:
    record = a_record(userAgent="a\nb", requestParameters={"n": 12345678901234567890123})
    text = json.dumps(record, indent=1).replace("\n", end)
    line = record_line(an_event(record, text))
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert "\r" not in line
    assert json.loads(line) == record
    plain = record_bytes(a_record()).decode()
    assert record_line(an_event(a_record())) == f"{plain}\n"


SUFFIXES = sorted(KINDS)


def events(count: int, first: int = 1) -> list[Any]:
    return [an_event(a_record(eventID=event_id(n))) for n in range(first, first + count)]


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def ids_in(file: Path) -> list[str]:
    if file.suffix == ".parquet":
        table = duckdb.read_parquet(str(file))
        column = "event_id" if "event_id" in table.columns else "metadata.uid"
        return [row[0] for row in table.select(column).fetchall()]
    with file.open(newline="") as lines:
        if file.suffix == ".csv":
            return [row["event_id"] for row in csv.DictReader(lines)]
        events = [json.loads(line) for line in lines]
        return [
            event["metadata"]["uid"] if "metadata" in event else event["eventID"]
            for event in events
        ]


@pytest.mark.parametrize("kind", SUFFIXES)
def test_events_fill_one_file_after_the_other(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 10)
    folder = tmp_path / "new" / "folder"
    parts = Parts(folder, kind, overwrite=False)
    parts.check()
    parts.begin()
    for first, count in ((1, 7), (8, 20), (28, 3)):
        parts.add(events(count, first))
    parts.finish()
    suffix = KINDS[kind][0]
    assert names(folder) == ["_SUCCESS", *(f"events-0000{n}.{suffix}" for n in (1, 2, 3))]
    found = [ids_in(folder / name) for name in parts.names]
    assert [len(ids) for ids in found] == [10, 10, 10]
    assert [one for ids in found for one in ids] == [event_id(n) for n in range(1, 31)]
    assert parts.whole == 30


def test_large_records_fill_a_file_sooner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 5_000)
    parts = Parts(tmp_path, "ndjson", overwrite=False)
    parts.begin()
    parts.add(events(40))
    parts.finish()
    assert len(parts.names) > 5
    assert all((tmp_path / name).stat().st_size < 10_000 for name in parts.names)


@pytest.mark.parametrize("kind", SUFFIXES)
def test_no_events_make_one_empty_file(kind: str, tmp_path: Path) -> None:
    parts = Parts(tmp_path, kind, overwrite=False)
    parts.begin()
    parts.finish()
    assert names(tmp_path) == ["_SUCCESS", *parts.names]
    assert ids_in(tmp_path / parts.names[0]) == []


@pytest.mark.parametrize("kind", SUFFIXES)
def test_incomplete_files_have_no_name(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 10)
    parts = Parts(tmp_path, kind, overwrite=False)
    parts.begin()
    parts.add(events(15))
    suffix = KINDS[kind][0]
    assert f"events-00002.{suffix}" not in names(tmp_path)
    parts.abandon()
    assert names(tmp_path) == [f"events-00001.{suffix}"]
    assert parts.whole == 10


def test_a_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        Parts(tmp_path, "csv", overwrite=False).check()
    with pytest.raises(UsageError, match="not a folder"):
        Parts(tmp_path / "letter.txt", "csv", overwrite=True).check()
    assert names(tmp_path) == ["letter.txt"]


def test_overwriting_replaces_our_files_and_no_others(tmp_path: Path) -> None:
    ours = ["events-00001.csv", "events-00002.csv", ".events-00003.parquet.tmp", "_SUCCESS"]
    others = ["letter.txt", "events.csv", "events-00001.csv.bak", "my-events-00001.csv"]
    for name in (*ours, *others):
        (tmp_path / name).write_text("old")
    (tmp_path / "events-00009.csv").mkdir()
    parts = Parts(tmp_path, "csv", overwrite=True)
    parts.check()
    parts.begin()
    parts.add(events(1))
    parts.finish()
    remaining = [*others, "events-00009.csv", "events-00001.csv", "_SUCCESS"]
    assert names(tmp_path) == sorted(remaining)
    assert all((tmp_path / name).read_text() == "old" for name in others)
    assert ids_in(tmp_path / "events-00001.csv") == [event_id(1)]


@pytest.mark.parametrize("stop", ["killed", "failed"])
def test_earlier_export_stays_until_the_new_one_is_complete(
    stop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 2)

    def export(first: int, count: int) -> Parts:
        parts = Parts(tmp_path, "ndjson", overwrite=True)
        parts.begin()
        parts.add(events(count, first))
        return parts

    export(1, 5).finish()
    earlier = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert len(earlier) == 4
    stopped = export(10, 3)
    if stop == "failed":
        stopped.abandon()
        assert names(tmp_path) == sorted(earlier)
    assert {name: (tmp_path / name).read_text() for name in earlier} == earlier
    export(20, 3).finish()
    assert names(tmp_path) == ["_SUCCESS", "events-00001.ndjson", "events-00002.ndjson"]
    assert ids_in(tmp_path / "events-00002.ndjson") == [event_id(22)]


def test_an_impossible_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    parts = Parts(tmp_path / "file" / "folder", "csv", overwrite=False)
    with pytest.raises(StorageFailed, match="cannot be written"):
        parts.begin()


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
    query = "expression=user%3DJohn&since=2020-01-01&account=own&region=us-east-1"
    assert console.asked[0].path == f"/api/v1/events/stream?{query}"
    found = duckdb.execute(
        f"SELECT event_id, event_name, resource_names, record FROM '{folder}/*.parquet'"  # noqa: S608
    ).fetchall()
    assert [row[-1].encode() for row in found] == [record_bytes(record) for record in records()]
    assert [row[0] for row in found] == [event_id(n) for n in (1, 2, 3, 4)]
    assert found[3][1] == f"={EVIL}"
    assert EVIL in found[1][2]


def test_missing_ranges_are_named(console: StubConsole, tmp_path: Path, capsys: Capture) -> None:
    stream(console, records(), {"end": True, "events": 4, "missing": ["positions 2 to 3 of it"]})
    assert main(["export", "--ndjson", str(tmp_path / "out")]) == 0
    assert "opentrail: missing: positions 2 to 3 of it\n" in capsys.readouterr().err
    stream(console, records())
    assert main(["export", "--ndjson", str(tmp_path / "out"), "--overwrite"]) == 0
    assert "missing" not in capsys.readouterr().err


def test_ocsf_has_an_event_for_each_record(console: StubConsole, tmp_path: Path) -> None:
    stream(console, [a_record()])
    assert main(["export", "--ocsf", str(tmp_path / "out")]) == 0
    (line,) = (tmp_path / "out" / "events-00001.ocsf").read_text().splitlines()
    assert json.loads(line) == ocsf_event(a_record())


def test_ocsf_is_written_as_parquet(console: StubConsole, tmp_path: Path) -> None:
    stream(console, records())
    assert main(["export", "--ocsf-parquet", str(tmp_path / "out")]) == 0
    names = "SELECT metadata.uid, api.request.data->>'userName', actor.user.name"
    rows = duckdb.execute(f"{names} FROM '{tmp_path}/out/events-*.parquet'").fetchall()
    assert [row[0] for row in rows] == [event_id(n) for n in (1, 2, 3, 4)]
    assert [row[1] for row in rows[1:3]] == [EVIL, "x" * 300_000]
    assert {row[2] for row in rows} == {"John"}


def test_ndjson_holds_the_exact_records(console: StubConsole, tmp_path: Path) -> None:
    stream(console, records())
    assert main(["export", "--ndjson", str(tmp_path / "out")]) == 0
    raw = (tmp_path / "out" / "events-00001.ndjson").read_bytes()
    assert raw == b"".join(record_bytes(record) + b"\n" for record in records())
    (count,) = duckdb.execute(
        f"SELECT count(*) FROM read_json('{tmp_path}/out/*.ndjson', format='newline_delimited')"  # noqa: S608
    ).fetchall()
    assert count == (4,)


def test_csv_is_readable_with_exact_records(console: StubConsole, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("kind", ["parquet", "ndjson", "ocsf", "csv"])
def test_empty_result_makes_an_empty_file(
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
@pytest.mark.parametrize("kind", ["parquet", "ndjson", "ocsf", "csv"])
def test_an_answer_without_its_end_is_an_error(
    kind: str,
    end: tuple[Any, ...],
    console: StubConsole,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 3)
    stream(console, records(), *end)
    folder = tmp_path / "out"
    assert main(["export", f"--{kind}", str(folder)]) == 1
    assert [file.name for file in folder.iterdir()] == [f"events-00001.{kind}"]
    output = capsys.readouterr().err
    assert "3 events are in 1 whole files" in output
    assert "--overwrite" in output


def test_a_cut_connection_is_an_error(
    console: StubConsole, tmp_path: Path, capsys: Capture
) -> None:
    stream(console, records())
    console.raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    console.raw += b"%x\r\n" % len(console.body) + console.body[:-40]
    assert main(["export", "--ndjson", str(tmp_path / "out")]) == 1
    assert list((tmp_path / "out").iterdir()) == []
    assert "0 events are in 0 whole files" in capsys.readouterr().err


def test_a_cut_answer_keeps_an_earlier_export(
    console: StubConsole, tmp_path: Path, capsys: Capture
) -> None:
    stream(console, records())
    command = ["export", "--ndjson", str(tmp_path / "out"), "--overwrite"]
    assert main(command) == 0
    earlier = {file.name: file.read_text() for file in (tmp_path / "out").iterdir()}
    stream(console, records()[:1], {"error": "the server is stopping"})
    assert main(command) == 1
    assert {file.name: file.read_text() for file in (tmp_path / "out").iterdir()} == earlier
    assert "the earlier export in" in capsys.readouterr().err


def test_an_invalid_search_keeps_an_earlier_export(console: StubConsole, tmp_path: Path) -> None:
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
