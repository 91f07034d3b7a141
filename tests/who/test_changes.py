"""What calls do to resources: the tables, against AWS's models, and what follows from them."""

import pytest

from opentrail.core.resource_types import RESOURCE_MEMBERS
from opentrail.who.changes import (
    CHANGERS,
    OVERWRITING,
    UNMAKERS,
    changes,
    creates,
    deletes,
)
from opentrail.who.changes import (
    MAKERS as MAKING,
)
from tests.factories import catalog

# What makes what


@pytest.mark.parametrize(
    ("event_name", "kind", "expected"),
    [
        ("CreateUser", "AWS::IAM::User", True),
        ("CreateAccessKey", "AWS::IAM::AccessKey", True),
        ("CreateAccessKey", "AWS::IAM::User", False),
        ("CreateLoginProfile", "AWS::IAM::User", False),
        ("DeleteUser", "AWS::IAM::User", False),
        ("CreateUserPool", "AWS::IAM::User", False),
        ("CreateBucket", "AWS::S3::Bucket", True),
        ("PutObject", "AWS::S3::Object", True),
        ("CopyObject", "AWS::S3::Object", True),
        ("GetObject", "AWS::S3::Object", False),
        ("PutObject", "AWS::S3::Bucket", False),
        ("PutParameter", "AWS::SSM::Parameter", True),
        ("CreateFunction20150331", "AWS::Lambda::Function", True),
        ("UpdateFunctionCode20150331v2", "AWS::Lambda::Function", False),
        ("CreateDBInstance", "AWS::RDS::DBInstance", True),
        ("RunInstances", "AWS::EC2::Instance", True),
        ("CreateVpc", "AWS::EC2::VPC", True),
        ("CreateVpcEndpoint", "AWS::EC2::VPCEndpoint", True),
        ("CreateImage", "AWS::EC2::Ami", True),
        ("RegisterImage", "AWS::EC2::Ami", True),
        ("CreateVpcEndpoint", "AWS::EC2::VPC", False),
        ("ImportKeyPair", "AWS::EC2::KeyPair", True),
        ("CreateTrail", "AWS::CloudTrail::Trail", True),
    ],
)
def test_a_call_makes_what_its_name_says(event_name: str, kind: str, expected: bool) -> None:
    assert creates(event_name, kind) is expected


#: Types that events of other services name as well → the service that makes them.
MAKERS = {"AWS::S3::Bucket": "s3", "AWS::IAM::Role": "iam", "AWS::IAM::AccessKey": "iam"}
MAKERS["AWS::EKS::Cluster"] = "eks"
#: Event source without domain → the services behind it, where the names differ.
SERVICES = {"elasticloadbalancing": ("elb", "elbv2")}
NAMED = {
    kind: MAKERS.get(kind, source)
    for source, table in RESOURCE_MEMBERS.items()
    for kind in table.values()
}


@pytest.mark.parametrize(("kind", "source"), sorted(NAMED.items()))
def test_some_call_makes_each_type_of_resource_that_events_name(kind: str, source: str) -> None:
    services = [catalog().services[name] for name in SERVICES.get(source, (source,))]
    calls = [call for service in services for call in service.model.operation_names]
    assert [call for call in calls if creates(call, kind)] != []


# What removes and changes what


@pytest.mark.parametrize(
    ("event_name", "kind", "expected"),
    [
        ("DeleteUser", "AWS::IAM::User", True),
        ("DeleteUserPolicy", "AWS::IAM::User", False),
        ("TerminateInstances", "AWS::EC2::Instance", True),
        ("DeleteFunction20150331", "AWS::Lambda::Function", True),
        ("DeleteVpc", "AWS::EC2::VPC", True),
        ("DeleteObject", "AWS::S3::Object", True),
        ("DeleteObjects", "AWS::S3::Object", True),
        ("ScheduleKeyDeletion", "AWS::KMS::Key", True),
        ("DeregisterImage", "AWS::EC2::Ami", True),
        ("DeleteThing", None, True),
        ("CreateUser", "AWS::IAM::User", False),
    ],
)
def test_a_call_removes_what_its_name_says(
    event_name: str, kind: str | None, expected: bool
) -> None:
    assert deletes(event_name, kind) is expected


@pytest.mark.parametrize(
    ("event_name", "kind", "expected"),
    [
        ("AttachUserPolicy", "AWS::IAM::User", True),
        ("AttachUserPolicy", "AWS::IAM::Policy", False),
        ("CreatePolicyVersion", "AWS::IAM::Policy", True),
        ("AddUserToGroup", "AWS::IAM::Group", True),
        ("CreateAccessKey", "AWS::IAM::User", True),
        ("TagUser", "AWS::IAM::User", True),
        ("CreateTags", "AWS::EC2::Instance", True),
        ("RunInstances", "AWS::EC2::VPC", False),
        ("RunInstances", "AWS::EC2::SecurityGroup", False),
        ("AuthorizeSecurityGroupIngress", "AWS::EC2::SecurityGroup", True),
        ("StopInstances", "AWS::EC2::Instance", True),
        ("ModifyVpcAttribute", "AWS::EC2::VPC", True),
        ("PutObject", "AWS::S3::Bucket", False),
        ("PutBucketPolicy", "AWS::S3::Bucket", True),
        ("CreateFunction20150331", "AWS::IAM::Role", False),
        ("StopLogging", "AWS::CloudTrail::Trail", True),
        ("AddPermission20150331v2", "AWS::Lambda::Function", True),
        ("AddPermission", "AWS::IAM::Role", False),
        ("CreateRoute", "AWS::EC2::RouteTable", True),
        ("UpdateTimeToLive", "AWS::DynamoDB::Table", True),
        ("UpdateContinuousBackups", "AWS::DynamoDB::Table", True),
        ("PutResourcePolicy", "AWS::SecretsManager::Secret", True),
        ("DeleteResourcePolicy", "AWS::DynamoDB::Table", True),
        ("GetResourcePolicy", "AWS::DynamoDB::Table", False),
        ("AttachVolume", "AWS::EC2::Instance", True),
        ("PutMetricFilter", "AWS::Logs::LogGroup", True),
    ],
)
def test_a_call_changes_what_it_is_about_and_not_what_it_names(
    event_name: str, kind: str, expected: bool
) -> None:
    assert changes(event_name, kind) is expected


# The tables


def operations(source: str) -> set[str]:
    services = [catalog().services[name] for name in SERVICES.get(source, (source,))]
    return {name for service in services for name in service.model.operation_names}


def test_calls_of_the_tables_are_operations_that_there_are() -> None:
    sources = {kind.split("::")[1].lower() for kind in (*MAKING, *UNMAKERS, *CHANGERS)}
    assert "sts" in sources
    every = set().union(*(operations(source) for source in sources))
    named = {
        name for table in (MAKING, UNMAKERS, CHANGERS) for names in table.values() for name in names
    }
    no_operations = {"DeleteKey", "PostObject"}  # an event of KMS itself; a browser's form
    assert named - every == no_operations


def test_tables_speak_of_types_by_their_names() -> None:
    for table in (MAKING, UNMAKERS, CHANGERS):
        for kind in table:
            assert len(kind.split("::")) == 3
    assert "PutObject" in OVERWRITING
    assert "CreateUser" not in OVERWRITING


@pytest.mark.parametrize(
    ("event_name", "kind"),
    [
        ("AssumeRole", "AWS::IAM::Role"),
        ("AssumeRoleWithSAML", "AWS::IAM::Role"),
        ("InvokeFunction", "AWS::Lambda::Function"),
        ("Invoke20150331", None),
        ("StartJobRun", "AWS::Glue::Job"),
        ("StartPipelineExecution", "AWS::CodePipeline::Pipeline"),
        ("CreateDBClusterSnapshot", "AWS::RDS::DBCluster"),
        ("RestoreDBInstanceFromDBSnapshot", "AWS::RDS::DBSnapshot"),
        ("DetectStackDrift", "AWS::CloudFormation::Stack"),
        ("ExportTableToPointInTime", "AWS::DynamoDB::Table"),
        ("WriteGetObjectResponse", "AWS::S3::Object"),
        ("Decrypt", None),
    ],
)
def test_a_call_that_uses_a_thing_does_not_change_it(event_name: str, kind: str | None) -> None:
    assert not changes(event_name, kind)


@pytest.mark.parametrize(
    ("event_name", "kind"),
    [
        ("CreateDefaultVpc", "AWS::EC2::VPC"),
        ("ReplicateKey", "AWS::KMS::Key"),
        ("RestoreDBClusterFromSnapshot", "AWS::RDS::DBCluster"),
    ],
)
def test_a_call_may_make_a_thing_without_naming_it(event_name: str, kind: str) -> None:
    assert creates(event_name, kind)
