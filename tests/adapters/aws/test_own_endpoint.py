"""Signed calls to an endpoint, answered by an HTTP server here."""

from __future__ import annotations

import pytest

from opentrail.adapters.aws.object_store import S3Access
from opentrail.adapters.aws.own_endpoint import BotocoreEndpoint
from opentrail.core.errors import ServiceError
from tests.fakes import asynchronous
from tests.stub_upstream import RawRequest, StubUpstream

AGENT = "Mozilla/5.0 (X11; Linux x86_64)"


CALLER = (AGENT, None)


def endpoint(url: str) -> BotocoreEndpoint:
    async def access(_service: str, user: str | None) -> S3Access:
        return S3Access(url, f"AKIA{user.upper()}" if user else "AKIAEXAMPLE", "secret")

    return BotocoreEndpoint(access)


def answering(status: bytes, body: bytes) -> StubUpstream:
    def answer(_request: RawRequest) -> bytes:
        return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)

    return StubUpstream(keep=True, answer=answer)


@asynchronous
async def test_cloudtrail_call_is_signed_and_its_answer_unchanged() -> None:
    with answering(b"400 Bad Request", b'{"__type":"X"}') as server:
        given = b'{"Name":"one"}'
        answer = await endpoint(server.url).cloudtrail("GetTrail", "eu-west-1", CALLER, given)
    assert answer == (400, b'{"__type":"X"}')
    (request,) = server.requests
    assert request.body == given
    assert request.header("x-amz-target").endswith("CloudTrail_20131101.GetTrail")
    assert request.header("user-agent") == AGENT
    assert "AKIAEXAMPLE/" in request.header("authorization")
    assert "/eu-west-1/cloudtrail/aws4_request" in request.header("authorization")


@asynchronous
async def test_other_services_get_the_same_agent() -> None:
    with StubUpstream(keep=True) as server:
        given = {"Bucket": "evidence"}
        await endpoint(server.url).call("s3", "CreateBucket", "us-east-1", CALLER, given)
    (request,) = server.requests
    assert (request.method, request.target) == ("PUT", "/evidence")
    assert request.header("user-agent") == AGENT


@asynchronous
async def test_each_user_has_a_key() -> None:
    with StubUpstream(keep=True) as server:
        called = endpoint(server.url)
        await called.call("s3", "CreateBucket", "us-east-1", (AGENT, "ann"), {"Bucket": "one"})
        await called.cloudtrail("GetTrail", "us-east-1", (AGENT, "bob"), b"{}")
    keys = [
        request.header("authorization").partition("Credential=")[2] for request in server.requests
    ]
    assert [key.partition("/")[0] for key in keys] == ["AKIAANN", "AKIABOB"]


@asynchronous
async def test_a_refusal_has_the_code_of_the_service() -> None:
    error = b"<Error><Code>BucketAlreadyExists</Code><Message>taken</Message></Error>"
    call = ("s3", "CreateBucket", "us-east-1", CALLER, {"Bucket": "evidence"})
    with (
        answering(b"409 Conflict", error) as server,
        pytest.raises(ServiceError, match="s3:CreateBucket: taken") as raised,
    ):
        await endpoint(server.url).call(*call)
    assert raised.value.code == "BucketAlreadyExists"


@asynchronous
async def test_a_silent_endpoint_is_an_error() -> None:
    with pytest.raises(ServiceError, match="cloudtrail:GetTrail"):
        await endpoint("http://127.0.0.1:9").cloudtrail("GetTrail", "us-east-1", CALLER, b"{}")
