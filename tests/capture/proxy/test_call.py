"""The knowledge about a call at each step."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from opentrail.capture.proxy.bodies import Flow, Incoming
from opentrail.capture.proxy.call import Call
from opentrail.capture.proxy.head import Head, Headers
from opentrail.capture.proxy.upstream import AnswerHead
from opentrail.capture.record.assemble import Assembler
from opentrail.capture.record.client_address import Networks, network
from opentrail.capture.record.exchange import Exchange
from opentrail.core.identity import unknown
from opentrail.wire.routing import Router
from opentrail.wire.service_models import ServiceCatalog
from tests.capture.proxy.wires import scope
from tests.fakes import SettableClock, run

ROUTER = Router(ServiceCatalog(), {"localhost"})
FORM = (b"Content-Type", b"application/x-www-form-urlencoded")


def signed(service: str, *more: tuple[bytes, bytes], host: bytes = b"h") -> Headers:
    return [(b"Host", host), (b"Authorization", scope(service).encode()), *more]


def transcript(
    method: bytes, target: bytes, headers: Headers, body: bytes = b"", complete: bool = True
) -> Call:
    flow = Flow(lambda: None, lambda: None)
    if body:
        flow.feed(body)
    if complete:
        flow.finish()
    incoming = Incoming(Head(method, target, "1.1", headers), flow, False, True)
    endpoint = SimpleNamespace(
        router=ROUTER,
        clock=SettableClock(),
        networks=Networks([network("192.0.2.0/24")]),
        recorder=SimpleNamespace(identity=lambda key: unknown("123456789012", key)),
    )
    client: Any = SimpleNamespace(endpoint=endpoint, source_ip="192.0.2.1", tls=None)
    made = Call(client, incoming)
    made.identify()
    return made


def test_small_body_behind_its_head_names_the_operation() -> None:
    made = transcript(b"POST", b"/", signed("iam", FORM), b"Action=ListUsers&Version=2010-05-08")
    assert made.route.operation == "ListUsers"
    assert made.is_form
    assert made.credential is not None
    assert made.credential.service == "iam"


def test_a_waiting_call_keeps_its_first_caller() -> None:
    """Its key may be deleted, and its user renamed, while other large calls are recorded."""
    made = transcript(b"POST", b"/", signed("iam", FORM), b"Action=ListUsers&Version=2010-05-08")
    made.received.add(b" " * 2 * 1024 * 1024)
    recorder: Any = made.endpoint.recorder
    exchanges: list[Exchange] = []

    @asynccontextmanager
    async def turn() -> AsyncIterator[None]:
        recorder.identity = None
        yield

    async def record_or_count(exchange: Exchange) -> None:
        exchanges.append(exchange)

    recorder.turn, recorder.record_or_count = turn(), record_or_count
    run(made.record(lambda: made.exchange(made.sent.content())))
    record = Assembler(lambda key: unknown("210987654321", key)).assemble(exchanges[0]).record
    assert record["recipientAccountId"] == "123456789012"


def test_later_body_names_the_operation_of_the_exchange() -> None:
    made = transcript(b"POST", b"/", signed("iam", FORM), complete=False)
    assert made.route.operation is None
    body = b"Action=ListUsers&Version=2010-05-08"
    made.sent.add(body)
    assert made.exchange(made.sent.content()).route.operation == "ListUsers"


def test_an_unreadable_operation_still_makes_an_exchange(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = transcript(b"POST", b"/", signed("iam", FORM), complete=False)
    made.sent.add(b"Action=ListUsers")

    def failing(*_: object) -> None:
        raise KeyError("Action")

    monkeypatch.setattr(ROUTER, "identify", failing)
    for _ in range(2):
        exchange = made.exchange(made.sent.content())
        assert exchange.route == made.route
        assert exchange.request.body == b"Action=ListUsers"


def test_objects_are_counted_and_not_stored() -> None:
    made = transcript(b"PUT", b"/bucket/key", signed("s3"), complete=False)
    made.sent.add(b"x" * 1000)
    exchange = made.exchange(made.sent.content())
    assert (exchange.bytes_in, exchange.request.body) == (1000, b"")
    assert not exchange.request.body_is_whole


def test_an_answer_is_kept_only_for_the_record() -> None:
    for operation, kept in ((b"GetUser", b""), (b"CreateUser", b"<answer/>")):
        body = b"Action=%s&Version=2010-05-08&UserName=x" % operation
        made = transcript(b"POST", b"/", signed("iam", FORM), body)
        made.drop_unrecorded_answer(AnswerHead(200, b"OK", []))
        made.received.add(b"<answer/>")
        response = made.answered(AnswerHead(200, b"", [])).response
        assert response is not None
        assert (response.body, response.body_is_whole) == (kept, bool(kept))
        assert made.exchange(b"").bytes_out == 9


def test_an_error_is_always_kept() -> None:
    body = b"Action=GetUser&Version=2010-05-08&UserName=x"
    made = transcript(b"POST", b"/", signed("iam", FORM), body)
    made.drop_unrecorded_answer(AnswerHead(404, b"Not Found", []))
    made.received.add(b"<error/>")
    response = made.answered(AnswerHead(404, b"", [])).response
    assert response is not None
    assert response.body == b"<error/>"


def test_an_oversized_body_leaves_its_length_and_hash() -> None:
    target = (b"X-Amz-Target", b"DynamoDB_20120810.PutItem")
    made = transcript(b"POST", b"/", signed("dynamodb", target), complete=False)
    for _ in range(17):
        made.sent.add(b"x" * 1024 * 1024)
    noted = made.exchange(made.sent.content()).notes["oversizeRequestBody"]
    assert noted["bytes"] == 17 * 1024 * 1024
    assert len(noted["sha256"]) == 64


@pytest.mark.parametrize("headers", [signed("iam", FORM), [(b"Host", b"h"), FORM]])
def test_an_oversized_form_has_an_operation_without_parameters(headers: Headers) -> None:
    made = transcript(b"POST", b"/", headers, complete=False)
    made.sent.add(b"Action=CreateUser&Version=2010-05-08&UserName=")
    for _ in range(17):
        made.sent.add(b"x" * 1024 * 1024)
    exchange = made.exchange(made.sent.content())
    assert exchange.route.operation == "CreateUser"
    assert exchange.request.body == b""
    assert not exchange.request.body_is_whole
    record = Assembler(lambda key: unknown("123456789012", key)).assemble(exchange).record
    assert record["eventName"] == "CreateUser"
    assert record["requestParameters"] is None


def test_large_answer_is_hashed_and_its_body_dropped() -> None:
    target = (b"X-Amz-Target", b"DynamoDB_20120810.CreateTable")
    made = transcript(b"POST", b"/", signed("dynamodb", target), b"{}")
    for _ in range(17):
        made.received.add(b"x" * 1024 * 1024)
    exchange = made.answered(AnswerHead(200, b"", []))
    assert exchange.response is not None
    assert (exchange.response.body_is_whole, exchange.bytes_out) == (False, 17 * 1024 * 1024)
    whole = hashlib.sha256(b"x" * 17 * 1024 * 1024).hexdigest()
    assert exchange.notes["oversizeAnswerBody"] == {"bytes": 17 * 1024 * 1024, "sha256": whole}


def test_a_trusted_proxy_sets_the_callers_address() -> None:
    forwarded = (b"X-Forwarded-For", b"203.0.113.9")
    assert transcript(b"GET", b"/b/k", signed("s3")).exchange(b"").source_ip == "192.0.2.1"
    made = transcript(b"GET", b"/b/k", signed("s3", forwarded))
    assert made.exchange(b"").source_ip == "203.0.113.9"


def test_target_and_host_are_read_unchanged() -> None:
    made = transcript(b"GET", b"/k%20k//?a=%2F&b", signed("s3", host=b"logs.localhost:4747"))
    assert made.path_and_query == ("/k%20k//", "a=%2F&b")
    assert made.bucket_in_host == "logs"
    assert made.method == "GET"
