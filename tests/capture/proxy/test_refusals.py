"""Our own error answers, read by botocore's parsers."""

from __future__ import annotations

import botocore.parsers
import pytest
from botocore.retries.standard import ThrottledRetryableChecker

from opentrail.capture.proxy.refusals import Refusal, answer_of, throttled, unavailable
from opentrail.wire.routing import NOTHING, Route
from opentrail.wire.service_models import ServiceCatalog

REFUSAL = Refusal(502, "BadGateway", 'upstream <"x"> & co cannot be reached')


@pytest.mark.parametrize(
    ("protocol", "parser"),
    [
        ("json", "json"),
        ("rest-json", "rest-json"),
        ("query", "query"),
        ("ec2", "ec2"),
        ("rest-xml", "rest-xml"),
        ("cbor", "smithy-rpc-v2-cbor"),
    ],
)
def test_clients_of_each_protocol_read_code_and_message(protocol: str, parser: str) -> None:
    status, _, headers, body = answer_of(REFUSAL, Route(None, None, protocol))
    assert status == 502
    given = {name.decode().lower(): value.decode() for name, value in headers}
    parsed = botocore.parsers.create_parser(parser).parse(
        {"status_code": status, "headers": given, "body": body}, None
    )
    assert parsed["Error"]["Code"] == "BadGateway"
    assert parsed["Error"]["Message"] == REFUSAL.message
    assert given["content-length"] == str(len(body))


@pytest.mark.parametrize(
    ("service", "form", "parser"),
    [
        ("iam", True, "query"),
        ("ec2", True, "ec2"),
        ("sqs", True, "query"),
        ("lambda", False, "rest-json"),
        (None, True, "query"),
    ],
)
def test_an_unidentified_call_gets_its_services_error_format(
    service: str | None, form: bool, parser: str
) -> None:
    """A query call that is refused before its body arrives."""
    known = ServiceCatalog().services[service] if service else None
    status, _, headers, body = answer_of(REFUSAL, Route(known, None, None), form)
    given = {name.decode().lower(): value.decode() for name, value in headers}
    parsed = botocore.parsers.create_parser(parser).parse(
        {"status_code": status, "headers": given, "body": body}, None
    )
    assert parsed["Error"]["Code"] == "BadGateway"


def test_a_call_of_unknown_protocol_gets_xml() -> None:
    assert b"<Code>BadGateway</Code>" in answer_of(REFUSAL, NOTHING)[3]


@pytest.mark.parametrize("service", ["iam", "ec2", "s3", "dynamodb", "lambda", "cloudwatch"])
def test_throttling_has_the_error_code_that_sdks_retry(service: str) -> None:
    known = ServiceCatalog().services[service]
    refusal = throttled(Route(known, None, None), form=False)
    assert refusal.code in ThrottledRetryableChecker._THROTTLED_ERROR_CODES
    status, reason, headers, _ = answer_of(refusal, Route(known, None, None))
    assert status in (400, 429, 503)
    assert reason != b"Error"
    assert dict(headers)[b"Retry-After"] == b"1"


def test_unavailable_answers_ask_for_a_retry() -> None:
    refusal = unavailable("no room")
    headers = dict(answer_of(refusal, NOTHING)[2])
    assert refusal.status == 503
    assert headers[b"Retry-After"] == b"1"
