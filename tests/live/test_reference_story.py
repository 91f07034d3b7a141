"""An IAM user Mary appeared: who created her, when, and how?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.processes import Opentrail, files_in, opentrail_server

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Opentrail, dict[str, Any]]]:
    """An admin creates John with keys by aws-cli; John creates Mary, and Pete by boto3."""
    folder: Path = tmp_path_factory.mktemp("story")
    with opentrail_server(folder / "data", command="sandbox") as server:
        server.aws("iam", "create-user", "--user-name", "John")
        keys = json.loads(server.aws("iam", "create-access-key", "--user-name", "John"))
        key = keys["AccessKey"]
        john = {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}
        server.aws("iam", "create-user", "--user-name", "Mary", **john)
        server.boto("iam", **john).create_user(UserName="Pete")
        yield server, key


def looked_up(server: Opentrail, key: str, value: str) -> list[dict[str, Any]]:
    attribute = f"AttributeKey={key},AttributeValue={value}"
    said = server.aws("cloudtrail", "lookup-events", "--lookup-attributes", attribute)
    events: list[dict[str, Any]] = json.loads(said)["Events"]
    return events


def test_aws_cli_finds_both_users_newest_first(story: tuple[Opentrail, dict[str, Any]]) -> None:
    server, _ = story
    events = looked_up(server, "EventName", "CreateUser")
    made = [json.loads(e["CloudTrailEvent"])["requestParameters"]["userName"] for e in events]
    assert made == ["Pete", "Mary", "John"]
    assert events[1]["Username"] == "John"
    assert {"ResourceType": "AWS::IAM::User", "ResourceName": "Mary"} in events[1]["Resources"]


def test_record_for_mary_is_as_aws_writes_it(story: tuple[Opentrail, dict[str, Any]]) -> None:
    server, key = story
    event = looked_up(server, "ResourceName", "Mary")[0]
    record = json.loads(event["CloudTrailEvent"])
    identity = record["userIdentity"]
    assert identity["type"] == "IAMUser"
    assert identity["userName"] == "John"
    assert identity["arn"] == "arn:aws:iam::123456789012:user/John"
    assert identity["accessKeyId"] == key["AccessKeyId"]
    assert identity["principalId"]
    assert record["sourceIPAddress"] == "127.0.0.1"
    assert record["userAgent"].startswith("aws-cli/")
    assert record["requestParameters"] == {"userName": "Mary"}
    user = record["responseElements"]["user"]
    assert user["arn"] == "arn:aws:iam::123456789012:user/Mary"
    assert set(user) == {"path", "userName", "userId", "arn", "createDate"}
    assert user["createDate"].endswith(("AM", "PM"))
    assert list(record) == [
        "eventVersion",
        "userIdentity",
        "eventTime",
        "eventSource",
        "eventName",
        "awsRegion",
        "sourceIPAddress",
        "userAgent",
        "requestParameters",
        "responseElements",
        "requestID",
        "eventID",
        "readOnly",
        "eventType",
        "managementEvent",
        "recipientAccountId",
        "eventCategory",
    ]


def test_who_answers_in_one_sentence_with_evidence(story: tuple[Opentrail, dict[str, Any]]) -> None:
    server, key = story
    said = server.opentrail("who", "Mary")
    assert said.returncode == 0
    first = said.stdout.splitlines()[0]
    assert "IAM user John created IAM user Mary through the AWS CLI" in first
    event = looked_up(server, "ResourceName", "Mary")[0]
    for evidence in (event["EventId"], key["AccessKeyId"], "127.0.0.1", "aws-cli/"):
        assert evidence in said.stdout
    pete = server.opentrail("who", "Pete").stdout
    assert "IAM user John created IAM user Pete through the AWS SDK for Python (Boto3)" in pete


def test_who_of_an_unknown_resource_exits_1(
    story: tuple[Opentrail, dict[str, Any]],
) -> None:
    said = story[0].opentrail("who", "Nobody")
    assert said.returncode == 1
    assert "no record shows who created Nobody" in said.stdout


def test_secrets_of_the_story_are_nowhere_on_disk(story: tuple[Opentrail, dict[str, Any]]) -> None:
    server, key = story
    secret = key["SecretAccessKey"].encode()
    for file, content in files_in(server.data_dir).items():
        assert secret not in content, file


@pytest.mark.campaign
def test_identities_and_history_survive_a_kill(tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", command="sandbox") as server:
        iam = server.boto("iam")
        iam.create_user(UserName="John")
        key = iam.create_access_key(UserName="John")["AccessKey"]
        server.kill()
        server.start()
        john = server.boto("iam", key=key["AccessKeyId"], secret=key["SecretAccessKey"])
        john.create_user(UserName="Mary")
        found = server.boto("cloudtrail").lookup_events(
            LookupAttributes=[{"AttributeKey": "Username", "AttributeValue": "John"}]
        )["Events"]
        assert [e["EventName"] for e in found] == ["CreateUser"]
        created = server.boto("cloudtrail").lookup_events(
            LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "CreateUser"}]
        )["Events"]
        assert len(created) == 2


def test_failed_and_denied_calls_carry_their_error(story: tuple[Opentrail, dict[str, Any]]) -> None:
    server, _ = story
    refused = server.try_aws("iam", "delete-user", "--user-name", "Paul")
    assert refused.returncode != 0
    (event,) = looked_up(server, "EventName", "DeleteUser")
    record = json.loads(event["CloudTrailEvent"])
    assert record["errorCode"] == "NoSuchEntityException"
    assert "Paul" in record["errorMessage"]
    assert record["responseElements"] is None


@pytest.mark.campaign
def test_sandbox_reports_restarts_and_has_a_full_admin(tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", command="sandbox") as server:
        server.boto("iam").create_user(UserName="John")
        (caller,) = (r["userIdentity"] for r in server.records("eventName=CreateUser"))
        assert caller["principalId"].startswith("AIDA")
        assert caller["userName"] == "admin"
        assert server.stop() == 0
        assert "earlier runs" not in server.output
        server.start()
        assert "events of earlier runs remain, but the users, keys" in server.output


@pytest.mark.campaign
def test_serve_explains_how_callers_get_names(tmp_path: Path) -> None:
    flags = ("--upstream", "http://127.0.0.1:9", "--event-bridge", "off")
    with opentrail_server(tmp_path / "one", *flags) as server:
        assert "callers  unknown unless" in server.output
        assert "opentrail directory add KEY-ID" in server.output
    config = tmp_path / "opentrail.toml"
    config.write_text('[directory.AKIAIOSFODNN7EXAMPLE]\nuser = "alice"\n')
    with opentrail_server(tmp_path / "two", *flags, "--config", str(config)) as server:
        assert "unknown" not in server.output
