"""URLs of the endpoint in answers."""

from __future__ import annotations

import pytest

from opentrail.capture.proxy.answer_urls import MOST_BYTES, has_urls, with_https
from opentrail.capture.proxy.upstream import AnswerHead
from opentrail.wire.routing import NOTHING, Call
from tests.factories import catalog


def call(service: str, operation: str) -> Call:
    return Call(catalog().services[service], operation, "json")


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (b'{"QueueUrl":"http://h:47/1/q"}', b'{"QueueUrl":"https://h:47/1/q"}'),
        (b'{"QueueUrl":"http:\\/\\/h:47\\/1"}', b'{"QueueUrl":"https:\\/\\/h:47\\/1"}'),
        (b"<U>http://H:47</U><U>http://h:47/a</U>", b"<U>https://H:47</U><U>https://h:47/a</U>"),
        (b"http://h:470/ http://h:47.org/ http://x.h:47/", None),
        (b"https://h:47/ http://other/", None),
        (b"", None),
    ],
)
def test_only_the_endpoints_own_host_and_port_get_its_scheme(
    body: bytes, changed: bytes | None
) -> None:
    length = (b"Content-Length", b"%d" % len(body))
    head = AnswerHead(200, b"OK", [length, (b"x-amz-crc32", b"1"), (b"A", b"b")])
    made = with_https("h:47", head, body)
    assert made == (body if changed is None else changed)
    assert head.folded["content-length"] == str(len(made))
    assert ("x-amz-crc32" in head.folded) == (changed is None)


def test_only_operations_that_answer_such_urls_are_looked_at() -> None:
    short = AnswerHead(200, b"OK", [(b"Content-Length", b"9")])
    assert has_urls(call("sqs", "CreateQueue"), short)
    assert has_urls(call("sqs", "ListQueues"), AnswerHead(200, b"OK", []))
    assert not has_urls(call("sqs", "ReceiveMessage"), short)
    assert not has_urls(call("dynamodb", "GetItem"), short)
    assert not has_urls(NOTHING, short)
    long = AnswerHead(200, b"OK", [(b"Content-Length", b"%d" % (MOST_BYTES + 1))])
    assert not has_urls(call("sqs", "ListQueues"), long)
    packed = AnswerHead(200, b"OK", [(b"Content-Encoding", b"gzip")])
    assert not has_urls(call("sqs", "ListQueues"), packed)
