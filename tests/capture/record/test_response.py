"""What an answer adds to a record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from opentrail.capture.record.exchange import Described, Failure
from opentrail.capture.record.response import (
    add_error,
    answer_of,
    error_of,
    request_id_of,
    told_by_answer,
)
from opentrail.capture.record.rules import kind_of
from opentrail.wire.message import Response
from tests.factories import ACCOUNT, REGION, an_exchange

OWN = Described("orders.example.com", "PostOrders", False, {}, ACCOUNT, REGION, {})


def test_a_call_without_an_answer_has_neither_elements_nor_error() -> None:
    exchange = replace(an_exchange(), response=None)
    kind = kind_of(exchange.call.service, exchange.call.operation, None)
    assert answer_of(exchange, kind, None, {}) is None
    assert error_of(exchange) is None
    assert told_by_answer(exchange) is None


def test_why_there_is_no_answer_is_told_without_secrets() -> None:
    own: dict[str, Any] = {}
    exchange = replace(
        an_exchange(),
        failure=Failure("Error", "no connection to http://h/?access_token=CANARY"),
    )
    add_error({}, exchange, None, own)
    assert own["failure"].startswith("no connection to http://h/?access_token=")
    assert "CANARY" not in own["failure"]


@pytest.mark.parametrize(
    ("headers", "described", "found"),
    [
        ({"x-amzn-requestid": "ours"}, None, "ours"),
        ({"x-request-id": "theirs"}, OWN, "theirs"),
        ({"x-amzn-requestid": "ours", "x-request-id": "theirs"}, OWN, "theirs"),
    ],
)
def test_the_id_of_a_request_is_the_answers(
    headers: dict[str, str], described: Described | None, found: str
) -> None:
    answered = replace(an_exchange(), response=Response(200, headers, b""), described=described)
    assert request_id_of(answered) == found
    # Without one, each request gets its own.
    silent = replace(answered, response=None)
    assert len({request_id_of(silent), request_id_of(silent), found}) == 3


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (None, "IncompleteBody", "the client left"),
        (Response(200, {}, b""), "IncompleteBody", "the client left"),
        (Response(403, {}, b""), "AccessDenied", "the client left"),
        (
            Response(400, {}, b"<Error><Code>BadDigest</Code><Message>no</Message></Error>"),
            "BadDigest",
            "no",
        ),
    ],
)
def test_a_call_that_broke_off_has_an_error_whatever_was_answered(
    answer: Response | None, code: str, message: str
) -> None:
    failure = Failure("IncompleteBody", "the client left")
    error = error_of(replace(an_exchange(), response=answer, failure=failure))
    assert error is not None
    assert (error.code, error.message) == (code, message)


def test_a_service_of_ones_own_says_what_its_error_is() -> None:
    failed = replace(an_exchange(), described=replace(OWN, error="NotFound"))
    error = error_of(failed)
    assert error is not None
    record: dict[str, Any] = {}
    add_error(record, failed, error, {})
    assert record == {"errorCode": "NotFound"}
    assert error_of(replace(failed, described=OWN)) is None
