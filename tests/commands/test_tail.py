"""`opentrail tail` against a small server that stops and starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from opentrail.cli import main
from opentrail.commands.client import Console
from opentrail.commands.rendering import print_records
from opentrail.commands.tail import TailCursor, follow
from opentrail.core.errors import OpentrailError, TryLater, UsageError
from tests.factories import a_record, event_id, record_bytes
from tests.stub_console import TOKEN, Asked, StubConsole, stub_console

Capture = pytest.CaptureFixture[str]


def line(position: int) -> dict[str, Any]:
    record = a_record(eventID=event_id(position))
    return {
        "position": position,
        "EventId": record["eventID"],
        "EventName": f"Event{position}",
        "ReadOnly": "false",
        "EventTime": 1_577_869_200,
        "EventSource": "iam.amazonaws.com",
        "Username": "John",
        "Resources": [{"ResourceType": "AWS::IAM::User", "ResourceName": "Mary"}],
        "CloudTrailEvent": record_bytes(record).decode(),
    }


def at(position: int) -> dict[str, Any]:
    return {"position": position}


class Server:
    """Answers each request with the next script: lines, or a status with its JSON."""

    def __init__(self, stub: StubConsole) -> None:
        self.stub = stub
        self.scripts: list[list[dict[str, Any]] | tuple[int, Any]] = []
        stub.react = self._react

    def _react(self, _asked: Asked) -> tuple[int, Any]:
        gone = (400, {"code": "InvalidParameterException", "error": "that was all"})
        script = self.scripts.pop(0) if self.scripts else gone
        if isinstance(script, tuple):
            return script
        return 200, b"".join(json.dumps(one).encode() + b"\n" for one in script)

    @property
    def asked(self) -> list[str]:
        return [asked.path.partition("?")[2] for asked in self.stub.asked]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("opentrail.commands.tail._FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("opentrail.commands.tail._MAX_PAUSE_SECONDS", 0.01)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENTRAIL_DATA_DIR", str(tmp_path / "data"))
    with stub_console(tmp_path / "data") as stub:
        yield Server(stub)


DEFAULTS = "account=own&region=us-east-1"


def test_events_are_printed_a_line_each(server: Server, capsys: Capture) -> None:
    server.scripts = [[at(5), line(6), line(7), at(9)]]
    assert main(["tail", "user=John", "--all-categories"]) == 2
    out = capsys.readouterr().out.splitlines()
    assert [text.split()[2] for text in out] == ["Event6", "Event7"]
    first, second = server.asked
    assert first == f"expression=user%3DJohn&{DEFAULTS}&categories=all"
    assert second == f"{first}&after=9"


def test_events_can_be_printed_as_records_or_csv(server: Server, capsys: Capture) -> None:
    server.scripts = [[at(5), line(6)], [line(7)]]
    main(["tail", "--json", "--all-accounts", "--all-regions"])
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(text)["eventID"] for text in lines] == [event_id(6), event_id(7)]
    assert server.asked[0] == ""
    server.scripts = [[at(5), line(6)], [line(7)]]
    main(["tail", "--csv"])
    lines = capsys.readouterr().out.splitlines()
    assert [text.split(",")[0] for text in lines] == ["Event name", "Event6", "Event7"]


def test_a_tail_reconnects_without_repeating_events(server: Server, capsys: Capture) -> None:
    server.scripts = [
        [at(5), line(6), {"error": "the server is stopping"}],
        (503, {"error": "busy"}),
        (401, {"error": "a valid token is needed"}),
        [{"error": "the server is stopping"}],
        [at(6), line(7)],
        [line(8), at(20)],
    ]
    assert main(["tail", "--last", "3"]) == 2
    captured = capsys.readouterr()
    assert [text.split()[2] for text in captured.out.splitlines()] == ["Event6", "Event7", "Event8"]
    places = [query.removeprefix(f"{DEFAULTS}&") for query in server.asked]
    assert places == ["last=3", *["after=6"] * 4, "after=7", "after=20"]
    assert captured.err.count("waiting for the server") == 3
    assert captured.err.count("the server is back") == 2
    assert captured.err.endswith("opentrail: that was all\n")


def test_missing_ranges_are_named_once(server: Server, capsys: Capture) -> None:
    lacking = {"position": 4, "missing": ["positions 2 to 3 of event history"]}
    server.scripts = [[lacking, line(5)], [lacking, line(6)]]
    assert main(["tail", "--after", "1"]) == 2
    said = capsys.readouterr()
    assert said.err.count("opentrail: missing: positions 2 to 3 of event history\n") == 1
    assert "Event5" in said.out
    assert "Event6" in said.out


def test_each_connection_looks_for_the_server_again(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    place, paused = TailCursor(), 0
    with stub_console(folder) as one:
        one.body = b'{"position": 3}\n'
        url = one.url

        def found() -> Console:
            described = folder / "server.json"
            if not described.exists():
                raise UsageError("no server runs")
            return Console(json.loads(described.read_text())["console"], TOKEN)

        def pause(seconds: float) -> None:
            nonlocal paused
            paused += 1
            assert 0 < seconds <= 5
            if paused == 1:
                (folder / "server.json").unlink()
            if paused == 4:
                (folder / "server.json").write_text(json.dumps({"console": other.url}))

        with stub_console(tmp_path / "other") as other:
            other.body = b'{"position": 4}\n'
            lines = follow(found, {}, place, pause)
            for expected in (3, 4):
                (answer,) = next(lines)
                place.move(answer["position"])
                assert answer == {"position": expected}
            assert other.asked[0].path == "/api/v1/tail?after=3"
            assert other.url != url


def test_unknown_server_causes_no_wait(server: Server, tmp_path: Path, capsys: Capture) -> None:
    server.scripts = [(503, {"error": "busy"})]
    assert main(["tail"]) == 1
    assert main(["tail", "--data-dir", str(tmp_path / "nothing")]) == 2
    assert main(["tail", "--after", "5", "--data-dir", str(tmp_path / "nothing")]) == 2
    assert "waiting" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [("--after", "x"), ("--after", "-1"), ("--after", "1", "--last", "1")]
)
def test_place_that_makes_no_sense_is_wrong_use(server: Server, arguments: tuple[str, ...]) -> None:
    assert main(["tail", *arguments]) == 2
    assert server.asked == []


# The file with the position


def test_the_position_in_a_file_overrides_after(
    server: Server, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "place"
    server.scripts = [[at(5), line(6), at(8)]]
    main(["tail", "--last", "1", "--resume", str(file)])
    assert file.read_text() == "8\n"
    main(["tail", "--last", "1", "--resume", str(file)])
    main(["tail", "--after", "1", "--resume", str(file)])
    assert [query.split("&")[-1] for query in server.asked] == [
        *("last=1", "after=8", "after=8", "after=8"),
    ]
    capsys.readouterr()


def test_invalid_or_unwritable_position_file_is_an_error(
    server: Server, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "place"
    for content in (b"", b"x", b"-1", b"\xff", b"9" * 50):
        file.write_bytes(content)
        assert main(["tail", "--resume", str(file)]) == 2
    assert main(["tail", "--resume", str(tmp_path)]) == 2
    server.scripts = [[at(5)]]
    assert main(["tail", "--resume", str(tmp_path / "no" / "place")]) == 74
    assert "--resume" in capsys.readouterr().err


def test_resumed_output_does_not_repeat(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "place"
    server.scripts = [[at(5), line(6), line(7), line(8)]]
    shown: list[dict[str, Any]] = []

    def show(events: list[dict[str, Any]]) -> None:
        if len(shown) == 2:
            raise KeyboardInterrupt
        shown.extend(events)

    monkeypatch.setattr("opentrail.commands.tail.print_lines", show)
    assert main(["tail", "--resume", str(file)]) == 130
    assert [event["position"] for event in shown] == [6, 7]
    assert file.read_text() == "7\n"


def test_unread_events_do_not_count_as_printed(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "place"
    server.scripts = [[at(5)], [line(6), line(7)]]
    command = f"{sys.executable} -m opentrail tail --resume {file} | true"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True
    )
    assert "Error" not in done.stderr
    assert not file.exists() or file.read_text() == "5\n"


def test_a_departed_reader_ends_a_silent_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from opentrail.commands import tail

    read, write = os.pipe()
    with os.fdopen(write, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        tail._print([at(5)], lambda _: None, TailCursor())
        os.close(read)
        with pytest.raises(BrokenPipeError):
            tail._print([at(5)], lambda _: None, TailCursor())


def test_permanent_errors_end_the_command(server: Server, capsys: Capture) -> None:
    server.scripts = [[at(5)], (500, {"error": "the journal is broken"})]
    assert main(["tail"]) == 1
    assert capsys.readouterr().err.endswith("the journal is broken\n")
    assert issubclass(TryLater, OpentrailError)


def test_lost_interrupt_ends_it_with_the_next_lines(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """As in a finalizer, which cannot raise an exception."""
    before = signal.getsignal(signal.SIGINT)

    def following(*_: object) -> Iterator[list[dict[str, Any]]]:
        yield [line(1)]
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        yield [line(2)]
        raise AssertionError("it goes on")

    monkeypatch.setattr("opentrail.commands.tail.follow", following)
    assert main(["tail", "--json"]) == 130
    assert [json.loads(one)["eventID"] for one in capsys.readouterr().out.splitlines()] == [
        event_id(1)
    ]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_waits_until_the_position_is_stored(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    stored = tmp_path / "place"

    def interrupt(lines: list[Any]) -> None:
        print_records(lines)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("opentrail.commands.tail.print_records", interrupt)
    server.scripts = [[at(5), line(6)]]
    assert main(["tail", "--json", "--resume", str(stored)]) == 130
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert stored.read_text() == "6\n"


def test_a_second_interrupt_does_not_wait(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Standard output has lost its reader."""

    def interrupt_twice(_lines: list[dict[str, Any]]) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it goes on")

    monkeypatch.setattr("opentrail.commands.tail.print_records", interrupt_twice)
    server.scripts = [[at(5), line(6), line(7)]]
    assert main(["tail", "--json"]) == 130
    assert capsys.readouterr().out == ""
