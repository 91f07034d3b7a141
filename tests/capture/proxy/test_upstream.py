"""Upstreams of all kinds: their answers at the client and in the record."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from opentrail.capture.proxy.upstream import Upstream, Upstreams
from opentrail.core.errors import UsageError
from tests.capture.proxy.wires import (
    GET,
    HEAD,
    TIMEOUT_SECONDS,
    Script,
    Wire,
    between,
    ok,
    scope,
    scripted,
)
from tests.live.processes import opentrail_server

pytestmark = pytest.mark.live


UNSOLICITED = (ok(b"EVIL"), b"HTTP/1.1 200 OK\r\nX-Pois", b"HTTP/1.1 200 OK\r\n", b"garbage")


def test_unsolicited_bytes_of_an_upstream_are_dropped(tmp_path: Path) -> None:
    def overflowing(more: bytes) -> Script:
        def script(wire: Wire) -> None:
            wire.request()
            wire.send(ok(b"ok") + more)
            wire.rest()

        return script

    with between(tmp_path, *map(overflowing, UNSOLICITED * 3)) as (server, upstream):
        wire = Wire.to(server.url)
        for count, more in enumerate(UNSOLICITED * 3, 1):
            status, headers, body = wire.send(GET).answer()
            assert (status, body) == (200, b"ok"), more
            assert "x-pois" not in headers, more
            assert upstream.connections == count, (more, "such a connection is not used again")
        assert wire.buffer == b""


def test_trailer_of_an_answer_is_not_a_header(tmp_path: Path) -> None:
    def trailing(wire: Wire) -> None:
        wire.request()
        wire.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
            b"Set-Cookie: a=b\r\n\r\n"
        )

    with between(tmp_path, trailing) as (server, _):
        _, headers, body = Wire.to(server.url).send(GET).answer()
        assert body == b"ok"
        assert "set-cookie" not in headers


def test_answers_of_all_framings_arrive_whole(tmp_path: Path) -> None:
    """Another call follows each, so that a wrong end would show."""

    def framings(wire: Wire) -> None:
        wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        wire.request()
        wire.send(b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n")
        wire.request()
        wire.send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")
        wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")

    def next_one(wire: Wire) -> None:
        wire.request()
        wire.send(ok(b"next"))

    with between(tmp_path, framings, next_one) as (server, _):
        wire = Wire.to(server.url)
        assert wire.send(GET).answer()[2] == b"hello"
        assert wire.send(GET).answer()[:1] == (204,)
        assert wire.send(GET).answer()[0] == 304
        assert wire.send(GET).answer()[2] == b""
        assert wire.send(GET).answer()[2] == b"until the end"
        assert wire.send(GET).answer()[2] == b"next"


def test_answer_to_head_has_a_length_without_body(tmp_path: Path) -> None:
    def heads(wire: Wire) -> None:
        for _ in range(2):
            wire.request()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")
        wire.request()
        wire.send(ok(b"body"))

    with between(tmp_path, heads) as (server, upstream):
        wire = Wire.to(server.url)
        for _ in range(2):
            wire.send(GET.replace("GET", "HEAD"))
            assert wire.answer(head_request=True)[1]["content-length"] == "12345"
        assert wire.send(GET).answer()[2] == b"body"
        assert upstream.connections == 1


def test_interim_answers_pass(tmp_path: Path) -> None:
    def hesitant(wire: Wire) -> None:
        wire.until(b"\r\n\r\n")
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert wire.exactly(5) == b"hello"
        wire.send(ok(b"thanks"))

    with between(tmp_path, hesitant) as (server, upstream):
        wire = Wire.to(server.url)
        put = f"PUT /b/k HTTP/1.1\r\n{HEAD}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        assert wire.send(put).answer()[0] == 100
        assert wire.send(b"hello").answer()[2] == b"thanks"
        assert not upstream.problems


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PUT = f"PUT /b/k HTTP/1.1\r\n{HEAD}Content-Length: 5\r\n"
ASKING = PUT + "Expect: 100-continue\r\n\r\n"


def test_a_client_gets_one_request_to_continue(tmp_path: Path) -> None:
    """Moto sends two; a client would read the second one as the answer to its next call."""

    def twice(wire: Wire) -> None:
        while True:
            wire.until(b"\r\n\r\n")
            wire.send(CONTINUE * 2)
            assert wire.exactly(5) == b"hello"
            wire.send(CONTINUE + ok(b"thanks"))

    with between(tmp_path, twice) as (server, upstream):
        wire = Wire.to(server.url)
        for _ in range(3):
            assert wire.send(ASKING).until(b"\r\n\r\n") == CONTINUE
            assert wire.send(b"hello").answer()[2] == b"thanks"
            assert wire.buffer == b""
        assert upstream.connections == 1


NOT_WAITING = [
    ASKING + "hello",  # its body has begun
    PUT + "\r\nhello",
    PUT.replace("HTTP/1.1", "HTTP/1.0") + "Expect: 100-continue\r\n\r\nhello",
    PUT.replace(": 5", ": 0") + "Expect: 100-continue\r\n\r\n",
    f"GET /b/k HTTP/1.1\r\n{HEAD}Expect: 100-continue\r\n\r\n",
]


def test_client_that_does_not_wait_gets_no_continue(tmp_path: Path) -> None:
    def eager(wire: Wire) -> None:
        wire.request()
        wire.send(CONTINUE + ok(b"thanks") + CONTINUE)
        wire.rest()

    with between(tmp_path, eager) as (server, _):
        for request in NOT_WAITING * 3:
            status, _, body = Wire.to(server.url).send(request).answer()
            assert (status, body) == (200, b"thanks"), request


def test_other_interim_answers_pass_without_framing(tmp_path: Path) -> None:
    def hinting(wire: Wire) -> None:
        wire.request()
        wire.send(
            b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n"
            b"Content-Length: 0\r\nConnection: keep-alive\r\n\r\n"
        )
        wire.send(ok(b"thanks"))

    with between(tmp_path, hinting) as (server, _):
        wire = Wire.to(server.url).send(GET)
        assert wire.answer()[0] == 102
        assert wire.answer()[:2] == (103, {"link": "</a>"})
        assert wire.answer()[2] == b"thanks"
        old = Wire.to(server.url).send(GET.replace("HTTP/1.1", "HTTP/1.0"))
        assert old.answer()[2] == b"thanks"


ODD_INTERIM = [
    b"HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\nEVIL",
    b"HTTP/1.1 102 Processing\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nEVIL\r\n0\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n" * 1_000,
]


def test_endless_or_filled_interim_answers_are_refused(tmp_path: Path) -> None:
    def strange(interim: bytes) -> Script:
        def script(wire: Wire) -> None:
            wire.request()
            wire.send(interim + ok(b"thanks"))
            wire.rest()

        return script

    with between(tmp_path, *map(strange, ODD_INTERIM)) as (server, upstream):
        for count, interim in enumerate(ODD_INTERIM, 1):
            wire = Wire.to(server.url).send(GET)
            answers = [wire.answer()]
            while answers[-1][0] < 200:
                answers.append(wire.answer())
            assert answers[-1][0] == 502, interim[:80]
            assert b"EVIL" not in answers[-1][2], interim[:80]
            assert len(answers) < 200, interim[:80]
            assert upstream.connections == count
        assert [record["errorCode"] for record in server.records()] == ["BadGateway"] * 3


def test_call_without_answer_has_its_records_request_id(tmp_path: Path) -> None:
    def silent(wire: Wire) -> None:
        wire.request()

    with between(tmp_path, silent) as (server, _):
        status, headers, body = Wire.to(server.url).send(GET).answer()
        (record,) = server.records()
        assert (status, headers["x-amzn-requestid"]) == (502, record["requestID"])
        assert f"<RequestId>{record['requestID']}</RequestId>".encode() in body


def test_a_connection_closed_by_the_upstream_is_redialled(tmp_path: Path) -> None:
    def once(wire: Wire) -> None:
        wire.request()
        wire.send(ok(b"once"))

    with between(tmp_path, once) as (server, upstream):
        wire = Wire.to(server.url)
        for _ in range(5):
            assert wire.send(GET).answer()[2] == b"once"
        assert upstream.connections >= 5


def test_a_long_answer_streams_before_it_is_complete(tmp_path: Path) -> None:
    """The client has half of the first megabyte before the upstream sends the second."""
    seen = threading.Event()

    def slow(wire: Wire) -> None:
        wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"a" * 1_000_000)
        assert seen.wait(TIMEOUT_SECONDS)
        wire.send(b"b" * 1_000_000)

    with between(tmp_path, slow) as (server, upstream):
        wire = Wire.to(server.url).send(GET)
        wire.until(b"\r\n\r\n")
        assert wire.exactly(500_000) == b"a" * 500_000
        seen.set()
        assert wire.exactly(1_500_000) == b"a" * 500_000 + b"b" * 1_000_000
        assert not upstream.problems


NONSENSE = (
    b"SSH-2.0-OpenSSH\r\n",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    b"",
)


def test_a_hostile_answer_gives_502_and_a_record(tmp_path: Path) -> None:
    def hostile(nonsense: bytes) -> Script:
        def script(wire: Wire) -> None:
            wire.request()
            wire.send(nonsense)

        return script

    with between(tmp_path, *map(hostile, NONSENSE)) as (server, upstream):
        for count, nonsense in enumerate(NONSENSE, 1):
            status, _, body = Wire.to(server.url).send(GET).answer()
            assert status == 502, nonsense
            assert b"<Code>BadGateway</Code>" in body, nonsense
            assert upstream.connections == count, (nonsense, "each script answers one call")
        records = server.records()
        assert len(records) == len(NONSENSE)
        assert {record["eventName"] for record in records} == {"GetObject"}
        assert {record["errorCode"] for record in records} == {"BadGateway"}


def test_a_client_that_leaves_early_is_recorded(tmp_path: Path) -> None:
    def answering(wire: Wire) -> None:
        wire.request()
        wire.send(ok(b"<done/>", "x-amz-request-id: SEEN"))

    with between(tmp_path, answering) as (server, _):
        Wire.to(server.url).send(GET).close()
        records: list[object] = []
        while not records:
            records = list(server.records())
        assert records[0]["requestID"] == "SEEN"  # type: ignore[index]


def test_an_endless_head_is_a_bad_gateway(tmp_path: Path) -> None:
    def endless(wire: Wire) -> None:
        wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\n")
        for _ in range(10_000):
            wire.send(b"X-A: " + b"b" * 8_000 + b"\r\n")

    with between(tmp_path, endless) as (server, _):
        assert Wire.to(server.url).send(GET).answer()[0] == 502
        (record,) = server.records()
        assert "endless head" in record["additionalEventData"]["opentrail"]["failure"]


def test_a_get_with_side_effects_is_not_resent(tmp_path: Path) -> None:
    requests = []

    def once(wire: Wire) -> None:
        wire.request()
        wire.send(ok(b"once"))
        requests.append(wire.request())  # and closes

    with between(tmp_path, once) as (server, _):
        wire = Wire.to(server.url)
        for target in ("/?Action=ConfirmSubscription&TopicArn=t&Token=x", "/?Action=Unknown"):
            asked = f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"
            assert wire.send(asked).answer()[2] == b"once", target
            assert wire.send(asked).answer()[0] == 502, target
            assert len(requests) == 1, target
            requests.clear()


def test_each_service_goes_to_its_own_upstream(tmp_path: Path) -> None:
    def named(name: bytes) -> Script:
        def script(wire: Wire) -> None:
            wire.request()
            wire.send(ok(name))

        return script

    with (
        scripted(named(b"s3")) as s3,
        scripted(named(b"sts")) as sts,
        scripted(named(b"rest")) as rest,
        opentrail_server(
            tmp_path / "data",
            *("--upstream", rest.url, "--upstream", f"s3={s3.url}", "--upstream", f"sts={sts.url}"),
        ) as server,
    ):
        for service, name in (("s3", b"s3"), ("sts", b"sts"), ("kinesis", b"rest")):
            head = f"Host: h\r\nAuthorization: {scope(service)}\r\n"
            sent = f"GET /?Action=X&Version=2011-06-15 HTTP/1.1\r\n{head}\r\n"
            assert Wire.to(server.url).send(sent).answer()[2] == name


def test_client_connection_holds_one_upstream_connection_at_most(tmp_path: Path) -> None:
    """Otherwise clients that alternate between services would exhaust the descriptors."""
    s3_is_closed, sts_is_closed = threading.Event(), threading.Event()

    def until_closed(closed: threading.Event) -> Script:
        def script(wire: Wire) -> None:
            for _ in range(2):
                wire.request()
                wire.send(ok())
            wire.rest()
            closed.set()

        return script

    with (
        scripted(until_closed(s3_is_closed)) as s3,
        scripted(until_closed(sts_is_closed)) as sts,
        opentrail_server(
            tmp_path / "data", "--upstream", f"s3={s3.url}", "--upstream", f"sts={sts.url}"
        ) as server,
    ):
        wire = Wire.to(server.url)
        for service in ("s3", "s3", "sts", "sts"):
            head = f"Host: h\r\nAuthorization: {scope(service)}\r\n"
            sent = f"GET /?Action=X&Version=2011-06-15 HTTP/1.1\r\n{head}\r\n"
            assert wire.send(sent).answer()[0] == 200
        assert s3_is_closed.wait(TIMEOUT_SECONDS)
        assert not sts_is_closed.is_set()
        assert (s3.connections, sts.connections) == (1, 1)


def test_upstream_urls_are_parsed_strictly() -> None:
    assert Upstream.parse("https://example.com").port == 443
    assert Upstream.parse("http://[::1]:9000").url == "http://[::1]:9000"
    for wrong in ("example.com", "ftp://x", "http://", "http://h/path", "http://u@h", "http://h:x"):
        with pytest.raises(UsageError):
            Upstream.parse(wrong)


def test_the_first_named_upstream_wins() -> None:
    one, other = Upstream("a", 1, False), Upstream("b", 2, False)
    upstreams = Upstreams(one, {"s3": other})
    assert upstreams.of("s3") == other
    assert upstreams.of(None, "sts") == one
    assert Upstreams(None, {}).of("sts") is None
