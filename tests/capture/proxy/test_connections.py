"""Which connections make room for others, and how they are accepted."""

from __future__ import annotations

import asyncio
import socket

import pytest

from opentrail.capture.proxy.connections import Acceptor, BodyProgress
from tests.capture.proxy.test_endpoint import an_endpoint
from tests.capture.proxy.wires import Wire
from tests.fakes import asynchronous

POST = "POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab"


def test_the_rate_of_a_body_is_judged_after_a_second() -> None:
    body = BodyProgress(10.0, 400)
    assert body.rate(10.5) == float("inf")
    assert body.rate(12.0) == 200.0


@pytest.mark.live
def test_a_body_that_hardly_arrives_makes_room_for_a_new_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with an_endpoint(max_connections=1) as (url, endpoint):
        slow = Wire.to(url).send(POST)
        while not any(each.body for each in endpoint.connections):
            pass
        monkeypatch.setattr("opentrail.capture.proxy.connections._BODY_GRACE_SECONDS", 0.0)
        Wire.to(url).send("GET / nonsense\r\n\r\n").answer()
        assert slow.rest() == b""


@asynchronous
async def test_connections_wait_in_the_backlog_until_they_are_wanted() -> None:
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
