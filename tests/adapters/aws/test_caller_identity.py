"""GetCallerIdentity on moto, and on servers with useless answers."""

from __future__ import annotations

import json

import boto3
import pytest

from opentrail.adapters.aws.probe import CallerIdentity, caller_identity
from opentrail.wire.resign import UpstreamCredentials
from tests.live.processes import free_port, moto_server
from tests.stub_upstream import StubUpstream

ANY = UpstreamCredentials("test", "test")


@pytest.mark.slow
def test_moto_names_a_user_for_any_key() -> None:
    with moto_server() as url:
        fixed = CallerIdentity(
            "123456789012", "arn:aws:sts::123456789012:user/moto", "AKIAIOSFODNN7EXAMPLE"
        )
        assert caller_identity(url, ANY, None, 10) == fixed
        iam = boto3.client("iam", "us-east-1", endpoint_url=url, aws_access_key_id="test",
                           aws_secret_access_key="test")  # fmt: skip
        iam.create_user(UserName="Mary")
        made = iam.create_access_key(UserName="Mary")["AccessKey"]["AccessKeyId"]
        mary = caller_identity(url, UpstreamCredentials(made, "wrong"), None, 10)
        assert mary is not None
        assert mary.arn == "arn:aws:iam::123456789012:user/Mary"


def answering(body: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    "answer",
    [
        answering("<Error/>", "403 Forbidden"),
        answering(json.dumps({"Account": "123456789012"})),
        answering("<Account>12</Account><Arn>arn:aws:iam::12:root</Arn><UserId>1</UserId>"),
        answering("<Account>123456789012</Account><Arn>me</Arn>"),
    ],
)
def test_an_answer_may_have_no_identity(answer: bytes) -> None:
    with StubUpstream(answer=lambda _request: answer) as stub:
        assert caller_identity(stub.url, ANY, None, 10) is None


@pytest.mark.parametrize("key", ["a\nX-Evil: 1", "\u20ac"])
def test_invalid_key_for_a_header_is_an_error(key: str) -> None:
    with StubUpstream(keep=True) as stub:
        with pytest.raises(ConnectionError):
            caller_identity(stub.url, UpstreamCredentials(key, "x"), None, 10)
        assert all(b"X-Evil" not in request.head for request in stub.requests)


def test_invalid_http_is_an_error() -> None:
    not_http = StubUpstream(answer=lambda _request: b"no HTTP\r\n\r\n")
    with not_http as stub, pytest.raises(OSError, match="no HTTP"):
        caller_identity(stub.url, ANY, None, 10)


def test_an_upstream_out_of_reach_is_an_error() -> None:
    with pytest.raises(OSError, match="refused"):
        caller_identity(f"http://127.0.0.1:{free_port()}", ANY, None, 10)
