"""One call and its record: durable before the answer leaves; orderly endings."""

from __future__ import annotations

import asyncio
import fcntl
import json
import signal
import sqlite3
import sys
import termios
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from opentrail.capture.proxy.endpoint import ApiAnswer
from opentrail.core.errors import RecordRefused
from opentrail.core.event import NewEntry
from tests.capture.proxy.wires import (
    GET,
    TIMEOUT_SECONDS,
    Wire,
    between,
    endpoint,
    ok,
    put,
    scope,
    scripted,
)
from tests.fakes import MemoryJournal, run, turns
from tests.live.processes import opentrail_server, stalled_disk

pytestmark = pytest.mark.live


def journalled(data_dir: Path) -> list[dict[str, object]]:
    """Reads the journal's file like another process."""
    file = next((data_dir / "journal").glob("*.db"))
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as journal:
        rows = journal.execute("SELECT record FROM entries ORDER BY position").fetchall()
    return [json.loads(row[0]) for row in rows]


def test_record_is_durable_when_the_last_byte_arrives(tmp_path: Path) -> None:
    sizes = [size for size in (10, 60_000, 70_000, 1_000_000) for _ in range(5)]
    answers = iter(sizes)

    def answering(wire: Wire) -> None:
        while True:
            wire.request()
            wire.send(ok(b"x" * next(answers)))

    with between(tmp_path, answering) as (server, _):
        for count, size in enumerate(sizes, 1):
            assert len(Wire.to(server.url).send(GET).answer()[2]) == size
            assert len(journalled(server.data_dir)) == count, size


def test_long_answers_end_waits_for_its_record(tmp_path: Path) -> None:
    """Another process locks the journal: all but the end of the answer arrives."""

    def answering(wire: Wire) -> None:
        wire.request()
        wire.send(ok(b"x" * 500_000))

    with (
        scripted(answering) as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream.url) as server,
    ):
        with stalled_disk(server):
            wire = Wire.to(server.url).send(GET)
            wire.until(b"\r\n\r\n")
            wire.exactly(495_000)
            wire.socket.settimeout(0.3)
            with pytest.raises(TimeoutError):
                wire.exactly(5_000)
        wire.socket.settimeout(TIMEOUT_SECONDS)
        wire.exactly(5_000)
        assert len(journalled(server.data_dir)) == 1


def test_sized_events_also_wait_for_their_record(tmp_path: Path) -> None:
    def answering(wire: Wire) -> None:
        wire.request()
        wire.send(ok(b"event\n", "Content-Type: text/event-stream"))

    with (
        scripted(answering) as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream.url) as server,
    ):
        with stalled_disk(server):
            wire = Wire.to(server.url).send(GET)
            wire.socket.settimeout(0.3)
            with pytest.raises(TimeoutError):
                wire.exactly(1)
        wire.socket.settimeout(TIMEOUT_SECONDS)
        assert wire.answer()[2] == b"event\n"


@pytest.mark.parametrize("upstream_ends_by", ["chunk", "close"])
def test_only_a_streams_end_waits_for_record(tmp_path: Path, upstream_ends_by: str) -> None:
    first_arrived = threading.Event()

    def streaming(wire: Wire) -> None:
        wire.request()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        if upstream_ends_by == "chunk":
            wire.send(head + b"Transfer-Encoding: chunked\r\n\r\n5\r\none\n\n\r\n")
        else:
            wire.send(head + b"\r\none\n\n")
        assert first_arrived.wait(TIMEOUT_SECONDS)
        wire.send(b"5\r\ntwo\n\n\r\n0\r\n\r\n" if upstream_ends_by == "chunk" else b"two\n\n")

    with (
        scripted(streaming) as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream.url) as server,
    ):
        with stalled_disk(server):
            wire = Wire.to(server.url).send(GET)
            wire.until(b"one\n\n")
            first_arrived.set()
            wire.until(b"two\n\n\r\n")
            wire.socket.settimeout(0.3)
            with pytest.raises(TimeoutError):
                wire.exactly(1)
        wire.socket.settimeout(TIMEOUT_SECONDS)
        assert wire.exactly(5) == b"0\r\n\r\n"
        assert len(journalled(server.data_dir)) == 1


def test_http_1_0_events_wait_for_the_record(tmp_path: Path) -> None:
    def streaming(wire: Wire) -> None:
        wire.request()
        wire.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n7\r\nevent\n\n\r\n0\r\n\r\n"
        )

    with (
        scripted(streaming) as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream.url) as server,
    ):
        with stalled_disk(server):
            wire = Wire.to(server.url).send(GET.replace("HTTP/1.1", "HTTP/1.0"))
            wire.socket.settimeout(0.3)
            with pytest.raises(TimeoutError):
                wire.exactly(1)
        wire.socket.settimeout(TIMEOUT_SECONDS)
        assert wire.answer()[2] == b"event\n\n"


@pytest.mark.campaign
@pytest.mark.slow
def test_call_cut_off_by_the_stop_is_recorded(tmp_path: Path) -> None:
    reached = threading.Event()

    def silent(wire: Wire) -> None:
        wire.request()
        reached.set()
        wire.rest()

    with (
        scripted(silent) as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream.url) as server,
    ):
        Wire.to(server.url).send(GET)
        assert reached.wait(TIMEOUT_SECONDS)
        assert server.stop() == 0
        (record,) = journalled(server.data_dir)
        own = record["additionalEventData"]["opentrail"]  # type: ignore[index]
        assert own["failure"] == "cut off by the end of the server"


def test_a_refused_call_cut_off_early_is_recorded() -> None:
    """The upstream left, the rest of the body is missing, and the server ends."""

    async def check() -> list[bytes]:
        async def leaving(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.close()

        upstream = await asyncio.start_server(leaving, "127.0.0.1", 0)
        port = upstream.sockets[0].getsockname()[1]
        journal = MemoryJournal()
        async with endpoint(journal, port) as (own_port, served):
            _, writer = await asyncio.open_connection("127.0.0.1", own_port)
            writer.write(b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf")
            began = ended = False
            while not ended:  # the upload begins, and ends with its upstream
                await asyncio.sleep(0)
                is_sending = any("_Upload.run" in repr(task) for task in asyncio.all_tasks())
                began, ended = began or is_sending, began and not is_sending
            (connection,) = served.connections
            connection.abort()
            await connection.done
            await served.recorder.drain()
            writer.close()
        upstream.close()
        return [entry.record for entry in journal.disk]

    (record,) = run(check())
    assert b'"failure":"cut off by the end of the server"' in record


def test_an_undecodable_call_is_forwarded_and_recorded(tmp_path: Path) -> None:
    def answering(wire: Wire) -> None:
        wire.request()
        wire.send(ok(b"{}"))

    with (
        scripted(answering) as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream.url) as server,
    ):
        head = (
            f"POST /some/path HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('dynamodb')}\r\n"
            "X-Amz-Target: DynamoDB_20120810.PutItem\r\nContent-Length: 9\r\n\r\n"
        )
        assert Wire.to(server.url).send(head + "{not json").answer()[0] == 200
        unknown = f"PATCH /odd HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('nothing')}\r\n\r\n"
        assert Wire.to(server.url).send(unknown).answer()[0] == 200
        first, second = journalled(server.data_dir)
        own = first["additionalEventData"]["opentrail"]  # type: ignore[index]
        assert first["eventName"] == "PutItem"
        assert own["request"] == {"method": "POST", "path": "/some/path"}
        assert "Expecting property name" in own["decodeError"]
        assert second["eventSource"] == "nothing.amazonaws.com"
        assert second["eventName"] == "UnknownOperation"


def test_a_late_body_names_a_refused_call(tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", "--upstream", "http://127.0.0.1:9") as server:
        head = f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('iam')}\r\n"
        head += "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 49\r\n"
        wire = Wire.to(server.url).send(head + "\r\nAction=CreateUser&Ver")
        wire.socket.settimeout(0.05)  # the rest may take a second
        with pytest.raises(TimeoutError):
            wire.exactly(1)
        wire.socket.settimeout(TIMEOUT_SECONDS)
        assert wire.send("sion=2010-05-08&UserName=xy").answer()[0] == 502
        asking = Wire.to(server.url).send(head + "Expect: 100-continue\r\n\r\n")
        assert asking.answer()[0] == 502, "a client that asks first gets an immediate answer"
        never = Wire.to(server.url).send(head + "\r\nAction=")
        assert never.answer()[0] == 502, "nor is a body waited for that does not come"
        recorded = journalled(server.data_dir)
        assert [r["eventName"] for r in recorded] == ["CreateUser", *["UnknownOperation"] * 2]
        assert recorded[0]["requestParameters"] == {"userName": "xy"}


class RefusingJournal(MemoryJournal):
    """Refuses the record of a call that has taken effect."""

    async def append(self, entries: Sequence[NewEntry]) -> int:
        raise RecordRefused("no disk")


async def no_answer(*_request: object) -> ApiAnswer:
    raise KeyError("a bug")


async def an_answer(*_request: object) -> ApiAnswer:
    return ApiAnswer(200, [], b"{}")


def an_api_call() -> str:
    target = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.StopLogging"
    head = f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('cloudtrail')}\r\n"
    return f"{head}X-Amz-Target: {target}\r\nContent-Length: 2\r\n\r\n{{}}"


@pytest.mark.parametrize(
    ("request_text", "failure", "refuses"),
    [
        (GET, "the disk is full", False),
        (an_api_call(), "the disk is full", False),
        (GET, None, True),
        (an_api_call(), None, True),
        (an_api_call(), None, False),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", None, False),
        ("GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", None, False),
    ],
)
def test_answer_announces_the_end_of_its_connection(
    request_text: str, failure: str | None, refuses: bool
) -> None:
    """Otherwise a client's next call would fail."""

    def answering(wire: Wire) -> None:
        wire.request()
        wire.send(ok())

    async def story(port: int) -> None:
        journal = RefusingJournal() if refuses else MemoryJournal()
        journal.failure = failure
        answer = an_answer if refuses else no_answer
        async with endpoint(journal, port, answer) as (own_port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", own_port)
            writer.write(request_text.encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            await reader.readexactly(length)
            assert int(head.split()[1]) >= 400
            writer.write(GET.encode())
            goes_on = bool(await reader.read(1))
            assert goes_on != ("connection: close" in head)
            writer.close()

    with scripted(answering) as upstream:
        run(story(int(upstream.url.rpartition(":")[2])))


def test_sigterm_lets_a_call_finish_and_exits_0(tmp_path: Path) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def slow(wire: Wire) -> None:
        wire.request()
        reached.set()
        assert go_on.wait(TIMEOUT_SECONDS)
        wire.send(ok(b"late but whole"))

    with (
        scripted(slow) as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream.url) as server,
    ):
        wire = Wire.to(server.url).send(GET)
        idle = Wire.to(server.url)
        assert reached.wait(TIMEOUT_SECONDS)
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert idle.rest() == b"", "idle connections are closed immediately"
        go_on.set()
        assert wire.answer()[2] == b"late but whole"
        assert server.wait() == 0
        assert len(journalled(server.data_dir)) == 1
        assert not (server.data_dir / "server.json").exists()


@pytest.mark.campaign
def test_client_that_sends_too_much_reads_the_answer(tmp_path: Path) -> None:
    """Closing immediately would reset the connection of a client that is still sending."""
    with opentrail_server(tmp_path / "data", "--upstream", "http://127.0.0.1:9") as server:
        for megabytes in (2, 2, 2, 6, 6, 6):
            body = b" " * (megabytes * 1024 * 1024)
            head = (
                f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('cloudtrail')}\r\n"
                "X-Amz-Target: CloudTrail_20131101.ListTrails\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            wire = Wire.to(server.url).send(head).send(body)
            status, headers, answer = wire.answer()
            assert (status, headers["connection"]) == (413, "close"), megabytes
            assert b"larger than 1048576 bytes" in answer, megabytes
            assert wire.rest() == b"", megabytes
        assert len(server.records()) == 6


@pytest.mark.campaign
def test_reading_from_an_endless_client_is_limited(tmp_path: Path) -> None:
    head = (
        f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('cloudtrail')}\r\n"
        "X-Amz-Target: CloudTrail_20131101.ListTrails\r\n"
        "Content-Length: 100000000000\r\n\r\n"
    )
    with opentrail_server(tmp_path / "data", "--upstream", "http://127.0.0.1:9") as server:
        wire = Wire.to(server.url).send(head)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_for_ever(wire)


def send_for_ever(wire: Wire) -> None:
    while True:
        wire.send(bytes(1024 * 1024))


def test_an_unknown_expectation_gets_417(tmp_path: Path) -> None:
    with between(tmp_path, lambda wire: wire.send(ok(b"x"))) as (server, stub):
        head = f"PUT /b/k HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('s3')}\r\n"
        for expectation in ("tea", "100-continue, tea", "100-continued"):
            wire = Wire.to(server.url)
            wire.send(f"{head}Expect: {expectation}\r\nContent-Length: 1\r\n\r\nx")
            assert wire.answer()[0] == 417, expectation
        assert stub.connections == 0


def test_ignored_request_parts_are_not_forwarded(tmp_path: Path) -> None:
    """Chunk extensions and further blanks mean nothing, so no reader can misread them."""
    seen: list[bytes] = []

    def upstream(wire: Wire) -> None:
        while True:
            seen.append(wire.until(b"\r\n\r\n"))
            seen.append(wire.until(b"0\r\n\r\n"))
            wire.send(ok(b"x"))

    with between(tmp_path, upstream) as (server, _):
        for line, chunk in (
            ("PUT /b/k HTTP/1.1", f"5;{'e' * 5_000}"),
            ("PUT /b/k HTTP/1.1", f'5;a="{"e" * 60};b"'),
            ("PUT  /b/k HTTP/1.1", "5"),
            ("PUT /b/k   HTTP/1.1", "5"),
        ):
            head = f"{line}\r\nHost: h\r\nAuthorization: {scope('s3')}\r\n"
            body = f"{chunk}\r\nhello\r\n0;last\r\n\r\n"
            wire = Wire.to(server.url).send(f"{head}Transfer-Encoding: chunked\r\n\r\n{body}")
            assert wire.answer()[0] == 200, (line, chunk)
            assert seen[0].startswith(b"PUT /b/k HTTP/1.1\r\n"), (line, chunk)
            assert seen[1] == b"5\r\nhello\r\n0\r\n\r\n", (line, chunk)
            seen.clear()


class FullJournal(MemoryJournal):
    """A journal on a disk that is slow while a test says so."""

    backlog = 0.0

    @property
    def backlog_seconds(self) -> float:
        return self.backlog


def bytes_in_flight(writer: asyncio.StreamWriter) -> int:
    """Returns the number of sent bytes that the other end has not received."""
    count = fcntl.ioctl(writer.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(count, sys.byteorder)


def test_refused_large_body_does_not_block_later_calls() -> None:
    """The refused call's body arrived behind another call, and no other code would read it."""
    arrived, may_answer = threading.Event(), threading.Event()

    def answering(wire: Wire) -> None:
        wire.request()
        arrived.set()
        assert may_answer.wait(TIMEOUT_SECONDS)
        wire.send(ok())

    async def story(port: int) -> None:
        journal = FullJournal()
        async with endpoint(journal, port) as (own_port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", own_port)
            writer.write(GET.encode() + put(b"x" * 400_000))
            await asyncio.to_thread(arrived.wait, TIMEOUT_SECONDS)
            while writer.transport.get_write_buffer_size() or bytes_in_flight(writer):
                await turns(1)
            await turns(100)
            journal.backlog = 1_000.0
            may_answer.set()
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            assert b" 503 " in await reader.readuntil(b"\r\n\r\n")
            writer.write(GET.encode())
            assert b" 503 " in await reader.readuntil(b"\r\n\r\n")
            writer.close()

    with scripted(answering) as upstream:
        run(story(int(upstream.url.rpartition(":")[2])))
