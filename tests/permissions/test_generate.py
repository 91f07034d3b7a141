"""Policies generated from principals' calls."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.policies import PolicyKind, parse_policy
from opentrail.permissions.generate import (
    ANY,
    EXACT,
    MAX_CHARACTERS,
    PREFIX,
    characters,
    generate,
    kinds_of,
)
from opentrail.permissions.outcomes import CallOutcome, outcome_of
from opentrail.permissions.replay import Judgement, refused_by, verdict_on
from tests.factories import ACCOUNT, a_record, real_records

REAL = [record for record in real_records() if outcome_of(record) is not CallOutcome.NO_CALL]


def an_s3_call(name: str, key: str | None = None, bucket: str = "data", **more: Any) -> Any:
    parameters = {"bucketName": bucket, **({"key": key} if key else {})}
    return a_record(
        eventSource="s3.amazonaws.com", eventName=name, requestParameters=parameters, **more
    )


def statements(*records: Any, resources: str = PREFIX) -> list[dict[str, Any]]:
    return [
        one
        for made in generate(kinds_of(records), resources).documents
        for one in made["Statement"]
    ]


def resources_for(*keys: str, resources: str = PREFIX, bucket: str = "data") -> list[str]:
    calls = (an_s3_call("GetObject", key, bucket) for key in keys)
    (statement,) = statements(*calls, resources=resources)
    return list(statement["Resource"])


def test_actions_on_the_same_resources_share_a_statement() -> None:
    made = statements(an_s3_call("GetObject", "a"), an_s3_call("PutObject", "a"))
    assert made == [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject"],
            "Resource": ["arn:aws:s3:::data/a"],
        }
    ]


def test_denied_and_failed_calls_are_left_out() -> None:
    records = [
        an_s3_call("GetObject", "a"),
        an_s3_call("PutObject", "a", errorCode="AccessDenied"),
        an_s3_call("GetObject", "b", errorCode="NoSuchKey"),
    ]
    made = generate(kinds_of(records))
    assert made.documents[0]["Statement"] == statements(an_s3_call("GetObject", "a"))
    assert [made.outcomes[outcome] for outcome in CallOutcome] == [1, 1, 1, 0]
    with_failed = generate(kinds_of(records), with_failed=True).documents[0]["Statement"]
    assert with_failed[0]["Resource"] == ["arn:aws:s3:::data/a", "arn:aws:s3:::data/b"]


def test_no_callers_name_widens_the_policy() -> None:
    assert resources_for("a\nb", "c") == ["arn:aws:s3:::data/a\nb", "arn:aws:s3:::data/c"]


def test_each_transaction_item_needs_its_own_table() -> None:
    items = [{"put": {"tableName": "a"}}, {"delete": {"tableName": "b"}}]
    tables = [f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/{name}" for name in "ab"]
    record = a_record(
        eventSource="dynamodb.amazonaws.com",
        eventName="TransactWriteItems",
        requestParameters={"transactItems": items},
        resources=[{"type": "AWS::DynamoDB::Table", "ARN": table} for table in tables],
    )
    made = [(each["Action"], each["Resource"]) for each in statements(record)]
    assert made == [(["dynamodb:DeleteItem"], tables[1:]), (["dynamodb:PutItem"], tables[:1])]


def test_each_statement_of_partiql_needs_its_own_table() -> None:
    statements_of_call = [
        {"statement": "UPDATE Music SET a = ***(Redacted) WHERE Artist = 'A'"},
        {"statement": "INSERT INTO Films VALUE {'a' : ***(Redacted)}"},
    ]
    record = a_record(
        eventSource="dynamodb.amazonaws.com",
        eventName="BatchExecuteStatement",
        requestParameters={"requestItems": statements_of_call},
        responseElements=None,
    )
    table = f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table"
    made = [(each["Action"], each["Resource"]) for each in statements(record)]
    assert made == [
        (["dynamodb:PartiQLInsert"], [f"{table}/Films"]),
        (["dynamodb:PartiQLUpdate"], [f"{table}/Music"]),
    ]


def test_no_pattern_covers_a_denied_call() -> None:
    calls = [an_s3_call("GetObject", f"in/{name}") for name in "abc"]
    denied = an_s3_call("GetObject", "in/secret", errorCode="AccessDenied")
    begin = "arn:aws:s3:::data/in/"
    (statement,) = statements(*calls, denied)
    assert statement["Resource"] == [f"{begin}{name}" for name in "abc"]
    # It was allowed later, or it is another action.
    (statement,) = statements(*calls, an_s3_call("GetObject", "in/secret"), denied)
    assert statement["Resource"] == [f"{begin}*"]
    other = an_s3_call("PutObject", "in/secret", errorCode="AccessDenied")
    (statement,) = statements(*calls, other)
    assert statement["Resource"] == [f"{begin}*"]
    many = [an_s3_call("GetObject", f"{number}") for number in range(20)]
    (statement,) = statements(*many, denied)
    assert len(statement["Resource"]) == 20


def test_many_names_become_their_common_prefix() -> None:
    begin = "arn:aws:s3:::data/"
    assert resources_for("in/a", "in/b") == [f"{begin}in/a", f"{begin}in/b"]
    assert resources_for("in/a", "in/b", "in/c") == [f"{begin}in/*"]
    assert resources_for("in/a", "in/b", "in/c", resources=EXACT) == [
        f"{begin}in/{name}" for name in "abc"
    ]
    assert resources_for("in/a-1", "in/a-2", "in/a-30") == [f"{begin}in/a-*"]
    # Never all names of a type: these have nothing in common.
    assert resources_for("a", "b", "c") == [f"{begin}{name}" for name in "abc"]
    # But very many objects of a bucket become all of its objects.
    assert resources_for(*(f"{chr(97 + number)}" for number in range(20))) == [f"{begin}*"]


def test_a_policy_covers_resources_that_ec2_creates() -> None:
    record = a_record(
        eventSource="ec2.amazonaws.com",
        eventName="CreateVolume",
        requestParameters={"snapshotId": "snap-37beda4c"},
        responseElements=None,
    )
    for resources in (EXACT, PREFIX):
        (statement,) = statements(record, resources=resources)
        assert statement["Resource"] == [
            f"arn:aws:ec2:us-east-1:{ACCOUNT}:volume/*",
            "arn:aws:ec2:us-east-1::snapshot/snap-37beda4c",
        ]


def test_every_resource_can_be_requested() -> None:
    assert statements(an_s3_call("GetObject", "a"), resources=ANY)[0]["Resource"] == "*"


def test_pattern_characters_in_names_are_literal() -> None:
    assert resources_for("a*b?$c") == ["arn:aws:s3:::data/a${*}b${?}${$}c"]


@pytest.mark.parametrize("name", ["*", "Create*", "GetObject?", "a b", "", "iam:*"])
def test_invalid_action_names_allow_nothing(name: str) -> None:
    made = generate(kinds_of([an_s3_call(name, "a")]))
    assert made.documents == []
    assert made.unmapped == {f"s3.amazonaws.com {name}": 1}


def test_variables_in_records_are_literal() -> None:
    identity = {"type": "IAMUser", "invokedBy": "${aws:username}.amazonaws.com"}
    (statement,) = statements(an_s3_call("GetObject", "${aws:username}", userIdentity=identity))
    assert statement["Resource"] == ["arn:aws:s3:::data/${$}{aws:username}"]
    assert "Condition" not in statement


def test_open_parts_are_counted() -> None:
    made = generate(
        kinds_of(
            [
                an_s3_call("DeleteObjects"),
                a_record(eventSource="new.amazonaws.com", eventName="DoIt", requestParameters=None),
                a_record(
                    eventSource="cloudwatch.amazonaws.com",
                    eventName="DescribeAlarms",
                    requestParameters=None,
                    responseElements=None,
                ),
            ]
        )
    )
    assert made.unmapped == {"s3.amazonaws.com DeleteObjects": 1}
    assert made.unverified == {"new:DoIt": 1}
    assert made.unlimited == {"cloudwatch:DescribeAlarms": 1}
    (statement,) = made.documents[0]["Statement"]
    assert statement["Action"] == ["cloudwatch:DescribeAlarms"]


@pytest.mark.parametrize(
    ("source", "name", "left"),
    [
        ("sso", "GetRoleCredentials", {}),
        ("dynamodb", "TransactWriteItems", {"dynamodb.amazonaws.com TransactWriteItems": 1}),
        ("bedrock", "InvokeGuardrailChecks", {}),
    ],
)
def test_a_policy_has_only_existing_actions(source: str, name: str, left: dict[str, int]) -> None:
    """The calls of the sign-in portal of Identity Center have a token and need no permission."""
    record = a_record(eventSource=f"{source}.amazonaws.com", eventName=name, requestParameters={})
    made = generate(kinds_of([record]))
    assert made.documents == []
    assert made.unmapped == left
    assert made.unverified == ({f"{source}:{name}": 1} if source == "bedrock" else {})
    assert refused_by(made, kinds_of([record])) == 0


def test_role_of_an_instance_profile_is_left_open() -> None:
    record = a_record(
        eventSource="ec2.amazonaws.com",
        eventName="RunInstances",
        requestParameters={"iamInstanceProfile": {"name": "web"}},
        responseElements=None,
    )
    made = generate(kinds_of([record]))
    lack = "iam:PassRole on the role of the instance profile web"
    assert made.unmapped == {f"ec2.amazonaws.com RunInstances: {lack}": 1}
    (passed,) = (each for each in statements(record) if each["Action"] == ["iam:PassRole"])
    assert passed["Resource"] == [
        f"arn:aws:iam::{ACCOUNT}:role/*/web",
        f"arn:aws:iam::{ACCOUNT}:role/web",
    ]
    assert passed["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}


def test_a_log_group_is_allowed_with_its_streams() -> None:
    group = {"logGroupName": "/b*"}
    for name in ("DescribeLogStreams", "CreateLogGroup"):
        record = a_record(eventSource="logs.amazonaws.com", eventName=name, requestParameters=group)
        (statement,) = statements(record)
        assert statement["Resource"] == [f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/b${{*}}:*"]


def test_a_long_policy_is_several() -> None:
    keys = [f"{number:04}" + "x" * 60 for number in range(19)]
    calls = [
        an_s3_call("GetObject", key, f"bucket{number}") for number in range(20) for key in keys
    ]
    documents = generate(kinds_of(calls), EXACT).documents
    assert len(documents) > 4
    assert max(characters(document) for document in documents) <= MAX_CHARACTERS
    listed = [arn for one in documents for each in one["Statement"] for arn in each["Resource"]]
    assert len(listed) == len(set(listed)) == 380


@pytest.mark.hypothesis
@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(REAL), max_size=30), st.sampled_from([EXACT, PREFIX, ANY]))
def test_a_policy_allows_all_allowed_calls(records: list[Any], resources: str) -> None:
    policies = [
        parse_policy(json.dumps(document), PolicyKind.IDENTITY)
        for document in generate(kinds_of(records), resources).documents
    ]
    for record in records:
        if outcome_of(record) is CallOutcome.ALLOWED:
            assert verdict_on(record, policies).judgement is Judgement.ALLOWED


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None, max_examples=100)
@given(st.lists(st.text("ab/*?$-", min_size=1, max_size=8), min_size=1, max_size=8))
def test_an_exact_policy_allows_no_other_call(keys: list[str]) -> None:
    calls = [an_s3_call("GetObject", key) for key in keys]
    policies = [
        parse_policy(json.dumps(document), PolicyKind.IDENTITY)
        for document in generate(kinds_of(calls), EXACT).documents
    ]
    for other in (*keys, *(f"{key}a" for key in keys), *(key[:-1] + "b" for key in keys)):
        verdict = verdict_on(an_s3_call("GetObject", other), policies)
        assert (verdict.judgement is Judgement.ALLOWED) is (other in keys)


def test_real_records_are_of_an_account() -> None:
    assert ACCOUNT.isdigit()
    assert len(REAL) > 20
