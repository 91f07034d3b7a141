"""An organization trail on the sandbox's AWS Organizations, with the real aws-cli."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import boto3
import pytest

from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET
from tests.live.processes import Opentrail, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

MANAGEMENT = "123456789012"
ARN = f"arn:aws:cloudtrail:us-east-1:{MANAGEMENT}:trail/evidence"
START = "2020-01-01T00:00:00Z"


@dataclass
class Account:
    """An account, and credentials of a session in it."""

    id: str
    key: str
    secret: str
    token: str | None = None

    def client(self, server: Opentrail, service: str, region: str = "us-east-1") -> Any:
        return boto3.client(
            service,
            endpoint_url=server.url,
            region_name=region,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            aws_session_token=self.token,
        )


@dataclass
class World:
    server: Opentrail
    organization: str
    management: Account
    members: list[Account]

    @property
    def accounts(self) -> list[Account]:
        return [self.management, *self.members]

    def records(self) -> dict[str, list[dict[str, Any]]]:
        """Returns the events in the log files, by folder: `o-…/account`."""
        s3 = self.server.boto("s3")
        found: dict[str, list[dict[str, Any]]] = {}
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket="evidence")
        for item in (item for page in pages for item in page.get("Contents", ())):
            _, organization, account, *rest = item["Key"].split("/")
            if rest[:1] == ["CloudTrail"] and item["Size"]:
                raw = s3.get_object(Bucket="evidence", Key=item["Key"])["Body"].read()
                records = json.loads(gzip.decompress(raw))["Records"]
                found.setdefault(f"{organization}/{account}", []).extend(records)
        return found

    def aws_validate(self, account: str) -> CompletedProcess[str]:
        """Runs AWS's verifier on the files of an account."""
        return self.server.try_aws(
            *("cloudtrail", "validate-logs", "--trail-arn", ARN, "--start-time", START),
            *("--account-id", account, "--verbose"),
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    rarely = ("--delivery-interval", "300", "--digest-interval", "3600")
    folder: Path = tmp_path_factory.mktemp("organization")
    with opentrail_server(folder / "data", *rarely, command="sandbox") as server:
        organizations = server.boto("organizations")
        made = organizations.create_organization(FeatureSet="ALL")["Organization"]
        members = [a_member(server, name) for name in ("ledger", "shop")]
        management = Account(MANAGEMENT, ADMIN_KEY_ID, ADMIN_SECRET)
        world = World(server, made["Id"], management, members)
        server.aws("s3", "mb", "s3://evidence")
        server.aws(
            *("cloudtrail", "create-trail", "--name", "evidence", "--s3-bucket-name", "evidence"),
            *("--is-multi-region-trail", "--enable-log-file-validation"),
            "--is-organization-trail",
        )
        server.aws("cloudtrail", "start-logging", "--name", "evidence")
        for number in range(3):
            for account in world.accounts:
                name = f"user-{number}-of-{account.id}"
                account.client(server, "iam").create_user(UserName=name)
                account.client(server, "sqs", "eu-west-1").create_queue(QueueName=f"q{number}")
            flushed = server.opentrail("trail", "flush", "evidence")
            assert flushed.returncode == 0, flushed.stderr
        yield world


def a_member(server: Opentrail, name: str) -> Account:
    """Creates a member account, and assumes the management account's role in it."""
    created = server.boto("organizations").create_account(
        Email=f"{name}@example.com", AccountName=name
    )
    account = created["CreateAccountStatus"]["AccountId"]
    role = f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole"
    assumed = server.boto("sts").assume_role(RoleArn=role, RoleSessionName="test")
    given = assumed["Credentials"]
    return Account(account, given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])


def test_each_accounts_events_are_in_its_folder(world: World) -> None:
    found = world.records()
    assert set(found) == {f"{world.organization}/{account.id}" for account in world.accounts}
    for account in world.accounts:
        records = found[f"{world.organization}/{account.id}"]
        assert {record["recipientAccountId"] for record in records} == {account.id}
        users = {
            record["requestParameters"]["userName"]
            for record in records
            if record["eventName"] == "CreateUser"
        }
        assert users == {f"user-{number}-of-{account.id}" for number in range(3)}
        queues = [record for record in records if record["eventName"] == "CreateQueue"]
        assert [record["awsRegion"] for record in queues] == ["eu-west-1"] * 3


def test_both_verifiers_accept_the_files_of_every_account(world: World) -> None:
    done = world.server.validate(ARN)
    assert done.returncode == 0, done.stdout + done.stderr
    for account in world.accounts:
        done = world.aws_validate(account.id)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "3/3 digest files valid" in done.stdout
        assert "log files valid" in done.stdout
        assert f"/{world.organization}/{account.id}/CloudTrail/us-east-1/" in done.stdout


def test_both_verifiers_report_a_missing_member_file(world: World) -> None:
    member = world.members[0]
    s3 = world.server.boto("s3")
    prefix = f"AWSLogs/{world.organization}/{member.id}/CloudTrail/us-east-1/"
    key = s3.list_objects_v2(Bucket="evidence", Prefix=prefix)["Contents"][0]["Key"]
    stored = s3.get_object(Bucket="evidence", Key=key)
    content, metadata = stored["Body"].read(), stored["Metadata"]
    s3.delete_object(Bucket="evidence", Key=key)
    try:
        assert world.server.validate(ARN).returncode == 1
        done = world.aws_validate(member.id)
        assert done.returncode == 1
        assert f"{key}\tINVALID: not found" in done.stdout + done.stderr
        assert world.aws_validate(world.members[1].id).returncode == 0
    finally:
        s3.put_object(Bucket="evidence", Key=key, Body=content, Metadata=metadata)


def test_a_member_sees_the_trail_without_changing_it(world: World) -> None:
    client = world.members[0].client(world.server, "cloudtrail")
    (trail,) = client.describe_trails()["trailList"]
    assert (trail["TrailARN"], trail["IsOrganizationTrail"]) == (ARN, True)
    assert client.get_trail(Name=ARN)["Trail"] == trail
    assert client.get_trail_status(Name=ARN)["LatestDeliveryTime"]
    assert client.get_event_selectors(TrailName=ARN)["TrailARN"] == ARN
    with pytest.raises(client.exceptions.NotOrganizationMasterAccountException):
        client.stop_logging(Name=ARN)
    with pytest.raises(client.exceptions.TrailNotFoundException):
        client.get_trail(Name="evidence")


def test_a_member_sees_only_its_own_events(world: World) -> None:
    for account in world.accounts:
        pages = account.client(world.server, "cloudtrail").get_paginator("lookup_events")
        events = [event for page in pages.paginate() for event in page["Events"]]
        accounts = {json.loads(e["CloudTrailEvent"])["recipientAccountId"] for e in events}
        assert accounts == {account.id}


def test_a_delegated_administrator_manages_the_trail(
    world: World,
) -> None:
    server, delegate = world.server, world.members[1]
    # A stopped trail delivers, and other tests count the files of their trails.
    server.aws("s3", "mb", "s3://delegated")
    management = server.boto("cloudtrail")
    made = management.create_trail(
        Name="delegated", S3BucketName="delegated", IsOrganizationTrail=True
    )
    arn = made["TrailARN"]
    management.start_logging(Name=arn)
    client = delegate.client(server, "cloudtrail")
    register = "register-organization-delegated-admin"
    server.aws("cloudtrail", register, "--member-account-id", delegate.id)
    client.stop_logging(Name=arn)
    assert not client.get_trail_status(Name=arn)["IsLogging"]
    client.start_logging(Name=arn)
    again = server.try_aws("cloudtrail", register, "--member-account-id", delegate.id)
    assert "AccountRegisteredException" in again.stderr
    deregister = "deregister-organization-delegated-admin"
    server.aws("cloudtrail", deregister, "--delegated-admin-account-id", delegate.id)
    with pytest.raises(client.exceptions.NotOrganizationMasterAccountException):
        client.stop_logging(Name=arn)
    management.delete_trail(Name=arn)


def test_the_settings_may_describe_an_organization(world: World, tmp_path: Path) -> None:
    file = tmp_path / "opentrail.toml"
    file.write_text(
        '[organization]\nid = "o-a1b2c3d4e5"\nmanagement_account = "123456789012"\naccounts = []\n'
    )
    flags = ("--upstream", world.server.url, "--config", str(file))
    with opentrail_server(tmp_path / "data", *flags) as server:
        server.aws("s3", "mb", "s3://described")
        client = server.boto("cloudtrail")
        client.create_trail(Name="ours", S3BucketName="described", IsOrganizationTrail=True)
        client.start_logging(Name="ours")
        assert server.opentrail("trail", "flush", "ours").returncode == 0
        listed = server.boto("s3").list_objects_v2(
            Bucket="described", Prefix="AWSLogs/o-a1b2c3d4e5/123456789012/CloudTrail/us-east-1/"
        )
        assert listed["KeyCount"] == 1
