"""WebSockets pass once their handshake is recorded; no other protocol switch passes."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from opentrail.capture.proxy.bodies import Flow
from opentrail.capture.proxy.head import Head, wants_websocket
from opentrail.capture.proxy.uploads import join
from tests.capture.proxy.wires import TIMEOUT_SECONDS, Wire, ok, scope, scripted
from tests.fakes import asynchronous
from tests.live.processes import opentrail_server

SIGNED = f"Host: h\r\nAuthorization: {scope('transcribe')}\r\n"
UPGRADE = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n"
ASKED = f"GET /stream-transcription-websocket HTTP/1.1\r\n{SIGNED}{UPGRADE}\r\n"
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: y\r\n\r\n"
)


@pytest.mark.parametrize(
    ("headers", "fits"),
    [
        ([(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")], True),
        ([(b"connection", b"keep-alive , upgrade"), (b"upgrade", b"WebSocket")], True),
        ([(b"Upgrade", b"websocket")], False),
        ([(b"Connection", b"Upgrade"), (b"Upgrade", b"h2c")], False),
        ([(b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"h2c")], False),
        ([(b"Connection", b"Upgrade")], False),
    ],
)
def test_websocket_request_must_be_whole(headers: list[tuple[bytes, bytes]], fits: bool) -> None:
    assert wants_websocket(Head(b"GET", b"/", "1.1", headers)) is fits
    assert not wants_websocket(Head(b"POST", b"/", "1.1", headers))
    assert not wants_websocket(Head(b"GET", b"/", "1.0", headers))


@asynchronous
async def test_joining_ends_with_either_side_after_passing_all() -> None:
    for ending in (0, 1):
        flows = [Flow(lambda: None, lambda: None) for _ in range(2)]
        passed: list[list[bytes]] = [[], []]

        async def to_upstream(piece: bytes, out: list[bytes] = passed[0]) -> None:
            out.append(piece)

        async def to_client(piece: bytes, out: list[bytes] = passed[1]) -> None:
            out.append(piece)

        flows[0].feed(b"up")
        flows[1].feed(b"down")
        joined = asyncio.ensure_future(join(flows[0], flows[1], to_upstream, to_client))
        await asyncio.sleep(0)
        flows[ending].finish()
        await joined
        assert passed == [[b"up"], [b"down"]]


@pytest.mark.live
def test_bytes_pass_both_ways_after_the_recorded_handshake(tmp_path: Path) -> None:
    seen = []
    early = b"early bytes"

    def upstream(wire: Wire) -> None:
        head, _ = wire.request()
        seen.append(head)
        wire.send(SWITCHED + early)
        for _ in range(3):
            wire.send(b"echo " + wire.until(b"\n"))

    with (
        scripted(upstream) as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url) as server,
    ):
        wire = Wire.to(server.url).send(ASKED)
        status, headers, _ = wire.answer()
        assert status == 101
        assert headers["upgrade"].lower() == "websocket"
        assert headers["sec-websocket-accept"] == "y"
        assert wire.exactly(len(early)) == early
        (record,) = server.records()
        assert record["eventSource"] == "transcribe.amazonaws.com"
        assert "errorCode" not in record
        for word in (b"one\n", b"\x00\xff" * 100_000 + b"\n", b"three\n"):
            wire.send(word)
            assert wire.exactly(len(word) + 5) == b"echo " + word
        assert wire.rest() == b"", "the upstream has ended, so the client's side ends"
        assert b"upgrade: websocket" in seen[0].lower()
        assert len(server.records()) == 1


@pytest.mark.live
def test_refused_handshake_is_an_answer_like_any_other(tmp_path: Path) -> None:
    def upstream(wire: Wire) -> None:
        wire.request()
        wire.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")

    with (
        scripted(upstream) as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url) as server,
    ):
        wire = Wire.to(server.url).send(ASKED)
        assert wire.answer()[::2] == (403, b"no")
        assert wire.rest() == b""
        (record,) = server.records()
        assert record["errorCode"]


@pytest.mark.live
def test_http_2_is_refused(tmp_path: Path) -> None:
    """Java's client asks for it on every plain connection; a server may ignore it (RFC 9110)."""
    seen = []

    def upstream(wire: Wire) -> None:
        for _ in range(2):
            seen.append(wire.request()[0].lower())
            wire.send(ok(b"plain"))

    asked = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    with (
        scripted(upstream) as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url) as server,
    ):
        call = f"GET /b/k HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('s3')}\r\n"
        wire = Wire.to(server.url).send(f"{call}{asked}\r\n{call}\r\n")
        assert wire.answer()[::2] == (200, b"plain")
        assert wire.answer()[::2] == (200, b"plain")
        assert len(server.records()) == 2
        assert b"upgrade" not in seen[0]
        assert b"http2-settings" not in seen[0]


@pytest.mark.live
def test_upstream_that_switches_unasked_is_a_bad_gateway(tmp_path: Path) -> None:
    def upstream(wire: Wire) -> None:
        wire.request()
        wire.send(SWITCHED)

    with (
        scripted(upstream) as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url) as server,
    ):
        call = f"GET /b/k HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('s3')}\r\n\r\n"
        assert Wire.to(server.url).send(call).answer()[0] == 502
        assert len(server.records()) == 1


@pytest.mark.live
def test_an_open_websocket_does_not_delay_the_end(tmp_path: Path) -> None:
    ended = threading.Event()

    def upstream(wire: Wire) -> None:
        wire.request()
        wire.send(SWITCHED)
        wire.rest()
        ended.set()

    with (
        scripted(upstream) as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url) as server,
    ):
        wire = Wire.to(server.url).send(ASKED)
        assert wire.answer()[0] == 101
        assert server.stop() == 0
        assert wire.rest() == b""
        assert ended.wait(TIMEOUT_SECONDS)
