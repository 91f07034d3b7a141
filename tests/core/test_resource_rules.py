"""Reading the members of an event: tables, then rules, decided once."""

import pytest

from opentrail.core import attributes
from opentrail.core.attributes import IF_ARN, UNTYPED, ResourceRule, plan_of, type_of_id


def test_a_long_name_is_split_in_linear_time() -> None:
    assert plan_of("x.amazonaws.com", "Get" + "A0" * 500_000 + "\n!", False) is not None


def test_a_plan_is_made_once_for_each_event() -> None:
    first = plan_of("iam.amazonaws.com", "CreateUser", False)
    assert plan_of("iam.amazonaws.com", "CreateUser", False) is first
    assert plan_of("iam.amazonaws.com", "CreateUser", True) is not first


def test_the_caches_of_rules_and_members_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "_MAX_RULES", 3)
    monkeypatch.setattr(attributes, "_MAX_MEMBERS", 3)
    for number in range(10):
        plan = plan_of("odd", f"Event{number}", False)
        for member in range(10):
            assert plan.top[f"m{member}"] == IF_ARN
            assert plan.wrappers[f"m{member}"] is None
        assert len(plan.top) == len(plan.wrappers) == 3
        assert len(attributes._plans) <= 3


@pytest.mark.parametrize(
    ("source", "event_name", "reads", "member", "top", "inner"),
    [
        ("iam", "CreateUser", False, "userName", "AWS::IAM::User", "AWS::IAM::User"),
        ("ec2", "CreateFlowLogs", False, "VpcId", "AWS::EC2::VPC", "AWS::EC2::VPC"),
        ("glue", "CreateJob", False, "name", "AWS::Glue::Job", IF_ARN),
        ("glue", "GetJob", True, "jobName", "AWS::Glue::Job", "AWS::Glue::Job"),
        ("glue", "GetJob", True, "name", None, None),
        ("glue", "GetJob", True, "database", None, None),
        ("new", "DeleteThing", False, "thingId", UNTYPED, UNTYPED),
        ("iam", "GetUser", True, "other", None, None),
        ("sns", "CreateTopic", False, "name", "AWS::SNS::Topic", "AWS::SNS::Topic"),
        ("sns", "CreatePlatformApplication", False, "name", None, None),
    ],
)
def test_a_table_precedes_the_rule_of_a_member(
    source: str, event_name: str, reads: bool, member: str, top: str | None, inner: str | None
) -> None:
    plan = ResourceRule(source, event_name, reads)
    assert plan.top[member] == top
    assert plan.inner[member] == inner


def test_an_object_is_named_by_its_member() -> None:
    assert ResourceRule("iam", "CreateUser", False).wrappers["user"] == "AWS::IAM::User"
    assert ResourceRule("kms", "CreateKey", False).wrappers["keyMetadata"] == "AWS::KMS::Key"
    assert ResourceRule("athena", "CreateWorkGroup", False).wrappers["workGroup"] == (
        "AWS::Athena::WorkGroup"
    )
    assert ResourceRule("athena", "CreateWorkGroup", False).wrappers["other"] is None


def test_ids_of_ec2_have_their_type() -> None:
    assert type_of_id("vol-1") == "AWS::EC2::Volume"
    assert type_of_id("odd-1") is None
