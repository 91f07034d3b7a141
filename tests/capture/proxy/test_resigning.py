"""Re-signed calls: their signed parts, and the unchanged ones."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from opentrail.core.identity import key_for_account
from tests.capture.proxy.wires import Wire, ok, resigning, scope, scripted
from tests.live.processes import opentrail_server
from tests.wire.sigv4_by_hand import verify

pytestmark = pytest.mark.live

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_body_with_a_signed_hash_is_gathered_first(tmp_path: Path) -> None:
    """Also if the body is announced, or arrives in chunks of the transfer coding."""
    seen: list[tuple[bytes, bytes]] = []

    def upstream(wire: Wire) -> None:
        for _ in range(4):
            seen.append(wire.request())
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"{}"))

    with scripted(upstream) as stub:
        port = stub.url.rpartition(":")[2]
        config = resigning(tmp_path, f"http://localhost:{port}", region="eu-west-1")
        with opentrail_server(tmp_path / "data", "--config", config) as server:
            key = key_for_account("210987654321")
            head = f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('dynamodb', key=key)}\r\n"
            head += "X-Amz-Target: DynamoDB_20120810.ListTables\r\n"
            wire = Wire.to(server.url)
            wire.send(f"{head}Content-Length: 2\r\n\r\n").send("{}")
            assert wire.answer()[0] == 200
            wire.send(f"{head}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n1\r\n}}\r\n0\r\n\r\n")
            assert wire.answer()[0] == 200
            wire.send(f"{head}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            assert wire.answer()[0] == 100
            assert wire.send("{}").answer()[0] == 200
            wire.send(f"{head}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{{}}")
            assert wire.answer()[0] == 200
            records = server.records()
            assert len(records) == 4
            assert {r["userIdentity"]["accessKeyId"] for r in records} == {key}
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    for sent, body in seen:
        assert body == b"{}"
        lines = [line.partition(b": ") for line in sent.split(b"\r\n")[1:] if line]
        headers = [(name, value) for name, _, value in lines]
        assert verify("POST", "/", headers, digest, "our-secret") == "AKIAOURS"
        assert dict(headers)[b"Host"] == f"localhost:{port}".encode()
        assert b"Expect" not in dict(headers)


def test_upload_forms_and_unsigned_calls_stay_unsigned(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def upstream(wire: Wire) -> None:
        seen.append(wire.request()[0])
        wire.send(ok(b"x"))

    with scripted(upstream) as stub:
        config = resigning(tmp_path, stub.url, "s3")
        with opentrail_server(tmp_path / "data", "--config", config) as server:
            call = "GET /k HTTP/1.1\r\nHost: logs.localhost:1\r\n\r\n"
            assert Wire.to(server.url).send(call).answer()[0] == 200
    assert seen[0].startswith(b"GET /logs/k HTTP/1.1\r\n")
    assert b"authorization" not in seen[0].lower()
    assert b"AKIAOURS" not in seen[0]


def test_a_body_interrupted_during_gathering_is_not_sent(
    tmp_path: Path,
) -> None:
    with scripted(lambda wire: wire.send(ok(b"{}"))) as stub:
        config = resigning(tmp_path, stub.url)
        with opentrail_server(tmp_path / "data", "--config", config) as server:
            wire = Wire.to(server.url)
            wire.send(f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('dynamodb')}\r\n")
            wire.send("X-Amz-Target: DynamoDB_20120810.ListTables\r\nContent-Length: 9\r\n\r\n{")
            wire.socket.shutdown(socket.SHUT_WR)
            assert wire.answer()[0] == 400
            (record,) = server.records()
        assert record["eventName"] == "ListTables"
        assert "closed before" in record["additionalEventData"]["opentrail"]["failure"]
        assert stub.connections == 0
