"""Bodies later than their heads: forwarded immediately; broken ones."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from opentrail.capture.proxy.gate import Gate
from opentrail.core.event import NewEntry
from tests.capture.proxy.wires import HEAD, Wire, between, endpoint, gate_of, ok
from tests.factories import MOMENT
from tests.fakes import MemoryJournal, run, turns
from tests.stub_upstream import StubUpstream
from tests.wire.signed_requests import SECRETS

pytestmark = pytest.mark.live

_FORM_HEAD = (
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    "Content-Length: {}\r\n\r\n"
)
_FORM = "Action=CreateUser&Version=2010-05-08&UserName=xy&SignatureVersion=2&ZAWSAccessKeyId=x"


def test_early_refusal_reaches_a_client_that_still_sends(tmp_path: Path) -> None:
    def early(wire: Wire) -> None:
        wire.until(b"\r\n\r\n")
        wire.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")

    with between(tmp_path, early) as (server, _):
        wire = Wire.to(server.url)
        wire.send(f"PUT /b/k HTTP/1.1\r\n{HEAD}Content-Length: 1000000\r\n\r\nstart")
        status, headers, body = wire.answer()
        assert (status, body, headers["connection"]) == (403, b"no", "close")
        wire.rest()
        assert server.records()[0]["errorCode"] == "AccessDenied"


def test_client_that_leaves_in_mid_request_is_recorded(tmp_path: Path) -> None:
    def patient(wire: Wire) -> None:
        wire.rest()

    with between(tmp_path, patient) as (server, _):
        wire = Wire.to(server.url)
        wire.send(f"PUT /b/k HTTP/1.1\r\n{HEAD}Content-Length: 1000000\r\n\r\nstart")
        wire.close()
        records: list[object] = []
        while not records:
            records = list(server.records())
        failure = records[0]["additionalEventData"]["opentrail"]["failure"]  # type: ignore[index]
        assert failure == "the client closed before its request was complete"


async def _late_form(form: str, gate: Gate | None) -> tuple[bytes, bytes, list[bytes]]:
    """Sends a form after its head; returns the upstream's bytes, the answer and the records."""
    read = asyncio.get_running_loop().create_future()
    has_head = asyncio.Event()

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        has_head.set()
        try:
            read.set_result(await reader.readexactly(len(form)))
            writer.write(ok())
        except (asyncio.IncompleteReadError, ConnectionError):
            read.set_result(b"cut off")
        writer.close()

    upstream = await asyncio.start_server(answering, "127.0.0.1", 0)
    journal = MemoryJournal()
    port = upstream.sockets[0].getsockname()[1]
    async with endpoint(journal, port, gate=gate) as (own_port, served):
        reader, writer = await asyncio.open_connection("127.0.0.1", own_port)
        writer.write(_FORM_HEAD.format(len(form)).encode())
        await has_head.wait()
        writer.write(form.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        seen = await read
        await served.recorder.drain()
        writer.close()
    upstream.close()
    return seen, answer, [entry.record for entry in journal.disk]


@pytest.mark.parametrize("is_verified", [False, True])
def test_a_late_form_is_recorded_whoever_signed_it(is_verified: bool) -> None:
    gate = gate_of(SECRETS.get, MOMENT) if is_verified else None
    seen, answer, (record,) = run(_late_form(_FORM, gate))
    assert seen == _FORM.encode()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"eventName":"CreateUser"' in record
    assert b'"userName":"xy"' in record


def test_a_verification_error_ends_call_and_upstream_connection() -> None:
    """Otherwise the upstream would wait for the rest of the body, and the call for the upstream."""

    def failing(_key_id: str) -> None:
        raise MemoryError("the directory of keys does not answer")

    gate = gate_of(failing, MOMENT)
    seen, answer, (record,) = run(_late_form(_FORM.replace("ZAWS", "AWS"), gate))
    assert seen == b"cut off"
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b'"eventName":"CreateUser"' in record
    assert b'"userName":"xy"' in record


@pytest.mark.parametrize(
    "head",
    [
        b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
        # As SDKs upload objects.
        b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Encoding: aws-chunked\r\n"
        b"Content-Length: 1\r\n\r\nx",
    ],
)
def test_other_calls_proceed_during_a_search(head: bytes) -> None:
    is_answered = threading.Event()

    def find(key_id: str) -> None:
        assert key_id != "AKIASLOW" or is_answered.wait(60)

    async def check() -> bytes:
        body = gzip.compress(b"Action=x&AWSAccessKeyId=AKIASLOW&")
        with StubUpstream() as upstream:
            port, gate = int(upstream.host.partition(":")[2]), gate_of(find, MOMENT)
            async with endpoint(MemoryJournal(), port, gate=gate) as (own_port, _):
                slow, slow_writer = await asyncio.open_connection("127.0.0.1", own_port)
                slow_writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\n")
                slow_writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
                reader, writer = await asyncio.open_connection("127.0.0.1", own_port)
                writer.write(head)
                await reader.readuntil(b"\r\n\r\n")
                is_answered.set()
                answer = await slow.readuntil(b"\r\n")
                slow_writer.close()
                writer.close()
                return answer

    assert b" 200 " in run(check())


class HeldJournal(MemoryJournal):
    """A journal that holds the records of tables until `may_go_on` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self.has_held, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def write(self, entries: Sequence[NewEntry]) -> None:
        if b'"DescribeTable"' in entries[0].record:
            self.held += 1
            self.has_held.set()
            await self.may_go_on.wait()
        await super().write(entries)


def test_bodies_in_files_are_read_call_by_call() -> None:
    """Otherwise the bodies of all calls that wait for their records would be in memory."""
    body = b'{"TableName": "t"}' + b" " * 2 * 1024 * 1024
    head = b"POST / HTTP/1.1\r\nHost: h\r\nX-Amz-Target: DynamoDB_20120810.DescribeTable\r\n"

    async def check() -> int:
        journal = HeldJournal()
        with StubUpstream() as upstream:
            async with endpoint(journal, int(upstream.host.partition(":")[2])) as (port, _):
                clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
                for _, writer in clients[:3]:
                    writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                    await writer.drain()
                await journal.has_held.wait()
                for _ in range(20):  # small calls do not wait for large ones
                    clients[3][1].write(b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n")
                    await clients[3][0].readuntil(b"\r\n\r\n")
                held = journal.held
                journal.may_go_on.set()
                for reader, writer in clients[:3]:
                    assert b" 200 " in await reader.readuntil(b"\r\n")
                    writer.close()
                clients[3][1].close()
        assert [b'"tableName":"t"' in entry.record for entry in journal.disk].count(True) == 3
        return held

    assert run(check()) == 1


def test_read_with_a_started_body_is_not_resent() -> None:
    """The second request would miss the first piece, which is held until it is verified."""

    async def check() -> tuple[bytes, int]:
        requests = 0
        is_asked, may_close = asyncio.Event(), asyncio.Event()

        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal requests
            for _ in range(2):
                await reader.readuntil(b"\r\n\r\n")
                requests += 1
                if requests == 1:
                    writer.write(ok())
            is_asked.set()
            await may_close.wait()
            writer.close()

        upstream = await asyncio.start_server(once, "127.0.0.1", 0)
        gate = gate_of(SECRETS.get, MOMENT)
        port = upstream.sockets[0].getsockname()[1]
        async with endpoint(MemoryJournal(), port, gate=gate) as (own_port, served):
            reader, writer = await asyncio.open_connection("127.0.0.1", own_port)
            writer.write(b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n")
            await reader.readuntil(b"<ok/>")
            writer.write(b"GET /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n")
            await is_asked.wait()
            writer.write(b"first")
            (connection,) = served.connections
            while connection.body is None or connection.body.size < len(b"first"):
                await turns()
            await turns()
            may_close.set()
            answer = await reader.readuntil(b"\r\n\r\n")
            writer.close()
        upstream.close()
        return answer, requests

    answer, requests = run(check())
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert requests == 2
