"""Members that name resources, derived from AWS's authorization data."""

import pytest

from opentrail.core.attributes import derived_members


@pytest.mark.parametrize(
    ("source", "event_name", "top"),
    [
        ("monitoring", "PutMetricAlarm", {"alarmName": "AWS::CloudWatch::Alarm"}),
        ("monitoring", "DeleteAlarms", {"alarmNames": "AWS::CloudWatch::Alarm"}),
        ("events", "DeleteRule", {"name": "AWS::Events::Rule"}),
        ("acm", "RequestCertificate", {"certificateArn": "AWS::CertificateManager::Certificate"}),
        ("iam", "UpdateUser", dict.fromkeys(("userName", "newUserName"), "AWS::IAM::User")),
        # Services shorten types ("og"); the variables of ARNs do not.
        ("rds", "DeleteOptionGroup", {"optionGroupName": "AWS::RDS::OptionGroup"}),
        # The resource of another service, in its own words.
        ("ssm", "TerminateSession", {"sessionId": "AWS::SSM::Session"}),
        # Any of the service's resources.
        ("states", "TagResource", {"resourceArn": ""}),
        ("states", "DescribeStateMachine", {}),
        ("unknown", "DeleteThing", {}),
    ],
)
def test_members_are_named_after_the_datas_types(
    source: str, event_name: str, top: dict[str, str]
) -> None:
    found = derived_members(source, event_name).top
    assert found == top


def test_the_version_of_an_api_makes_no_difference() -> None:
    found = derived_members("cloudfront", "UpdateDistribution2020_05_31")
    assert found == derived_members("cloudfront", "UpdateDistribution")
    assert found.top == {"id": "AWS::CloudFront::Distribution"}


def test_copy_source_is_not_a_created_resource() -> None:
    members = derived_members("rds", "CopyDBSnapshot").top
    assert "targetDBSnapshotIdentifier" in members
    assert "sourceDBSnapshotIdentifier" not in members


def test_no_content_is_a_name() -> None:
    assert "policy" not in derived_members("kms", "PutKeyPolicy").top
    assert "certificate" not in derived_members("acm", "ImportCertificate").top


def test_lists_of_names_and_of_entries_are_distinguished() -> None:
    found = derived_members("athena", "PutCapacityAssignmentConfiguration")
    assert found.entry_lists == {"capacityAssignments"}
    assert found.name_lists == {"workGroupNames"}
    assert found.inner == {"workGroupNames": "AWS::Athena::WorkGroup"}
