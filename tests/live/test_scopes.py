"""Credential scopes that AWS would not accept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opentrail.commands.sandbox import ADMIN_KEY_ID
from tests.capture.proxy.wires import Wire, ok, scripted
from tests.live.processes import opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.campaign]

SCOPES = (
    "20200101/../x/cloudtrail/aws4_request",
    "20200101/x/cloudtrail/aws4_request",
    "20200101/../cloudtrail/aws4_request",
    "20200101//cloudtrail/aws4_request",
    "today/us-east-1/cloudtrail/aws4_request",
    "20200101/us-east-1/cloudtrail/request",
)


def call(scope: str, target: str, body: str = "{}") -> str:
    return (
        f"POST / HTTP/1.1\r\nHost: h\r\nX-Amz-Target: {target}\r\n"
        f"Authorization: AWS4-HMAC-SHA256 Credential={ADMIN_KEY_ID}/{scope},"
        f" SignedHeaders=host, Signature={'0' * 64}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )


@pytest.mark.parametrize("recorders", ["1", "2"])
def test_the_api_refuses_a_malformed_scope(tmp_path: Path, recorders: str) -> None:
    flags = ("--upstream", "http://127.0.0.1:9", "--recorders", recorders)
    trail = json.dumps({"Name": "my-trail", "S3BucketName": "my-bucket"})
    with opentrail_server(tmp_path / "data", *flags) as server:
        for scope in SCOPES:
            target = "CloudTrail_20131101.CreateTrail"
            status, _, body = Wire.to(server.url).send(call(scope, target, trail)).answer()
            assert (status, json.loads(body)["__type"]) == (400, "InvalidSignatureException")
            assert "Credential should be scoped" in json.loads(body)["Message"]
        records = server.records()
        assert [r["errorCode"] for r in records] == ["InvalidSignatureException"] * len(SCOPES)
        assert {r["awsRegion"] for r in records} == {"us-east-1"}


@pytest.mark.parametrize(
    ("scope", "region", "noted"),
    [
        ("20200101/garage/dynamodb/aws4_request", "garage", None),
        ("20200101/Not_One/dynamodb/aws4_request", "us-east-1", "Not_One"),
    ],
)
def test_a_forwarded_call_is_left_to_its_upstream(
    tmp_path: Path, scope: str, region: str, noted: str | None
) -> None:
    """Stores have Regions such as `garage`; records leave out invalid Regions."""
    heads: list[bytes] = []

    def upstream(wire: Wire) -> None:
        heads.append(wire.request()[0])
        wire.send(ok(b"{}"))

    with (
        scripted(upstream) as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url) as server,
    ):
        sent = call(scope, "DynamoDB_20120810.ListTables")
        assert Wire.to(server.url).send(sent).answer()[0] == 200
        (record,) = server.records()
    assert scope.encode() in heads[0]
    assert record["awsRegion"] == region
    block = record["additionalEventData"]["opentrail"]
    assert block.get("region") == noted
    assert ("valid region" in block.get("credentialScope", "")) == (noted is not None)
