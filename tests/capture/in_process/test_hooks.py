"""Calls recorded from within the process: boto3 against a server, and moto's in-process mocks."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import botocore.parsers
import pytest
from botocore.awsrequest import AWSResponse
from moto import mock_aws

from opentrail.capture.in_process.hooks import BotocoreHook
from opentrail.capture.in_process.shipping import ServerShipper
from opentrail.commands.sandbox import ADMIN_KEY_ID
from opentrail.core.errors import RecordRefused
from tests.live.processes import Opentrail, moto_server, opentrail_server

pytestmark = pytest.mark.live


class Collector:
    """Keeps its records."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def ship(self, record: bytes) -> None:
        self.records.append(json.loads(record))


class Raw(io.BytesIO):
    """The raw response that an `AWSResponse` reads."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def session() -> boto3.session.Session:
    return boto3.session.Session(ADMIN_KEY_ID, "secret", region_name="eu-west-1")


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Records every session of an in-process mock."""
    found = Collector()
    hook = BotocoreHook(found)
    hook.attach_everywhere()
    with mock_aws():
        yield found
    hook.detach_everywhere()


def test_in_process_mock_calls_are_recorded_whole(collector: Collector) -> None:
    iam = session().client("iam")
    iam.create_user(UserName="Mary")
    with pytest.raises(iam.exceptions.EntityAlreadyExistsException):
        iam.create_user(UserName="Mary")
    first, second = collector.records
    assert first["eventName"] == "CreateUser"
    assert first["requestParameters"] == {"userName": "Mary"}
    assert first["responseElements"]["user"]["userName"] == "Mary"
    assert first["userIdentity"]["accessKeyId"] == ADMIN_KEY_ID
    assert second["errorCode"] == "EntityAlreadyExistsException"


def test_object_bodies_are_never_kept(collector: Collector) -> None:
    s3 = session().client("s3")
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="bucket", Key="key", Body=b"a-secret-object")
    assert s3.get_object(Bucket="bucket", Key="key")["Body"].read() == b"a-secret-object"
    assert [r["eventName"] for r in collector.records] == ["CreateBucket", "PutObject", "GetObject"]
    assert "a-secret-object" not in json.dumps(collector.records)
    put, got = (record["additionalEventData"] for record in collector.records[1:])
    assert (put["bytesTransferredIn"], got["bytesTransferredOut"]) == (15.0, 15.0)
    assert collector.records[0]["awsRegion"] == "eu-west-1"


def test_touched_resources_account_gets_a_copy(collector: Collector) -> None:
    role = "arn:aws:iam::999999999999:role/Theirs"
    session().client("sts").assume_role(RoleArn=role, RoleSessionName="mary")
    ours, theirs = collector.records
    assert (ours["eventName"], theirs["recipientAccountId"]) == ("AssumeRole", "999999999999")
    assert ours["sharedEventID"] == theirs["sharedEventID"]
    assert theirs["userIdentity"]["type"] == "AWSAccount"


def test_each_attempt_is_recorded_without_an_answer() -> None:
    found = Collector()
    own = session()
    BotocoreHook(found).attach(own)
    config = botocore.config.Config(retries={"total_max_attempts": 2, "mode": "standard"})
    client = own.client("sts", endpoint_url="http://127.0.0.1:9", config=config)
    with pytest.raises(botocore.exceptions.EndpointConnectionError):
        client.get_caller_identity()
    assert [r["eventName"] for r in found.records] == ["GetCallerIdentity"] * 2
    own_block = found.records[0]["additionalEventData"]["opentrail"]
    assert own_block["failure"].startswith("EndpointConnectionError")


def test_a_session_outside_the_server_reaches_its_history(tmp_path: Path) -> None:
    with (
        moto_server() as aws,
        opentrail_server(
            tmp_path / "data", "--upstream", aws, "--config", str(directory(tmp_path))
        ) as server,
    ):
        own = session()
        BotocoreHook(ServerShipper.of_data_dir(server.data_dir)).attach(own)
        own.client("iam", endpoint_url=aws).create_user(UserName="Mary")
        (record,) = server.records("ResourceName=Mary")
        assert record["userIdentity"]["userName"] == "John"
        assert record["userIdentity"]["type"] == "IAMUser"
        assert "IAM user John created IAM user Mary" in server.opentrail("who", "Mary").stdout


def test_server_knows_the_accounts_of_caller_and_role(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.toml"
    theirs.write_text(f'[directory.{ADMIN_KEY_ID}]\nuser = "carol"\naccount = "222222222222"\n')
    with (
        moto_server() as aws,
        opentrail_server(tmp_path / "data", "--upstream", aws, "--config", str(theirs)) as server,
    ):
        own = session()
        BotocoreHook(ServerShipper.of_data_dir(server.data_dir)).attach(own)
        role = "arn:aws:iam::222222222222:role/Auditor"
        own.client("sts", endpoint_url=aws).assume_role(RoleArn=role, RoleSessionName="carol")
        (record,) = server.records("EventName=AssumeRole")
        assert record["recipientAccountId"] == "222222222222"
        assert record["resources"][0]["accountId"] == "222222222222"
        assert "sharedEventID" not in record
        assert "opentrail" not in record.get("additionalEventData", {})


def test_an_answer_that_botocore_cannot_read_is_recorded() -> None:
    def answer(request: Any, **_: Any) -> AWSResponse:
        broken = Raw(b"<CreateUserResponse><CreateUserRes")
        return AWSResponse(request.url, 200, {"content-type": "text/xml"}, broken)

    found = Collector()
    own = session()
    own.events.register("before-send.iam", answer)
    BotocoreHook(found).attach(own)
    with pytest.raises(botocore.parsers.ResponseParserError):
        own.client("iam").create_user(UserName="Mary")
    (record,) = found.records
    assert (record["eventName"], record["requestParameters"]) == (
        "CreateUser",
        {"userName": "Mary"},
    )


def test_a_call_without_its_record_fails(tmp_path: Path) -> None:
    with (
        moto_server() as aws,
        opentrail_server(tmp_path / "data", "--upstream", aws) as server,
    ):
        own = session()
        BotocoreHook(ServerShipper.of_data_dir(server.data_dir)).attach(own)
        client = own.client("iam", endpoint_url=aws)
        stop(server)
        with pytest.raises(RecordRefused):
            client.create_user(UserName="Mary")


def directory(folder: Path) -> Path:
    file = folder / "opentrail.toml"
    file.write_text(f'[directory.{ADMIN_KEY_ID}]\nuser = "John"\n')
    return file


def stop(server: Opentrail) -> None:
    assert server.stop() == 0
