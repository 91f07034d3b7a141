"""Every way to get credentials teaches the caller behind later calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.processes import Opentrail, opentrail_server

pytestmark = pytest.mark.live

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    folder: Path = tmp_path_factory.mktemp("identities")
    with opentrail_server(folder / "data", command="sandbox") as running:
        yield running


def identity_of_next_call(server: Opentrail, credentials: dict[str, Any], name: str) -> Any:
    """Makes a call with temporary credentials and returns the identity in its record."""
    session = {"key": credentials["AccessKeyId"], "secret": credentials["SecretAccessKey"]}
    server.boto("iam", **session).create_group(GroupName=name)
    record = server.records(f"ResourceName={name}")[0]
    assert credentials["SecretAccessKey"] not in json.dumps(server.records())
    assert credentials["SessionToken"] not in json.dumps(server.records())
    return record["userIdentity"]


def test_an_assumed_role_is_known_with_its_issuer(server: Opentrail) -> None:
    role = server.boto("iam").create_role(RoleName="Deployer", AssumeRolePolicyDocument=TRUST)
    arn = role["Role"]["Arn"]
    answer = server.boto("sts").assume_role(RoleArn=arn, RoleSessionName="night-shift")
    identity = identity_of_next_call(server, answer["Credentials"], "by-role")
    assert identity["type"] == "AssumedRole"
    assert identity["arn"] == "arn:aws:sts::123456789012:assumed-role/Deployer/night-shift"
    assert identity["principalId"] == answer["AssumedRoleUser"]["AssumedRoleId"]
    assert identity["sessionContext"]["sessionIssuer"] == {
        "type": "Role",
        "principalId": answer["AssumedRoleUser"]["AssumedRoleId"].split(":")[0],
        "arn": arn,
        "accountId": "123456789012",
        "userName": "Deployer",
    }
    assert identity["sessionContext"]["attributes"]["mfaAuthenticated"] == "false"
    said = server.opentrail("who", "by-role").stdout
    assert "role Deployer (session night-shift) created IAM group by-role" in said


def test_role_session_names_the_new_key_without_token(server: Opentrail) -> None:
    server.boto("sts").assume_role(
        RoleArn="arn:aws:iam::123456789012:role/Deployer", RoleSessionName="record"
    )
    record = server.records("EventName=AssumeRole")[0]
    assert record["readOnly"] is True
    credentials = record["responseElements"]["credentials"]
    assert credentials["accessKeyId"].startswith("ASIA")
    assert credentials["sessionToken"] == "HIDDEN_DUE_TO_SECURITY_REASONS"
    assert "secretAccessKey" not in credentials
    assert record["resources"] == [
        {
            "accountId": "123456789012",
            "type": "AWS::IAM::Role",
            "ARN": "arn:aws:iam::123456789012:role/Deployer",
        }
    ]


def test_web_identities_and_saml_users_need_no_signature(server: Opentrail) -> None:
    answer = server.boto("sts").assume_role_with_web_identity(
        RoleArn="arn:aws:iam::123456789012:role/Deployer",
        RoleSessionName="from-the-web",
        WebIdentityToken="a-very-secret-web-identity-token",
    )
    identity = identity_of_next_call(server, answer["Credentials"], "by-web")
    assert identity["arn"].endswith("assumed-role/Deployer/from-the-web")
    assert "a-very-secret-web-identity-token" not in json.dumps(server.records())


def test_a_session_token_belongs_to_the_same_user(server: Opentrail) -> None:
    iam = server.boto("iam")
    iam.create_user(UserName="Jane")
    key = iam.create_access_key(UserName="Jane")["AccessKey"]
    jane = {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}
    answer = server.boto("sts", **jane).get_session_token()
    identity = identity_of_next_call(server, answer["Credentials"], "by-jane")
    assert identity["type"] == "IAMUser"
    assert identity["userName"] == "Jane"
    assert identity["accessKeyId"] == answer["Credentials"]["AccessKeyId"]
    assert identity["sessionContext"]["attributes"]["creationDate"].endswith("Z")


def test_a_federated_user_is_known_with_its_issuer(server: Opentrail) -> None:
    answer = server.boto("sts").get_federation_token(Name="guest")
    identity = identity_of_next_call(server, answer["Credentials"], "by-guest")
    assert identity["type"] == "FederatedUser"
    assert identity["sessionContext"]["sessionIssuer"]["userName"] == "admin"


def test_an_unknown_key_is_marked_as_unknown(server: Opentrail) -> None:
    server.boto("iam", key="hand-made", secret="x").create_group(GroupName="by-nobody")
    identity = server.records("ResourceName=by-nobody")[0]["userIdentity"]
    assert identity == {
        "type": "Unknown",
        "accountId": "123456789012",
        "accessKeyId": "hand-made",
    }


def test_an_anonymous_caller_is_marked_as_anonymous(server: Opentrail) -> None:
    from botocore import UNSIGNED

    server.boto("s3", signature_version=UNSIGNED).list_buckets()
    record = next(r for r in server.records() if r["eventName"] == "ListBuckets")
    assert record["userIdentity"]["accountId"] == "ANONYMOUS_PRINCIPAL"
