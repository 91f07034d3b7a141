"""`opentrail import`: batches, repeated requests, totals; and a real S3 endpoint."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from opentrail.cli import main
from opentrail.commands import import_files, import_sources
from opentrail.commands.client import Console
from opentrail.commands.import_files import Sender, Totals, batches
from opentrail.commands.import_sources import NotSent, find_files
from opentrail.core.errors import OpentrailError, TryLater, UsageError
from opentrail.imports.batch import BatchFile
from opentrail.imports.json_records import DIGEST_FILE
from tests.collection import IS_WHOLE, collected_files, unpacked
from tests.commands.stub_server import BUSY, ImportServer, import_server
from tests.factories import a_record, event_id, record_bytes, some_records
from tests.live.processes import moto_server
from tests.stub_console import TOKEN

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImportServer]:
    monkeypatch.setenv("OPENTRAIL_DATA_DIR", str(tmp_path / "data"))
    with import_server(tmp_path / "data") as server:
        yield server


def a_log_file(count: int, first: int = 1) -> bytes:
    raw = [record_bytes(record) for record in some_records(count, first)]
    return gzip.compress(b'{"Records":[' + b",".join(raw) + b"]}", mtime=0)


def imported(*arguments: object, capsys: Capture, code: int = 0) -> dict[str, Any]:
    """Runs the command and returns its JSON output."""
    assert main(["import", *map(str, arguments), "--json"]) == code, capsys.readouterr().err
    totals: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert totals["lines"] == totals["imported"] + totals["doubled"] + totals["rejected"]
    assert totals["rejected"] == sum(totals["reasons"].values())
    return totals


def test_a_folder_is_imported_and_counted(
    server: ImportServer, tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.json.gz").write_bytes(a_log_file(10, number * 5))
    assert main(["import", str(folder)]) == 0
    captured = capsys.readouterr()
    assert captured.out == "5 files\n50 lines = 30 imported + 20 doubled + 0 rejected\n"
    assert captured.err == ""
    assert sorted(server.event_ids) == sorted(event_id(number) for number in range(30))


def test_a_second_run_finds_everything_known(
    server: ImportServer, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "a"
    file.write_bytes(a_log_file(10))
    first = imported(file, capsys=capsys)
    second = imported(file, capsys=capsys)
    assert second == {**first, "known": 1, "imported": 0, "doubled": 10}
    assert len(server.event_ids) == 10


def test_a_later_run_imports_late_and_unsorted_files(
    server: ImportServer, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "b").write_bytes(a_log_file(5, 10))
    imported(tmp_path / "logs", capsys=capsys)
    (tmp_path / "logs" / "a").write_bytes(a_log_file(5, 1))
    totals = imported(tmp_path / "logs", capsys=capsys)
    assert (totals["files"], totals["known"], totals["imported"]) == (2, 1, 5)
    assert len(server.event_ids) == 10


def test_every_rejected_line_is_printed(
    server: ImportServer, tmp_path: Path, capsys: Capture
) -> None:
    good = record_bytes(a_record())
    (tmp_path / "a.ndjson").write_bytes(good + b"\n{\x1b[2J\n" + good[:50] + b"\n")
    (tmp_path / "b.csv").write_bytes(b"x,y\n")
    (tmp_path / "link").symlink_to("b.csv")
    (tmp_path / "data" / "server.json").rename(tmp_path / "server.json")
    (tmp_path / "data").rmdir()
    losses = tmp_path.parent / f"{tmp_path.name}-losses"
    arguments = ["import", str(tmp_path), "--rejected", str(losses), "--data-dir", str(tmp_path)]
    assert main(arguments) == 1
    out = capsys.readouterr().out
    assert "5 lines = 1 imported + 0 doubled + 4 rejected" in out
    assert "\x1b" not in out
    assert f"{tmp_path}/a.ndjson:2: not JSON (" in out
    assert "symbolic link in a folder" in out
    written = [json.loads(line) for line in losses.read_text().splitlines()]
    assert [(Path(loss["name"]).name, loss["line"]) for loss in written] == [
        ("a.ndjson", 2),
        ("a.ndjson", 3),
        ("b.csv", 1),
        ("server.json", 1),
    ]


def test_digest_files_are_no_failure(server: ImportServer, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "digest").write_text('{"digestStartTime":"2020-01-01T00:00:00Z"}')
    totals = imported(tmp_path / "digest", capsys=capsys)
    assert totals["reasons"] == {"digest file": 1}


def test_file_that_vanishes_during_import_is_a_loss(
    server: ImportServer, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(a_log_file(1))
    (tmp_path / "b").write_bytes(a_log_file(1, 2))
    found = list(find_files([str(tmp_path / "a"), str(tmp_path / "b")]))
    monkeypatch.setattr(import_files, "find_files", lambda _: iter(found))
    (tmp_path / "a").unlink()
    totals = imported(tmp_path / "b", capsys=capsys, code=1)
    assert totals["reasons"] == {"cannot be read": 1}
    assert totals["imported"] == 1


def test_standard_input_is_read(
    server: ImportServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = b"\n".join(record_bytes(record) for record in some_records(3))
    stdin = io.TextIOWrapper(io.BytesIO(lines))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert imported("-", capsys=capsys)["imported"] == 3
    assert server.batches[0][0].name == "standard input"


def test_large_file_in_pieces_keeps_its_line_numbers(
    server: ImportServer, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_sources, "PIECE", 4000)
    monkeypatch.setattr(import_files, "_MAX_BATCH_BYTES", 9000)
    raw = [record_bytes(record) for record in some_records(50)]
    raw[36] = b"no"
    (tmp_path / "a").write_bytes(b"\n".join(raw))
    totals = imported(tmp_path / "a", capsys=capsys, code=1)
    assert (totals["files"], totals["lines"], totals["imported"]) == (1, 50, 49)
    assert totals["first_rejected"][0]["line"] == 37
    assert len(server.batches) > 3


@pytest.mark.slow
def test_a_busy_server_only_slows_the_import(
    server: ImportServer, tmp_path: Path, capsys: Capture
) -> None:
    server.failures = [BUSY]
    (tmp_path / "a").write_bytes(a_log_file(3))
    assert imported(tmp_path / "a", capsys=capsys)["imported"] == 3


def test_a_second_run_continues_after_a_failure(
    server: ImportServer, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_files, "_MAX_BATCH_BYTES", 1)
    (tmp_path / "logs").mkdir()
    for number in range(9):
        (tmp_path / "logs" / str(number)).write_bytes(a_log_file(1, number))
    server.good_for = 4
    assert main(["import", str(tmp_path / "logs")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "the server has enough; so far 4 lines = 4 imported" in captured.err
    assert "Run the same command again" in captured.err
    server.good_for = None
    totals = imported(tmp_path / "logs", capsys=capsys)
    assert (totals["files"], totals["known"], totals["imported"]) == (9, 4, 5)
    assert len(server.event_ids) == 9


def test_an_interrupt_shows_the_progress_of_the_import(
    server: ImportServer, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settle(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "a").write_bytes(a_log_file(3))
    monkeypatch.setattr(import_files, "_await_answer", settle)
    assert main(["import", str(tmp_path / "a")]) == 130
    assert "opentrail: interrupted; so far 0 lines" in capsys.readouterr().err


def test_a_missing_path_is_wrong_use(server: ImportServer, capsys: Capture) -> None:
    assert main(["import", "gone"]) == 2
    assert "gone" in capsys.readouterr().err
    assert server.batches == []


def test_an_unwritable_file_for_losses_is_wrong_use(
    server: ImportServer, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["import", str(tmp_path), "--rejected", str(tmp_path / "no" / "f")]) == 2
    assert "--rejected" in capsys.readouterr().err
    assert server.batches == []


def test_without_a_server_nothing_is_read(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a").write_text("{}")
    assert main(["import", str(tmp_path / "a"), "--data-dir", str(tmp_path / "gone")]) == 2
    assert "no server runs" in capsys.readouterr().err


@pytest.mark.slow
def test_the_real_records_are_imported_completely(server: ImportServer, capsys: Capture) -> None:
    files = collected_files()
    lines = sum(unpacked(file).count(b"\n") for file in files)
    totals = imported(*files, capsys=capsys, code=1)
    assert totals["lines"] == lines
    reasons = {"no eventTime": 52, "no eventID": 14, "eventTime is not a time": 2}
    assert totals["reasons"] == (reasons if IS_WHOLE else {"no eventID": 2})
    assert totals["doubled"] == (3_467 if IS_WHOLE else 0)


# Buckets


@pytest.mark.campaign
@pytest.mark.live
def test_a_prefix_is_imported_through_several_pages(
    server: ImportServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with moto_server() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="logs")
        s3.put_object(Bucket="logs", Key="AWSLogs/1/", Body=b"")
        s3.put_object(Bucket="logs", Key="AWSLogs/2/other", Body=a_log_file(1, 5000))
        for number in range(1, 1051):
            s3.put_object(Bucket="logs", Key=f"AWSLogs/1/{number:05}", Body=a_log_file(1, number))
        first = imported("s3://logs/AWSLogs/1/", capsys=capsys)
        assert (first["files"], first["imported"], first["known"]) == (1050, 1050, 0)
        assert first["skipped"] == {"empty folder key": 1}
        s3.put_object(Bucket="logs", Key="AWSLogs/1/00000-late", Body=a_log_file(1, 2000))
        s3.put_object(Bucket="logs", Key="AWSLogs/1/00500-late", Body=a_log_file(2, 1050))
        second = imported("s3://logs/AWSLogs/1/", capsys=capsys)
        assert (second["files"], second["known"]) == (1052, 1050)
        assert len(server.event_ids) == 1052
        with pytest.raises(OpentrailError, match="NoSuchBucket"):
            import_files.run(argparse.Namespace(
                paths=["s3://gone"], rejected=None, json=True, data_dir=None, endpoint=None
            ))  # fmt: skip


FILE = BatchFile("a.json", b"\n".join(record_bytes(record) for record in some_records(3)))


def sender(server: ImportServer, waited: list[str] | None = None) -> Sender:
    console = Console(server.stub.url, TOKEN)
    note = waited.append if waited is not None else lambda _: None
    return Sender(lambda: console, note, first_pause=0.001)


# Batches


def sizes(pieces: list[BatchFile | NotSent]) -> list[int]:
    return [len(batch) for batch in batches(pieces, lambda _: None)]


def test_a_batch_is_filled_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_files, "_MAX_BATCH_BYTES", 100)
    plain = BatchFile("a", b"x" * 40)
    packed = BatchFile("b", b"\x1f\x8b345")
    assert sizes([plain] * 5) == [2, 2, 1]
    assert sizes([packed] * 3) == [1, 1, 1]
    assert sizes([plain, BatchFile("c", b"x" * 500), plain]) == [1, 1, 1]
    assert sizes([]) == []


def test_a_batch_has_no_more_files_than_allowed() -> None:
    assert sizes([BatchFile("a", b"")] * 10_001) == [10_000, 1]


def test_unsent_part_is_noted_and_the_rest_sent() -> None:
    noted: list[NotSent] = []
    lost = NotSent("b", "cannot be read")
    (batch,) = batches([FILE, lost, FILE], noted.append)
    assert batch == [FILE, FILE]
    assert noted == [lost]


# Requests


def test_a_batch_arrives_and_returns_its_result(server: ImportServer) -> None:
    (answer,) = sender(server).send([FILE])
    assert answer == {"name": "a.json", "state": "imported", "lines": 3, "imported": 3,
                      "doubled": 0, "rejected": []}  # fmt: skip
    assert server.batches == [[FILE]]
    assert server.stub.asked[0].authorization == f"Bearer {TOKEN}"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_called_again(server: ImportServer, status: int) -> None:
    waited: list[str] = []
    server.failures = [(status, BUSY[1])] * 3
    (answer,) = sender(server, waited).send([FILE])
    assert answer["imported"] == 3
    assert waited == ["the disk does not keep up"] * 3 + [""]
    assert len({asked.body for asked in server.stub.asked}) == 1


@pytest.mark.slow
def test_a_permanently_busy_server_ends_the_import(server: ImportServer) -> None:
    server.failures = [BUSY] * 100
    with pytest.raises(TryLater, match="the disk does not keep up"):
        sender(server).send([FILE])
    assert 5 <= len(server.stub.asked) <= 10


def test_a_moved_server_is_found(server: ImportServer) -> None:
    places: list[Any] = [
        Console("http://127.0.0.1:1", "old"),
        UsageError("no server runs on data directory x"),
        Console(server.stub.url, TOKEN),
    ]

    def find() -> Console:
        place = places.pop(0)
        if isinstance(place, UsageError):
            raise place
        assert isinstance(place, Console)
        return place

    (answer,) = Sender(find, first_pause=0.001).send([FILE])
    assert answer["imported"] == 3


def test_request_with_a_lost_answer_may_be_repeated(server: ImportServer) -> None:
    sender(server).send([FILE])
    (again,) = sender(server).send([FILE])
    assert (again["state"], again["imported"]) == ("known", 3)
    assert len(server.event_ids) == 3


def test_a_refusal_is_not_retried(server: ImportServer) -> None:
    server.failures = [(400, {"code": "InvalidParameterException", "error": "file 1: size"})]
    with pytest.raises(OpentrailError, match="file 1: size"):
        sender(server).send([FILE])
    assert len(server.stub.asked) == 1


def test_end_is_not_put_off_by_a_pause(server: ImportServer) -> None:
    server.failures = [BUSY] * 100
    slow = Sender(lambda: Console(server.stub.url, TOKEN), first_pause=60)
    raised = []

    def send() -> None:
        with pytest.raises(TryLater) as error:
            slow.send([FILE])
        raised.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    slow.end()
    thread.join(10)
    assert raised


GOOD = {"name": "a.json", "state": "imported", "lines": 3, "imported": 3, "doubled": 0,
        "rejected": []}  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ({}, "does not match"),
        ({"files": []}, "does not match"),
        ({"files": [GOOD, GOOD]}, "does not match"),
        ({"files": [GOOD | {"name": "b"}]}, "does not match"),
        ({"files": [GOOD | {"lines": 4}]}, "every line of a.json"),
        ({"files": [GOOD | {"doubled": 1}]}, "every line of a.json"),
        ({"files": [{"name": "a.json"}]}, "understood"),
        ({"files": [GOOD | {"lines": None}]}, "understood"),
        ({"files": [None]}, "understood"),
        ({"files": [GOOD | {"lines": 4, "rejected": [{}]}]}, "understood"),
    ],
)
def test_an_answer_must_account_for_every_line(
    server: ImportServer, answer: Any, named: str
) -> None:
    server.failures = [(200, answer)]
    with pytest.raises(OpentrailError, match=named):
        sender(server).send([FILE])


def an_answer(imported: int = 0, doubled: int = 0, *rejected: str, state: str = "imported") -> Any:
    lost = [{"line": n, "reason": reason, "detail": ""} for n, reason in enumerate(rejected, 1)]
    lines = imported + doubled + len(lost)
    return {"state": state, "lines": lines, "imported": imported, "doubled": doubled,
            "rejected": lost}  # fmt: skip


def test_counts_are_added_up_and_printed() -> None:
    totals = Totals()
    totals.count_sent(BatchFile("a", b""), an_answer(1200, 3, "not JSON", "no eventID", "not JSON"))
    totals.count_sent(BatchFile("b", b""), an_answer(5, state="known"))
    totals.count_not_sent(NotSent("c", "symbolic link in a folder", is_lost=False))
    totals.count_not_sent(NotSent("d", "cannot be read", "Permission denied"))
    assert totals.as_text().splitlines() == [
        "3 files, 1 of them imported before",
        "1,212 lines = 1,200 imported + 8 doubled + 4 rejected",
        "        2 not JSON",
        "        1 no eventID",
        "        1 cannot be read",
        "skipped",
        "        1 symbolic link in a folder",
        "a:1: not JSON",
        "a:2: no eventID",
        "a:3: not JSON",
        "d:1: cannot be read (Permission denied)",
    ]
    assert not totals.is_complete


def test_the_pieces_of_a_file_are_one_file() -> None:
    totals = Totals()
    totals.count_sent(BatchFile("a", b"", 1), an_answer(1))
    totals.count_sent(BatchFile("a", b"", 2), an_answer(1))
    totals.count_not_sent(NotSent("a", "cannot be read", line=3))
    assert totals.as_json()["files"] == 1
    assert totals.as_text().splitlines()[0] == "1 file"


def test_an_empty_file_is_named() -> None:
    totals = Totals()
    totals.count_sent(BatchFile("a.gz", b"", 1), an_answer())
    totals.count_sent(BatchFile("b", b"", 1), an_answer(1))
    totals.count_sent(BatchFile("b", b"", 9), an_answer())  # blank lines at its end
    assert totals.as_text().splitlines()[2:] == ["skipped", "        1 file without records"]
    assert totals.is_complete


def test_an_import_with_digest_files_only_is_complete() -> None:
    totals = Totals()
    assert totals.is_complete
    totals.count_sent(BatchFile("a", b""), an_answer(1, 0, DIGEST_FILE))
    assert totals.is_complete
    totals.count_sent(BatchFile("a", b""), an_answer(1, 0, "not JSON"))
    assert not totals.is_complete


def test_first_rejected_lines_are_printed_and_all_written() -> None:
    file = io.StringIO()
    totals = Totals(file)
    totals.count_sent(BatchFile("é", b""), an_answer(0, 0, *["not JSON"] * 25))
    answer = totals.as_text().splitlines()
    assert answer[3:5] == ["é:1: not JSON", "é:2: not JSON"]
    assert answer[-2:] == ["é:3: not JSON", "... and 22 more; --rejected FILE writes all of them"]
    written = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [loss["line"] for loss in written] == list(range(1, 26))
    assert written[0] == {"name": "é", "line": 1, "reason": "not JSON", "detail": ""}
    assert len(totals.as_json()["first_rejected"]) == 3


def test_names_and_reasons_have_no_terminal_controls() -> None:
    totals = Totals()
    totals.count_sent(BatchFile("\x1b[2J\u202e", b""), an_answer(0, 0, "\x07\n"))
    assert all(line.isprintable() for line in totals.as_text().splitlines())


def test_counts_as_json_are_complete() -> None:
    totals = Totals()
    totals.count_sent(BatchFile("a", b""), an_answer(2, 1, "not JSON"))
    assert totals.as_json() == {
        "files": 1,
        "known": 0,
        "lines": 4,
        "imported": 2,
        "doubled": 1,
        "rejected": 1,
        "reasons": {"not JSON": 1},
        "skipped": {},
        "first_rejected": [{"name": "a", "line": 1, "reason": "not JSON", "detail": ""}],
    }
