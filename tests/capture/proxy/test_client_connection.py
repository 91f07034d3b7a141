"""A client's view of one connection, and its upstream's."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.capture.proxy.client_connection import after_head, framing_of
from tests.capture.proxy.wires import (
    ScriptedUpstream,
    Wire,
    get,
    ok,
    put,
    scope,
    scripted,
    socket_buffers,
)
from tests.live.processes import Opentrail, opentrail_server

pytestmark = pytest.mark.live

LARGE = random.Random(1).randbytes(3 * 1024 * 1024)


@pytest.fixture(scope="module")
def forwarded() -> list[bytes]:
    """The heads at the upstream."""
    return []


@pytest.fixture(scope="module")
def upstream(forwarded: list[bytes]) -> Iterator[ScriptedUpstream]:
    def echo(wire: Wire) -> None:
        """Answers each request with its own head and body."""
        while True:
            head = wire.until(b"\r\n\r\n")
            forwarded.append(head)
            wire.send(ok(head + wire.body_after(head)))

    with scripted(echo) as running:
        yield running


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream
) -> Iterator[Opentrail]:
    folder: Path = tmp_path_factory.mktemp("client")
    with opentrail_server(folder / "data", "--upstream", upstream.url) as running:
        yield running


def test_the_head_reaches_the_upstream_unchanged(server: Opentrail) -> None:
    odd = "/bucket//a/../b%2Fc%20d?list-type=2&prefix=%2B+x"
    sent = get(odd, "X-Odd-CASE: a  b", "x-amz-meta-u: ü é", "Accept-Encoding: identity")
    status, _, body = Wire.to(server.url).send(sent).answer()
    assert status == 200
    assert body == sent.encode()


def test_hop_by_hop_headers_stay_on_their_hop(server: Opentrail) -> None:
    wire = Wire.to(server.url).send(
        get("/b/k", "Connection: keep-alive, X-Private", "X-Private: 1", "Keep-Alive: 5", "TE: x")
    )
    body = wire.answer()[2].lower()
    for name in (b"connection", b"x-private", b"keep-alive", b"te:"):
        assert b"\r\n" + name not in body


def test_a_connection_serves_pipelined_calls_in_order(server: Opentrail) -> None:
    wire = Wire.to(server.url)
    wire.send("".join(get(f"/bucket/key-{number}") for number in range(40)))
    for number in range(40):
        assert f"/bucket/key-{number} ".encode() in wire.answer()[2]


def test_a_large_body_passes_both_ways_unchanged(server: Opentrail) -> None:
    wire = Wire.to(server.url).send(put(LARGE))
    assert wire.answer()[2].endswith(LARGE)
    wire.send(get())
    assert wire.answer()[0] == 200


def test_a_chunked_body_passes_unchanged(server: Opentrail) -> None:
    head = f"PUT /b/k HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('s3')}\r\n"
    wire = Wire.to(server.url).send(head + "Transfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(LARGE), 100_000):
        piece = LARGE[start : start + 100_000]
        wire.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    status, _, body = wire.send(b"0\r\n\r\n").answer()
    assert status == 200
    assert body.endswith(LARGE)


def test_a_request_may_arrive_byte_by_byte(server: Opentrail) -> None:
    wire = Wire.to(server.url)
    for byte in put(b"12345"):
        wire.send(bytes([byte]))
    assert wire.answer()[2].endswith(b"\r\n\r\n12345")


def test_http_1_0_connection_is_closed(server: Opentrail) -> None:
    wire = Wire.to(server.url).send(f"GET /b/k HTTP/1.0\r\nAuthorization: {scope('s3')}\r\n\r\n")
    status, headers, _ = wire.answer()
    assert status == 200
    assert headers["connection"] == "close"
    assert wire.rest() == b""


def test_connection_close_is_obeyed(server: Opentrail) -> None:
    wire = Wire.to(server.url).send(get("/b/k", "Connection: close"))
    assert wire.answer()[1]["connection"] == "close"
    assert wire.rest() == b""


REFUSED = {
    "both lengths": "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "signed length": "Content-Length: +3\r\n\r\nabc",
    "odd coding": "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before the colon": "Content-Length : 3\r\n\r\nabc",
    "folded header": "X-A: b\r\n c\r\n\r\n",
    "underscore": "Content_Length: 3\r\n\r\n",
    "two hosts": "Host: other\r\n\r\n",
    "two signers": f"Authorization: {scope('iam')}\r\n\r\n",
    "bad chunk size": "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a NUL": "X-A: \0\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_ambiguous_request_is_refused(
    server: Opentrail, forwarded: list[bytes], name: str
) -> None:
    target = f"/refused/{name.replace(' ', '-')}"
    head = f"POST {target} HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('iam')}\r\n"
    wire = Wire.to(server.url).send(head + REFUSED[name])
    status = wire.answer()[0]
    assert 400 <= status < 600
    assert wire.rest() == b"", "the connection must be closed"
    if name != "bad chunk size":
        assert not [head for head in forwarded if target.encode() in head], "it was forwarded"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET http://elsewhere/ HTTP/1.1", 400),
        ("CONNECT elsewhere:443 HTTP/1.1", 501),
        ("TRACE / HTTP/1.1", 501),
        ("GET / HTTP/1.2", 400),
        ("GET / HTTP/2.0", 505),
        ("GET /a#b HTTP/1.1", 400),
        (f"GET /{'x' * 20_000} HTTP/1.1", 414),
        ("nonsense", 400),
    ],
)
def test_odd_first_lines_are_refused(server: Opentrail, line: str, status: int) -> None:
    wire = Wire.to(server.url).send(f"{line}\r\nHost: h\r\n\r\n")
    assert wire.answer()[0] == status


def test_a_trailer_adds_nothing_to_the_checked_head(server: Opentrail) -> None:
    """The upstream echoes the request."""
    head = f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('dynamodb')}\r\n"
    head += "X-Amz-Target: DynamoDB_20120810.DescribeTable\r\nTransfer-Encoding: chunked\r\n\r\n"
    trailer = "X-Amz-Target: DynamoDB_20120810.DeleteTable\r\nHost: other\r\nX-More: x\r\n\r\n"
    status, _, echoed = Wire.to(server.url).send(f"{head}2\r\n{{}}\r\n0\r\n{trailer}").answer()
    assert status == 200
    assert b"DescribeTable" in echoed
    assert b"DeleteTable" not in echoed
    assert b"other" not in echoed
    assert b"X-More" not in echoed


@pytest.mark.parametrize("name", ["x-amz-copy-source", "X-Amz-Acl", "content-type"])
def test_connection_cannot_hide_a_recorded_header(server: Opentrail, name: str) -> None:
    hiding = get("/bucket/key", f"{name}: /src/key", f"Connection: close, {name}")
    assert Wire.to(server.url).send(hiding).answer()[0] == 400


def test_repeated_protocol_switch_requests_get_answers(server: Opentrail) -> None:
    asking = get("/bucket/key", "Connection: Upgrade", "Upgrade: h2c")
    wire = Wire.to(server.url).send(asking * 1_200)
    for _ in range(1_200):
        assert wire.answer()[0] == 200


ASKING = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")


@pytest.mark.parametrize("apart", [False, True], ids=["in one piece", "head and body apart"])
@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
def test_body_behind_a_protocol_switch_is_no_call(
    server: Opentrail, upgrade: str, apart: bool
) -> None:
    hidden = get("/bucket/hidden-call").encode()
    asking = ("Connection: Upgrade", f"Upgrade: {upgrade}")
    head, _, body = put(hidden, "/bucket/key", *asking).partition(b"\r\n\r\n")
    wire = Wire.to(server.url).send(head + b"\r\n\r\n" + (b"" if apart else body))
    if apart:
        for number in range(len(body)):
            wire.send(body[number : number + 1])
    assert wire.answer()[2].endswith(hidden)
    wire.send(get("/bucket/next"))
    assert b"/bucket/next " in wire.answer()[2]
    keys = [(r["requestParameters"] or {}).get("key") for r in server.records()]
    assert keys.count("hidden-call") == 0


def test_a_chunked_body_behind_a_protocol_switch_passes(server: Opentrail) -> None:
    head = get("/b/k", *ASKING, "Transfer-Encoding: chunked").replace("GET", "PUT", 1)
    wire = Wire.to(server.url).send(f"{head}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n{get('/b/then')}")
    assert wire.answer()[2].endswith(b"abcde")
    assert b"/b/then " in wire.answer()[2]


@pytest.mark.parametrize(
    "start",
    [
        "X-A: ",
        "Host: h\r\n\r\n",
        "Host: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
        "Host: h\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    ],
    ids=["header", "target of the next request", "trailer", "chunk extension"],
)
def test_unknown_data_is_read_up_to_a_limit(server: Opentrail, start: str) -> None:
    wire = Wire.to(server.url).send(f"GET /b/k HTTP/1.1\r\n{start}")
    # The endpoint reads up to two megabytes before its answer, and up to eight after it.
    limit = 12_000_000 + socket_buffers()
    sent, piece = 0, b"a" * 65536
    with contextlib.suppress(ConnectionError):
        while sent < limit:
            wire.socket.sendall(piece)
            sent += len(piece)
    assert sent < limit


def test_a_request_without_host_is_refused(server: Opentrail) -> None:
    assert Wire.to(server.url).send("GET / HTTP/1.1\r\n\r\n").answer()[0] == 400


@pytest.mark.parametrize("host", ["x y", "user@h", "h/path", "h?a", "h\\i"])
def test_an_invalid_host_is_refused(server: Opentrail, host: str) -> None:
    assert Wire.to(server.url).send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").answer()[0] == 400


def test_too_many_headers_are_refused(server: Opentrail) -> None:
    many = [f"X-{number}: y" for number in range(300)]
    assert Wire.to(server.url).send(get("/b/k", *many)).answer()[0] == 431


def test_each_call_of_these_tests_has_one_record(server: Opentrail) -> None:
    marker = "only-once"
    Wire.to(server.url).send(get(f"/bucket/{marker}")).answer()
    records = [r for r in server.records() if (r["requestParameters"] or {}).get("key") == marker]
    assert len(records) == 1
    assert records[0]["sourceIPAddress"] == "127.0.0.1"


# The body after a request to switch protocols


class Callbacks:
    """The callbacks in order; pieces of a target and of a body are joined."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.body = self.target = b""

    def on_message_begin(self) -> None:
        self.names.append("begin")

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self.names.append(f"{name.decode()}: {value.decode()}")

    def on_headers_complete(self) -> None:
        self.names.append("head")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.names.append("end")


@pytest.mark.hypothesis
@given(st.binary(min_size=1, max_size=200), st.booleans(), st.data())
def test_body_and_next_request_pass_without_head(
    body: bytes, chunked: bool, data: st.DataObject
) -> None:
    callbacks = Callbacks()
    folded = {"transfer-encoding": "chunked"} if chunked else {"content-length": str(len(body))}
    parser = after_head(callbacks, framing_of(folded))
    assert callbacks.names == []
    framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    sent = framed + b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
    cut = data.draw(st.integers(0, len(sent)))
    for piece in (sent[:cut], sent[cut:]):
        parser.feed_data(piece)
    assert callbacks.body == body
    assert callbacks.target == b"/next"
    assert callbacks.names == ["end", "begin", "Host: h", "head", "end"]
