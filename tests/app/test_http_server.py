"""The console's port has the limits of the endpoint (guarantee N2)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from opentrail.app.console_server import serve_console
from opentrail.app.endpoint_server import bind
from opentrail.app.http_server import ConsoleConnections, HttpConnection
from opentrail.capture.proxy.connections import Connection, Connections
from opentrail.capture.proxy.refusals import server_context
from opentrail.ports.metrics import Metrics
from opentrail.settings import Address
from tests.fakes import asynchronous

pytestmark = pytest.mark.live

SECONDS = 60


async def echo(_scope: Any, receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"%d" % len(b"%02d" % size))],
        }
    )
    await send({"type": "http.response.body", "body": b"%02d" % size})


@contextlib.asynccontextmanager
async def console(
    limits: Connections, tls: Any = None, application: Any = echo
) -> AsyncIterator[int]:
    """Serves an application with limits; yields its port."""
    async with contextlib.AsyncExitStack() as stack:
        listening = stack.enter_context(bind(Address("127.0.0.1", 0), "--console-listen"))
        port: int = listening.getsockname()[1]
        await serve_console(stack, application, listening, limits, tls)
        yield port


async def connections_of(limits: Connections) -> list[Connection]:
    """Returns the connections once there are some."""
    while not limits.connections:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0)
    return list(limits.connections)


async def sent(port: int, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    return reader, writer


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Returns the bytes received until the connection ends."""
    read = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(SECONDS):
            while piece := await reader.read(65536):
                read += piece
    return read


@asynchronous
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"a: b\r\n" * 201, b"431"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"a: %s\r\nc: d\r\n" % (b"b" * 70_000), b"431"),
        (b"GET / HTTP/1.1\r\nHost: h\r\na: " + b"b" * 600_000, b"431"),
        (b"GET / nonsense\r\n\r\n", b"400"),
    ],
)
async def test_an_overlong_or_malformed_head_is_refused(data: bytes, status: bytes) -> None:
    async with console(Connections()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        answer = await rest(reader)
        # Unread data at the close of a connection may reset it.
        assert answer == b"" or answer.startswith(b"HTTP/1.1 " + status)
        assert answer or len(data) > 65_536
        writer.close()


@asynchronous
async def test_a_target_may_name_a_long_resource() -> None:
    async with console(Connections()) as port:
        target = b"/console/resources?name=" + b"%C3%BC" * 10_000
        reader, writer = await sent(port, b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()


@asynchronous
async def test_an_unfinished_head_gets_408_at_the_deadline() -> None:
    async with console(Connections(head_seconds=2)) as port:
        reader, _ = await sent(port, b"GET / HTTP/1.1\r\nHost:")
        assert (await rest(reader)).startswith(b"HTTP/1.1 408")


@asynchronous
async def test_silent_connections_end_in_each_phase() -> None:
    async with console(Connections(head_seconds=0.2)) as port:
        silent, _ = await sent(port, b"")
        assert await rest(silent) == b""
    async with console(Connections(idle_seconds=0.2)) as port:
        answered, _ = await sent(port, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        half, _ = await sent(port, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab")
        assert (await rest(answered)).endswith(b"\r\n\r\n00")
        assert await rest(half) == b""


@asynchronous
async def test_a_paused_client_is_not_silent() -> None:
    reads = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await reads.wait()
        await echo(scope, receive, send)

    limits = Connections(idle_seconds=0.2)
    async with console(limits, application=slow) as port:
        size = 50_000_000
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
        writer.write(b"a" * size)
        (connection,) = await connections_of(limits)
        assert isinstance(connection, HttpConnection)
        # The deadline passes while reading is paused; the server checks it on resuming.
        while not connection.flow.read_paused:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        late = asyncio.get_running_loop().time() + 60.0
        connection.check_deadlines(late)
        connection.flow.resume_reading()
        connection.check_deadlines(late)
        reads.set()
        assert (await rest(reader)).endswith(b"%02d" % size)


@asynchronous
async def test_the_oldest_idle_connections_make_room() -> None:
    metrics = Metrics()
    limits = ConsoleConnections(metrics, 2)
    async with console(limits) as port:
        first, _ = await sent(port, b"")
        second, second_writer = await sent(port, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await second.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        third, third_writer = await sent(port, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await third.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert await rest(first) == b""
        second_writer.close()
        third_writer.close()


@asynchronous
async def test_the_slowest_body_makes_room_for_others() -> None:
    async with console(Connections(max_connections=1, body_grace_seconds=0.0)) as port:
        head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        slow, _ = await sent(port, head)
        assert (await slow.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        other, other_writer = await sent(port, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await other.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert await rest(slow) == b""
        other_writer.close()


@asynchronous
async def test_a_tls_handshake_counts_and_makes_room() -> None:
    limits = Connections(max_connections=1)
    async with console(limits, server_context()) as port:
        first = socket.create_connection(("127.0.0.1", port), SECONDS)
        second = socket.create_connection(("127.0.0.1", port), SECONDS)
        try:
            assert await asyncio.to_thread(first.recv, 1) == b""
            assert len(limits.connections) == 1
        finally:
            first.close()
            second.close()
