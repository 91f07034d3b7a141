"""Columns that event history can search."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.attributes import (
    LOOKUP_KEYS,
    Resource,
    attributes_of,
    resources_of,
    username_of,
)
from opentrail.core.event import is_account
from tests.collection import at_least, collected_records
from tests.factories import (
    ABSENT,
    ACCOUNT,
    KEY,
    REGION,
    a_data_record,
    a_real_record,
    a_record,
    an_assumed_role,
    an_audit_record,
    an_iam_user,
    catalog,
    event_id,
    real_records,
)


def names(record: dict[str, Any]) -> list[tuple[str | None, str]]:
    return [(resource.type, resource.name) for resource in resources_of(record)]


# Columns


def test_a_record_gives_its_columns() -> None:
    found = attributes_of(a_record())
    assert found.event_id == event_id(1)
    assert found.event_time == datetime(2020, 1, 1, 9, tzinfo=UTC)
    assert found.event_name == "CreateUser"
    assert found.event_source == "iam.amazonaws.com"
    assert found.read_only is False
    assert found.category == "Management"
    assert found.account == ACCOUNT
    assert found.region == "us-east-1"
    assert found.username == "John"
    assert found.access_key_id == KEY
    assert found.principal_arn == f"arn:aws:iam::{ACCOUNT}:user/John"
    assert found.source_ip == "192.0.2.10"
    assert found.error_code is None
    assert found.resources == resources_of(a_record())


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (False, False), ("true", True), ("false", False), (None, False), (1, False)],
)
def test_read_only_may_be_a_boolean_or_string(value: Any, expected: bool) -> None:
    assert attributes_of(a_record(readOnly=value)).read_only is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "Management"),
        ({"eventCategory": ABSENT}, "Management"),
        ({"eventCategory": ABSENT, "managementEvent": ABSENT}, "Management"),
        ({"eventCategory": ABSENT, "managementEvent": False}, "Data"),
        ({"eventCategory": "Data", "managementEvent": False}, "Data"),
        ({"eventCategory": "NetworkActivity"}, "NetworkActivity"),
    ],
)
def test_old_records_have_a_category(changes: dict[str, Any], expected: str) -> None:
    assert attributes_of(a_record(**changes)).category == expected


def test_an_insight_is_found_under_its_call() -> None:
    record = a_record(
        eventCategory="Insight",
        eventName="Insight",
        eventSource="cloudtrail.amazonaws.com",
        insightDetails={"eventName": "DeleteBucket", "eventSource": "s3.amazonaws.com"},
    )
    found = attributes_of(record)
    assert (found.event_name, found.event_source) == ("DeleteBucket", "s3.amazonaws.com")


def test_without_recipient_the_account_is_the_callers() -> None:
    record = a_record(recipientAccountId=ABSENT, userIdentity=an_iam_user(account="999999999999"))
    assert attributes_of(record).account == "999999999999"


@pytest.mark.parametrize("account", ["", "0000", "../../x", "anonymous", 123456789012, {"a": 1}])
def test_other_text_is_no_account(account: Any) -> None:
    record = a_record(recipientAccountId=account, userIdentity={"accountId": account})
    assert attributes_of(record).account == ""
    record = a_record(recipientAccountId=account, userIdentity=an_iam_user(account="9" * 12))
    assert attributes_of(record).account == "9" * 12


def test_an_empty_access_key_is_none() -> None:
    """Six real records have `accessKeyId: ""`."""
    record = a_record(userIdentity=an_iam_user(key=""))
    assert attributes_of(record).access_key_id is None


def test_a_failed_call_gives_its_error_code() -> None:
    assert attributes_of(a_record(errorCode="AccessDenied")).error_code == "AccessDenied"


@pytest.mark.parametrize("member", ["eventTime", "eventName", "eventSource"])
def test_a_record_without_its_core_is_refused(member: str) -> None:
    with pytest.raises(KeyError):
        attributes_of(a_record(**{member: ABSENT}))


def test_a_record_without_time_is_refused() -> None:
    with pytest.raises(ValueError, match="noon"):
        attributes_of(a_record(eventTime="noon"))


def test_the_lookup_keys_equal_the_models() -> None:
    shape = catalog().services["cloudtrail"].model.shape_for("LookupAttributeKey")
    assert set(LOOKUP_KEYS) == set(shape.enum)


# User names


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (an_iam_user("John"), "John"),
        ({"type": "Root", "principalId": ACCOUNT, "accountId": ACCOUNT}, "root"),
        ({"type": "Root", "userName": "my-alias", "accountId": ACCOUNT}, "root"),
        (an_assumed_role(session="i-0abc"), "i-0abc"),
        (an_assumed_role(session="alice@example.com"), "alice@example.com"),
        ({"type": "AssumedRole", "principalId": "AROAEXAMPLE"}, None),
        (
            {
                "type": "AssumedRole",
                "principalId": "AROAEXAMPLE",
                "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/DataRole/etl",
            },
            "etl",
        ),
        ({"type": "FederatedUser", "principalId": f"{ACCOUNT}:bob"}, "bob"),
        ({"type": "Role", "userName": "service-role"}, "service-role"),
        ({"type": "IdentityCenterUser", "onBehalfOf": {"userId": "9448"}}, None),
        ({"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}, None),
        ({"type": "SAMLUser", "userName": "sam"}, "sam"),
        ({"type": "WebIdentityUser", "userName": "webby"}, "webby"),
        ({"type": "Directory", "userName": "dir"}, "dir"),
        ({"type": "AWSAccount", "principalId": "", "accountId": "ANONYMOUS_PRINCIPAL"}, None),
        ({"type": "AWSAccount", "principalId": "AIDAX", "accountId": "999999999999"}, None),
        ({"type": "Unknown", "accountId": ACCOUNT, "accessKeyId": KEY}, None),
        ({"accountId": ACCOUNT, "invokedBy": "secretsmanager.amazonaws.com"}, None),
        (
            {"type": "IAMUser", "userName": "HIDDEN_DUE_TO_SECURITY_REASONS"},
            "HIDDEN_DUE_TO_SECURITY_REASONS",
        ),
        (None, None),
    ],
)
def test_a_user_name_equals_the_name_in_lookups(
    identity: dict[str, Any] | None, expected: str | None
) -> None:
    assert username_of(a_record(userIdentity=identity)) == expected


# Resources


def test_a_created_user_is_named_once() -> None:
    assert names(a_record()).count(("AWS::IAM::User", "Mary")) == 1


def test_resource_has_its_name_and_arn() -> None:
    assert names(a_record()) == [
        ("AWS::IAM::User", "Mary"),
        ("AWS::IAM::User", f"arn:aws:iam::{ACCOUNT}:user/Mary"),
    ]


def test_resources_of_parameters_precede_listed_ones() -> None:
    assert names(a_data_record()) == [
        ("AWS::S3::Bucket", "my-bucket"),
        ("AWS::S3::Object", "in/a.csv"),
        ("AWS::S3::Object", "arn:aws:s3:::my-bucket/in/a.csv"),
        ("AWS::S3::Bucket", "arn:aws:s3:::my-bucket"),
    ]


def test_a_prefix_of_objects_is_a_resource() -> None:
    listed = [{"type": "AWS::S3::Object", "ARNPrefix": "arn:aws:s3:::my-bucket/in/"}]
    record = a_record(requestParameters=None, responseElements=None, resources=listed)
    assert names(record) == [("AWS::S3::Object", "arn:aws:s3:::my-bucket/in/")]


def test_a_listed_resource_may_have_no_type() -> None:
    """cloudtrail-format §2.6: 268 listed resources are just account and ARN."""
    listed = [{"accountId": ACCOUNT, "ARN": "arn:aws:ssm:us-east-1:123456789012:parameter/x"}]
    record = a_record(requestParameters=None, responseElements=None, resources=listed)
    assert resources_of(record) == (Resource(None, listed[0]["ARN"]),)


def test_assumed_role_has_role_session_and_key() -> None:
    record = a_real_record("AssumeRole")
    answer, asked = record["responseElements"], record["requestParameters"]
    found = names(record)
    assert ("AWS::IAM::Role", asked["roleArn"]) in found
    assert ("AWS::IAM::AccessKey", answer["credentials"]["accessKeyId"]) in found
    assert ("AWS::STS::AssumedRole", answer["assumedRoleUser"]["assumedRoleId"]) in found


def test_members_of_another_service_name_nothing() -> None:
    record = a_record(eventSource="kms.amazonaws.com", eventName="Decrypt", readOnly=True)
    assert names(record) == []


@pytest.mark.parametrize("value", ["", None, 5, ["Mary"], {"deeper": {"userName": "Mary"}}])
def test_only_text_is_a_name(value: Any) -> None:
    record = a_record(requestParameters={"userName": value}, responseElements=None)
    assert names(record) == []


def test_instances_in_a_set_of_ec2_are_named() -> None:
    """cloudtrail-format §4.2: EC2 wraps lists, `instancesSet.items[].instanceId`."""
    record = a_real_record("RunInstances", "AssumedRole")
    assert ("AWS::EC2::Instance", "i-0f7c711dc84bedda0") in names(record)
    terminate = a_record(
        eventSource="ec2.amazonaws.com",
        eventName="TerminateInstances",
        requestParameters={"instancesSet": {"items": [{"instanceId": "i-1"}]}},
        responseElements=None,
    )
    assert ("AWS::EC2::Instance", "i-1") in names(terminate)


# Resources by rules


def written(source: str, event_name: str, asked: Any, answer: Any = None) -> list[Any]:
    """Returns the resources of a writing call."""
    return names(
        a_record(
            eventSource=f"{source}.amazonaws.com",
            eventName=event_name,
            requestParameters=asked,
            responseElements=answer,
        )
    )


@pytest.mark.parametrize(
    ("source", "event_name", "asked", "answer", "expected"),
    [
        (
            "athena",
            "CreateWorkGroup",
            {"name": "primary", "description": "x"},
            None,
            [("AWS::Athena::WorkGroup", "primary")],
        ),
        (
            "athena",
            "DeleteWorkGroup",
            {"workGroup": "primary"},
            None,
            [("AWS::Athena::WorkGroup", "primary")],
        ),
        (
            "glue",
            "CreateJob",
            {"name": "etl", "command": {"name": "glueetl"}, "role": "arn:aws:iam::1:role/Glue"},
            {"name": "etl"},
            [("AWS::Glue::Job", "etl"), ("AWS::IAM::Role", "arn:aws:iam::1:role/Glue")],
        ),
        (
            "states",
            "CreateStateMachine",
            {"name": "flow"},
            {"stateMachineArn": "arn:aws:states:us-east-1:1:stateMachine:flow"},
            [
                ("AWS::StepFunctions::StateMachine", "flow"),
                (
                    "AWS::StepFunctions::StateMachine",
                    "arn:aws:states:us-east-1:1:stateMachine:flow",
                ),
            ],
        ),
        (
            "events",
            "PutTargets",
            {"rule": "nightly", "targets": [{"arn": "arn:aws:sqs:us-east-1:1:q"}]},
            None,
            [("AWS::Events::Rule", "nightly"), ("AWS::SQS::Queue", "arn:aws:sqs:us-east-1:1:q")],
        ),
        (
            "tagging",
            "TagResources",
            {"resourceARNList": ["arn:aws:sqs:us-east-1:1:jobs", "not one"]},
            None,
            [("AWS::SQS::Queue", "arn:aws:sqs:us-east-1:1:jobs")],
        ),
        ("newservice", "CreateWidget", {"widgetName": "w"}, None, [(None, "w")]),
        (
            "newservice",
            "PutThing",
            {"target": "arn:aws:odd:::x"},
            None,
            [(None, "arn:aws:odd:::x")],
        ),
        # A service with a table: its own ARNs only.
        (
            "lambda",
            "CreateFunction20150331",
            {"functionName": "f", "role": "arn:aws:iam::1:role/r"},
            {"functionArn": "arn:aws:lambda:us-east-1:1:function:f"},
            [
                ("AWS::Lambda::Function", "f"),
                ("AWS::Lambda::Function", "arn:aws:lambda:us-east-1:1:function:f"),
            ],
        ),
        (
            "ssm",
            "CreateDocument",
            {"name": "doc"},
            None,
            [("AWS::SSM::Document", "doc")],
        ),
        (
            "ec2",
            "CreateTags",
            {"resourcesSet": {"items": [{"resourceId": "i-1"}, {"resourceId": "odd-1"}]}},
            {"_return": True},
            [("AWS::EC2::Instance", "i-1")],
        ),
        (
            "ec2",
            "DeleteFlowLogs",
            {"DeleteFlowLogsRequest": {"VpcId": {"tag": 1, "content": "vpc-1"}}},
            None,
            [("AWS::EC2::VPC", "vpc-1")],
        ),
    ],
)
def test_rules_name_events_outside_tables(
    source: str, event_name: str, asked: Any, answer: Any, expected: list[Any]
) -> None:
    assert written(source, event_name, asked, answer) == expected


def test_the_cache_of_member_kinds_is_limited() -> None:
    for number in range(3):
        asked = {f"member{number}-{i}": "x" for i in range(2_000)}
        assert written("odd", "Do", asked) == []


# Answers of AWS's own lookups

LOOKED_UP = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "lookup-events.ndjson").open()
]


@pytest.mark.parametrize("event", LOOKED_UP, ids=lambda event: event["EventName"])
def test_awss_lookups_have_the_same_values(event: dict[str, Any]) -> None:
    found = attributes_of(json.loads(event["CloudTrailEvent"]))
    assert found.event_id == event["EventId"]
    assert found.event_name == event["EventName"]
    assert found.event_source == event["EventSource"]
    assert found.read_only is (event["ReadOnly"] == "true")
    assert found.username == event["Username"]
    assert found.access_key_id == event["AccessKeyId"]
    shown = {(r["ResourceType"], r["ResourceName"]) for r in event["Resources"]}
    assert set(found.resources) == shown


ROLE = "arn:aws:iam::123456789012:role/aws-service-role/autoscaling.amazonaws.com/ForScaling"
SESSION = "arn:aws:sts::123456789012:assumed-role/ForScaling/AutoScaling"
TARGETS = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/tg/a770c60c3b857577"


@pytest.mark.parametrize(
    ("source", "event_name", "asked", "answer", "expected"),
    [
        (
            "sts",
            "AssumeRole",
            {"roleArn": ROLE, "roleSessionName": "AutoScaling", "durationSeconds": 1800},
            {
                "credentials": {"accessKeyId": "ASIAX", "sessionToken": "t", "expiration": "x"},
                "assumedRoleUser": {"assumedRoleId": "AROAX:AutoScaling", "arn": SESSION},
            },
            {
                ("AWS::IAM::AccessKey", "ASIAX"),
                ("AWS::STS::AssumedRole", "AROAX:AutoScaling"),
                ("AWS::STS::AssumedRole", "AutoScaling"),
                ("AWS::STS::AssumedRole", SESSION),
                ("AWS::IAM::Role", ROLE),
            },
        ),
        (
            "ec2",
            "DescribeLaunchTemplateVersions",
            {"DescribeLaunchTemplateVersionsRequest": {"LaunchTemplateId": "lt-1"}},
            None,
            {("AWS::EC2::LaunchTemplate", "lt-1")},
        ),
        (
            "ec2",
            "DescribeInstanceStatus",
            {"instancesSet": {"items": [{"instanceId": "i-1"}]}, "includeAllInstances": True},
            None,
            set(),
        ),
        (
            "elasticloadbalancing",
            "DescribeTargetHealth",
            {"targetGroupArn": TARGETS, "targets": []},
            None,
            set(),
        ),
        ("elasticloadbalancing", "DescribeTags", {"resourceArns": [TARGETS]}, None, set()),
        (
            "eks-auth",
            "AssumeRoleForPodIdentity",
            {"clusterName": "workshop", "token": "HIDDEN_DUE_TO_SECURITY_REASONS"},
            None,
            {("AWS::EKS::Cluster", "workshop")},
        ),
    ],
)
def test_reading_calls_name_the_same_resources_as_aws(
    source: str, event_name: str, asked: Any, answer: Any, expected: set[tuple[str, str]]
) -> None:
    """Resources as in public lookups of such calls (2023 to 2026); values are ours."""
    record = a_record(
        eventSource=f"{source}.amazonaws.com",
        eventName=event_name,
        readOnly=True,
        requestParameters=asked,
        responseElements=answer,
    )
    assert set(names(record)) == expected


# Real records


def test_every_real_record_has_sensible_columns() -> None:
    for record in real_records():
        found = attributes_of(record)
        assert found.event_name == record["eventName"]
        assert found.event_time.tzinfo is not None
        # Some samples have shorter ids in place of accounts.
        assert found.account or not is_account(record["recipientAccountId"])
        identity = record["userIdentity"]
        if identity.get("userName"):
            assert found.username == identity["userName"]
        elif ":" in identity.get("principalId", ""):
            assert found.username == identity["principalId"].partition(":")[2]
        assert all(resource.name for resource in found.resources)


@pytest.mark.parametrize(
    ("event_name", "resource"),
    [
        ("CreateLoginProfile", "AWS::IAM::User"),
        ("StopLogging", "AWS::CloudTrail::Trail"),
        ("GetSecretValue", "AWS::SecretsManager::Secret"),
        ("AddPermission20150331v2", "AWS::Lambda::Function"),
        ("ModifyDBSnapshotAttribute", "AWS::RDS::DBSnapshot"),
        ("SendSSHPublicKey", "AWS::EC2::Instance"),
    ],
)
def test_a_real_record_names_its_resources(event_name: str, resource: str | None) -> None:
    types = [kind for kind, _ in names(a_real_record(event_name))]
    assert types == [] if resource is None else resource in types


#: Sources of the collection with unchanged records of AWS.
AS_WRITTEN = ("invictus-aws_dataset", "sans504-s3-ransomware", "stratus-red-team")


@pytest.mark.slow
def test_every_real_record_has_columns_or_is_refused() -> None:
    counted = refused = 0
    for source, record in collected_records():
        try:
            found = attributes_of(record)
        except (KeyError, ValueError):
            # Shortened documentation examples, and OTRF's, without their times.
            assert source not in AS_WRITTEN
            refused += 1
            continue
        counted += 1
        assert all(isinstance(r.name, str) and r.name for r in found.resources)
        assert found.username is None or found.username
    assert counted > at_least(15_000, 200)
    assert refused < 100


def test_audit_event_has_the_attributes_of_the_other_service() -> None:
    found = attributes_of(an_audit_record())
    assert (found.event_name, found.event_source) == ("CancelOrder", "orders.example.com")
    assert (found.username, found.source_ip) == ("mary@example.com", "192.0.2.7")
    assert (found.category, found.account, found.region) == ("ActivityAuditLog", ACCOUNT, REGION)
    assert found.event_time == datetime(2020, 1, 1, 8, 59, tzinfo=UTC)
    assert (found.error_code, found.resources, found.read_only) == (None, (), False)
    forged = attributes_of(a_record(eventCategory="ActivityAuditLog", eventData=["x"]))
    assert forged.event_name == a_record()["eventName"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
MEMBERS = (
    *("userIdentity", "requestParameters", "responseElements", "resources", "errorCode"),
    *("sourceIPAddress", "readOnly", "managementEvent", "insightDetails", "awsRegion"),
)


@pytest.mark.slow
@pytest.mark.hypothesis
@given(st.dictionaries(st.sampled_from(MEMBERS), anything))
def test_a_record_with_wrong_types_can_be_searched(
    odd: dict[str, Any],
) -> None:
    found = attributes_of({**a_record(), **odd})
    for column in (found.access_key_id, found.principal_arn, found.source_ip, found.error_code):
        assert column is None or isinstance(column, str)
    for resource in found.resources:
        assert isinstance(resource.name, str)
        assert resource.type is None or isinstance(resource.type, str)
