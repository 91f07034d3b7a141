"""A call's destination and signer are chosen before any byte of it leaves."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from opentrail.capture.proxy.rewriting import MAX_REWRITTEN, has_urls, with_own_urls
from opentrail.capture.proxy.upstream import AnswerHead, Upstream
from opentrail.wire.routing import NOTHING, Route
from tests.capture.proxy.wires import TIMEOUT_SECONDS, Wire, ok, scope, scripted
from tests.factories import catalog
from tests.fakes import run
from tests.live.processes import opentrail_server

pytestmark = pytest.mark.live


def test_an_upstreams_name_may_contain_service_and_region(tmp_path: Path) -> None:
    reached = threading.Event()

    def upstream(wire: Wire) -> None:
        reached.set()
        wire.request()
        wire.send(ok(b"x"))

    with scripted(upstream) as stub:
        port = stub.url.rpartition(":")[2]
        # Every name under .localhost is this machine (RFC 6761).
        address = f"http://{{service}}.{{region}}.localhost:{port}"
        with opentrail_server(tmp_path / "data", "--upstream", address) as server:
            odd = scope("monitoring", region="eu_west;1")
            route_of = "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: {}\r\n\r\n"
            assert Wire.to(server.url).send(route_of.format(odd)).answer()[0] == 400
            assert not reached.is_set()
            usual = scope("monitoring", region="eu-west-1")
            status, _, body = Wire.to(server.url).send(route_of.format(usual)).answer()
            if status == 502:
                assert b"monitoring.eu-west-1.localhost" in body, "named, where not resolved"
            else:
                assert reached.wait(TIMEOUT_SECONDS)
            assert len(server.records()) == 2


# URLs of the endpoint in answers


def route_of(service: str, operation: str) -> Route:
    return Route(catalog().services[service], operation, "json")


UPSTREAM = Upstream.parse("http://localstack:4566")


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (b'{"QueueUrl":"http://h:47/1/q"}', b'{"QueueUrl":"https://h:47/1/q"}'),
        (b'{"QueueUrl":"http:\\/\\/h:47\\/1"}', b'{"QueueUrl":"https:\\/\\/h:47\\/1"}'),
        (b"<U>http://H:47</U><U>http://h:47/a</U>", b"<U>https://h:47</U><U>https://h:47/a</U>"),
        (b"http://localhost:4566/1/q", b"https://h:47/1/q"),
        (b"http://127.0.0.1:4566/1/q http://localstack:4566/", b"https://h:47/1/q https://h:47/"),
        (b"http://sqs.us-east-1.localhost.localstack.cloud:4566/1/q", b"https://h:47/1/q"),
        (b"https://us-east-1.queue.localhost.localstack.cloud:4566/1/q", b"https://h:47/1/q"),
        (
            b"http://abc.lambda-url.us-east-1.localhost.localstack.cloud:4566/",
            b"https://abc.lambda-url.us-east-1.localhost.localstack.cloud:47/",
        ),
        (b"http://abc.execute-api.localhost:4566", b"https://abc.execute-api.localhost:47"),
        (b"http://localhost:45660/ http://localhost/ http://evil-localhost:4566/", None),
        (b"http://localhost:4566.org/ ftp://localhost:4566/", None),
        (b"http://h:470/ http://h:47.org/ http://x.h:47/", None),
        (b"https://h:47/ http://other/", None),
        (b"", None),
    ],
)
def test_urls_of_the_upstream_lead_to_the_endpoint(body: bytes, changed: bytes | None) -> None:
    length = (b"Content-Length", b"%d" % len(body))
    head = AnswerHead(200, b"OK", [length, (b"x-amz-crc32", b"1"), (b"A", b"b")])
    made = run(with_own_urls("h:47", True, UPSTREAM, head, body))
    assert made == (body if changed is None else changed)
    assert head.folded["content-length"] == str(len(made))
    assert ("x-amz-crc32" in head.folded) == (changed is None)


def test_urls_without_tls_keep_their_scheme() -> None:
    head = AnswerHead(200, b"OK", [(b"Content-Length", b"9")])
    upstream = Upstream.parse("https://emulator")
    made = run(with_own_urls("h", False, upstream, head, b"https://emulator/1 http://h/2"))
    assert made == b"http://h/1 http://h/2"


def test_only_operations_that_return_urls_are_rewritten() -> None:
    short = AnswerHead(200, b"OK", [(b"Content-Length", b"9")])
    assert has_urls(route_of("sqs", "CreateQueue"), short)
    assert has_urls(route_of("sqs", "ListQueues"), AnswerHead(200, b"OK", []))
    assert not has_urls(route_of("sqs", "ReceiveMessage"), short)
    assert not has_urls(route_of("dynamodb", "GetItem"), short)
    assert not has_urls(NOTHING, short)
    long = AnswerHead(200, b"OK", [(b"Content-Length", b"%d" % (MAX_REWRITTEN + 1))])
    assert not has_urls(route_of("sqs", "ListQueues"), long)
    packed = AnswerHead(200, b"OK", [(b"Content-Encoding", b"gzip")])
    assert not has_urls(route_of("sqs", "ListQueues"), packed)
