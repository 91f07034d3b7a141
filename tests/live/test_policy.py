"""Generated policies of principals, made and tested by the command line against a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opentrail.core.policies import PolicyKind, parse_policy
from tests.live.processes import Opentrail, moto_server, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow]

ROLE = "arn:aws:iam::123456789012:role/worker"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    """A server with recorded calls of user ada."""
    with (
        moto_server() as upstream,
        opentrail_server(tmp_path_factory.mktemp("policy"), "--upstream", upstream) as made,
    ):
        made.boto("iam").create_user(UserName="ada")
        key = made.boto("iam").create_access_key(UserName="ada")["AccessKey"]
        ada = (key["AccessKeyId"], key["SecretAccessKey"])
        s3 = made.boto("s3", *ada)
        s3.create_bucket(Bucket="data")
        for number in range(4):
            s3.put_object(Bucket="data", Key=f"in/{number}.csv", Body=b"a")
        s3.get_object(Bucket="data", Key="in/1.csv")
        s3.list_buckets()
        made.boto("sqs", *ada).create_queue(QueueName="jobs")
        made.boto("iam", *ada).get_user()
        yield made


def generated(server: Opentrail, *flags: str) -> dict[str, Any]:
    """Returns the JSON output of `policy generate`."""
    answer = server.opentrail("policy", "generate", "ada", "--json", *flags)
    assert answer.returncode == 0, answer.stderr
    return dict(json.loads(answer.stdout))


def test_policy_allows_the_past_calls_and_little_else(server: Opentrail) -> None:
    answer = generated(server)
    assert answer["policies"] == [
        {
            "Version": "2012-10-17",
            "Statement": [
                allow(["iam:GetUser"], ["arn:aws:iam::123456789012:user/ada"]),
                allow(["s3:CreateBucket"], ["arn:aws:s3:::data"]),
                allow(["s3:GetObject"], ["arn:aws:s3:::data/in/1.csv"]),
                allow(["s3:ListAllMyBuckets"], "*"),
                allow(["s3:PutObject"], ["arn:aws:s3:::data/in/*"]),
                allow(["sqs:CreateQueue"], ["arn:aws:sqs:us-east-1:123456789012:jobs"]),
            ],
        }
    ]
    assert answer["refusedByIt"] == 0
    assert (answer["unverified"], answer["unmapped"], answer["unlimited"]) == ({}, {}, {})
    exact = generated(server, "--resources", "exact")["policies"][0]["Statement"]
    assert allow(["s3:PutObject"], [f"arn:aws:s3:::data/in/{n}.csv" for n in range(4)]) in exact
    widest = generated(server, "--resources", "any")["policies"][0]["Statement"]
    assert [statement["Resource"] for statement in widest] == ["*"]


def allow(actions: list[str], resources: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resources}


def test_a_policy_is_tested_on_past_calls(server: Opentrail, tmp_path: Path) -> None:
    file = tmp_path / "ada.json"
    made = server.opentrail("policy", "generate", "ada")
    assert "replayed: it would have refused 0 of the allowed calls" in made.stderr
    file.write_text(made.stdout)
    parse_policy(made.stdout, PolicyKind.IDENTITY)
    tested = server.opentrail("policy", "test", str(file), "--principal", "ada")
    assert tested.returncode == 0, tested.stdout
    assert tested.stdout.startswith("9 allowed calls: 9 would be allowed, 0 denied, 0")

    document = json.loads(made.stdout)
    document["Statement"] = [
        {**each, "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}
        if each["Action"] == ["sqs:CreateQueue"]
        else each
        for each in document["Statement"]
        if each["Action"] != ["s3:GetObject"]
    ]
    file.write_text(json.dumps(document))
    tested = server.opentrail("policy", "test", str(file), "--principal", "ada")
    assert tested.returncode == 1
    assert "7 would be allowed, 1 denied, 1 cannot be decided" in tested.stdout
    assert (
        "s3:GetObject on arn:aws:s3:::data/in/1.csv, because no identity-based policy allows the "
        "s3:GetObject action: 1 call, the last " in tested.stdout
    )
    assert "the record does not have aws:multifactorauthpresent" in tested.stdout


def test_unused_entries_are_listed(server: Opentrail, tmp_path: Path) -> None:
    file = tmp_path / "wide.json"
    statement = {"Effect": "Allow", "Action": ["s3:*Object", "iam:CreateUser"], "Resource": "*"}
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": statement}))
    listed = server.opentrail("policy", "unused", "ada", str(file))
    assert listed.returncode == 0, listed.stderr
    assert "statement 1, iam:CreateUser: never used" in listed.stdout
    assert "actions used: s3:GetObject, s3:PutObject" in listed.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "nobody"], "no call of nobody since"),
        (["generate", "a b"], "PRINCIPAL must be the name or ARN of a user or role, not 'a b'"),
        (["test", "missing.json", "--principal", "ada"], "the policy missing.json cannot be read"),
        (["generate", "ada", "--since", "yesterday"], "since"),
        (["generate", "ada", "--resources", "some"], "invalid choice: 'some'"),
    ],
)
def test_problems_are_reported(server: Opentrail, arguments: list[str], message: str) -> None:
    answer = server.opentrail("policy", *arguments)
    assert answer.returncode != 0
    assert message in answer.stderr
