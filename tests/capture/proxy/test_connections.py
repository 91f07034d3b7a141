"""Connections that make room for others, and their acceptance."""

from __future__ import annotations

import asyncio
import socket

import pytest

from opentrail.capture.proxy import Endpoint
from opentrail.capture.proxy.connections import Acceptor
from tests.capture.proxy.test_endpoint import an_endpoint
from tests.capture.proxy.wires import Wire, endpoint
from tests.fakes import TIMEOUT_SECONDS, MemoryJournal, asynchronous
from tests.stub_upstream import StubUpstream

GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = "POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n"


def receive_a_body(url: str, endpoint: Endpoint) -> Wire:
    """Sends a request without its body; returns when the endpoint waits for the body."""
    wire = Wire.to(url).send(POST)
    while not any(each.body for each in list(endpoint.connections)):
        pass
    return wire


@pytest.mark.live
def test_slow_body_makes_room_for_a_new_connection() -> None:
    with an_endpoint(max_connections=1, body_grace_seconds=0.0) as (url, endpoint):
        slow = receive_a_body(url, endpoint)
        assert Wire.to(url).send("GET / nonsense\r\n\r\n").answer()[0] == 400
        assert slow.rest() == b""


@pytest.mark.live
def test_unused_connections_are_closed_before_used_ones() -> None:
    with an_endpoint(max_connections=3) as (url, _):
        used = Wire.to(url).send(GET)
        status = used.answer()[0]
        unused = [Wire.to(url) for _ in range(3)]
        assert unused[0].rest() == b""
        assert used.send(GET).answer()[0] == status
        for wire in (used, *unused):
            wire.close()


@pytest.mark.live
def test_a_body_is_not_judged_before_its_time() -> None:
    with an_endpoint(max_connections=1, body_grace_seconds=60.0) as (url, endpoint):
        slow = receive_a_body(url, endpoint)
        assert Wire.to(url).rest() == b""
        assert any(each.body for each in list(endpoint.connections))
        slow.close()


@asynchronous
async def test_new_connection_gets_an_answer_before_the_stop() -> None:
    with StubUpstream() as upstream:
        behind = int(upstream.host.partition(":")[2])
        async with endpoint(MemoryJournal(), behind) as (port, served):
            served.first_call_seconds = TIMEOUT_SECONDS
            used, new = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            used[1].write(GET.encode())
            assert b" 200 " in await used[0].readuntil(b"\r\n\r\n")
            stopping = asyncio.ensure_future(served.stop(TIMEOUT_SECONDS))
            await used[0].read()  # ends immediately
            new[1].write(GET.encode())
            assert b"connection: close" in (await new[0].read()).lower()
            assert new[0].at_eof()
            stopping.cancel()
            for _, writer in (used, new):
                writer.close()


@asynchronous
async def test_queued_connections_are_accepted_before_stop() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    accepted: asyncio.Queue[socket.socket] = asyncio.Queue()
    acceptor = Acceptor(listening, accepted.put_nowait)
    acceptor.accept()
    clients = [socket.create_connection(listening.getsockname()) for _ in range(100)]
    acceptor.close()
    assert accepted.qsize() == 100
    for connection in (*clients, *(accepted.get_nowait() for _ in clients)):
        connection.close()


@asynchronous
async def test_an_unadmitted_host_is_disconnected() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    accepted: asyncio.Queue[socket.socket] = asyncio.Queue()
    acceptor = Acceptor(listening, accepted.put_nowait, "127.0.0.1".__eq__)
    acceptor.accept()
    stranger = socket.create_connection(listening.getsockname(), source_address=("127.0.0.2", 0))
    friend = socket.create_connection(listening.getsockname())
    (await accepted.get()).close()
    assert accepted.empty()
    assert stranger.recv(1) == b""
    acceptor.close()
    friend.close()
    stranger.close()


@asynchronous
async def test_connections_wait_in_the_backlog_for_room() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    accepted: asyncio.Queue[socket.socket] = asyncio.Queue()
    acceptor = Acceptor(listening, accepted.put_nowait)
    address = listening.getsockname()
    acceptor.accept()
    first = socket.create_connection(address)
    (await accepted.get()).close()
    acceptor.accept(False)
    second = socket.create_connection(address)
    await asyncio.sleep(0)
    assert accepted.empty()
    acceptor.accept()
    (await accepted.get()).close()
    acceptor.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    first.close()
    second.close()
