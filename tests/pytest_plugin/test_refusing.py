"""Hosts that AWS clients of a test may call."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config

from opentrail.pytest_plugin.session_server import OtherHostError, is_allowed, refuse_other_hosts


@pytest.mark.parametrize(
    ("url", "endpoint", "allowed"),
    [
        ("http://127.0.0.1:4566/a?b", "http://127.0.0.1:4566", ()),
        ("http://localhost:4566/", "http://127.0.0.1:4566", ()),
        ("http://reports.localhost:4566/", "http://127.0.0.1:4566", ()),
        ("http://reports.s3.aws.test:4566/", "http://aws.test:4566", ()),
        ("https://aws.test/", "https://aws.test:443", ()),
        ("http://other:1/", "http://127.0.0.1:4566", ("other",)),
        ("http://other:1/", "http://127.0.0.1:4566", ("a", "OTHER:1")),
        ("https://s3.amazonaws.com/", "http://127.0.0.1:4566", ("*",)),
    ],
)
def test_the_server_and_listed_hosts_are_allowed(
    url: str, endpoint: str, allowed: tuple[str, ...]
) -> None:
    assert is_allowed(url, endpoint, allowed)


@pytest.mark.parametrize(
    ("url", "endpoint", "allowed"),
    [
        ("https://s3.amazonaws.com/", "http://127.0.0.1:4566", ()),
        ("http://127.0.0.1:4567/", "http://127.0.0.1:4566", ()),
        ("http://evil127.0.0.1:4566/", "http://127.0.0.1:4566", ()),
        ("http://aws.test.evil:4566/", "http://aws.test:4566", ()),
        ("http://localhost:4566/", "http://aws.test:4566", ()),
        ("http://169.254.169.254/latest", "http://127.0.0.1:4566", ("169.254.169.254:81",)),
        ("http://user@s3.amazonaws.com:4566/", "http://127.0.0.1:4566", ()),
    ],
)
def test_other_hosts_are_refused(url: str, endpoint: str, allowed: tuple[str, ...]) -> None:
    assert not is_allowed(url, endpoint, allowed)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
def test_call_is_refused_once_and_names_its_line(
    monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    refuse_other_hosts(monkeypatch, "http://127.0.0.1:4566")
    client = boto3.client(
        "sts",
        region_name="us-east-1",
        aws_access_key_id="AKIAREAL",
        aws_secret_access_key="real",
        endpoint_url="https://sts.invalid",
        config=Config(retries={"mode": mode}),
    )
    with pytest.raises(OtherHostError) as refused:
        client.get_caller_identity()
    said = str(refused.value)
    assert said.startswith(f"POST https://sts.invalid/ ({__file__}:")
    assert "is refused: it is not the server of the fixture 'opentrail'" in said
    assert "Make clients after the fixture 'opentrail', and without endpoint_url" in said
    assert "real" not in said


def test_aiobotocores_clients_are_also_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class AIOHTTPSession:
        async def send(self, _request: AWSRequest) -> str:
            return "sent"

    module = ModuleType("aiobotocore.httpsession")
    module.AIOHTTPSession = AIOHTTPSession  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "aiobotocore.httpsession", module)
    refuse_other_hosts(monkeypatch, "http://127.0.0.1:4566")
    own, other = AWSRequest("GET", "http://127.0.0.1:4566/"), AWSRequest("GET", "https://aws.test/")
    assert asyncio.run(AIOHTTPSession().send(own)) == "sent"
    with pytest.raises(OtherHostError):
        asyncio.run(AIOHTTPSession().send(other))
