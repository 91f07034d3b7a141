"""Effects of calls on resources: the tables, against AWS's models, and their consequences."""

import re

import pytest

from opentrail.core.resource_types import RESOURCE_MEMBERS
from opentrail.who.changes import (
    CHANGERS,
    IDEMPOTENT,
    RENAMES,
    UNMAKERS,
    changes,
    creates,
    deletes,
    overwrites,
    rename_of,
    restores,
    version_of,
)
from opentrail.who.changes import (
    MAKERS as MAKING,
)
from tests.factories import catalog

# Creations


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
        ("PutMetricAlarm", "AWS::CloudWatch::Alarm", True),
        ("PutDashboard", "AWS::CloudWatch::Dashboard", True),
        ("PutRule", "AWS::Events::Rule", True),
        ("PutTargets", "AWS::Events::Rule", False),
        ("PutRolePolicy", "AWS::IAM::Policy", True),
        ("PutRolePolicy", "AWS::IAM::Role", False),
        ("PutBucketPolicy", "AWS::S3::Bucket", False),
        ("RegisterTaskDefinition", "AWS::ECS::TaskDefinition", True),
        ("RequestCertificate", "AWS::CertificateManager::Certificate", True),
        ("ImportCertificate", "AWS::CertificateManager::Certificate", True),
        ("UploadServerCertificate", "AWS::IAM::ServerCertificate", True),
        ("PublishLayerVersion", "AWS::Lambda::LayerVersion", True),
        ("CopySnapshot", "AWS::EC2::Snapshot", True),
        ("AllocateHosts", "AWS::EC2::Host", True),
        ("RestoreDBInstanceFromDBSnapshot", "AWS::RDS::DBInstance", True),
        ("RestoreDBInstanceFromDBSnapshot", "AWS::RDS::DBSnapshot", False),
        ("RestoreTableToPointInTime", "AWS::DynamoDB::Table", True),
        ("RestoreSecret", "AWS::SecretsManager::Secret", False),
        ("RestoreObject", "AWS::S3::Object", False),
        ("RestoreSnapshotFromRecycleBin", "AWS::EC2::Snapshot", False),
        ("UpdateSecret", "AWS::SecretsManager::Secret", False),
        ("AttachUserPolicy", "AWS::IAM::Policy", False),
        ("DeleteRolePolicy", "AWS::IAM::Policy", False),
        ("PutItem", None, False),
    ],
)
def test_the_name_of_a_call_tells_its_creation(event_name: str, kind: str, expected: bool) -> None:
    assert creates(event_name, kind) is expected


#: Types that events of other services also name → the service that makes them.
MAKERS = {"AWS::S3::Bucket": "s3", "AWS::IAM::Role": "iam", "AWS::IAM::AccessKey": "iam"}
MAKERS["AWS::EKS::Cluster"] = "eks"
#: Event source without domain → its services, where the names differ.
SERVICES = {"elasticloadbalancing": ("elb", "elbv2")}
NAMED = {
    kind: MAKERS.get(kind, source)
    for source, table in RESOURCE_MEMBERS.items()
    for kind in table.values()
}


@pytest.mark.parametrize(("kind", "source"), sorted(NAMED.items()))
def test_some_call_makes_each_named_type(kind: str, source: str) -> None:
    services = [catalog().services[name] for name in SERVICES.get(source, (source,))]
    calls = [call for service in services for call in service.model.operation_names]
    assert [call for call in calls if creates(call, kind)] != []


# Deletions and changes


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
        ("DeleteRolePolicy", "AWS::IAM::Policy", True),
        ("DeleteParameters", "AWS::SSM::Parameter", True),
        ("ReleaseHosts", "AWS::EC2::Host", True),
        ("DeleteThing", None, True),
        ("CreateUser", "AWS::IAM::User", False),
    ],
)
def test_the_name_of_a_call_tells_its_deletion(
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
def test_call_changes_its_subject_and_no_other_name(
    event_name: str, kind: str, expected: bool
) -> None:
    assert changes(event_name, kind) is expected


# The tables


def operations(source: str) -> set[str]:
    services = [catalog().services[name] for name in SERVICES.get(source, (source,))]
    return {name for service in services for name in service.model.operation_names}


def test_calls_in_the_tables_are_existing_operations() -> None:
    sources = {kind.split("::")[1].lower() for kind in (*MAKING, *UNMAKERS, *CHANGERS)}
    assert "sts" in sources
    every = set().union(*(operations(source) for source in sources))
    named = {
        name for table in (MAKING, UNMAKERS, CHANGERS) for names in table.values() for name in names
    } | IDEMPOTENT
    no_operations = {"DeleteKey", "PostObject"}  # an event of KMS itself; a browser's form
    assert named - every == no_operations


def test_tables_speak_of_types_by_their_names() -> None:
    for table in (MAKING, UNMAKERS, CHANGERS):
        for kind in table:
            assert len(kind.split("::")) == 3


@pytest.mark.parametrize(
    ("event_name", "expected"),
    [
        ("PutParameter", True),
        ("PutObject", True),
        ("CopyObject", True),
        ("CompleteMultipartUpload", True),
        ("RegisterTaskDefinition", True),
        ("ImportCertificate", True),
        ("PublishLayerVersion", True),
        ("CreateUser", False),
        ("CopySnapshot", False),
        ("RequestCertificate", False),
        ("UploadServerCertificate", False),
        ("RunInstances", False),
        ("RestoreTableFromBackup", False),
    ],
)
def test_some_calls_overwrite_existing_resources(event_name: str, expected: bool) -> None:
    assert overwrites(event_name) is expected


@pytest.mark.parametrize(
    ("event_name", "kind", "expected"),
    [
        ("RestoreSecret", "AWS::SecretsManager::Secret", True),
        ("CancelKeyDeletion", "AWS::KMS::Key", True),
        ("RestoreImageFromRecycleBin", "AWS::EC2::Image", True),
        ("RestoreTableFromBackup", "AWS::DynamoDB::Table", False),
        ("RestoreSecret", None, False),
    ],
)
def test_some_calls_undo_a_deletion(event_name: str, kind: str | None, expected: bool) -> None:
    assert restores(event_name, kind) is expected


@pytest.mark.parametrize(
    ("response", "version"),
    [
        ({"version": 1, "tier": "Standard"}, 1),
        ({"taskDefinition": {"revision": 7}}, 7),
        ({"version": "1"}, None),
        ({"version": True}, None),
        (None, None),
    ],
)
def test_an_answer_may_number_the_version(response: object, version: int | None) -> None:
    assert version_of({"responseElements": response}) == version


@pytest.mark.parametrize(
    ("event_name", "parameters", "expected"),
    [
        ("UpdateUser", {"userName": "Mary", "newUserName": "Maria"}, ("Mary", "Maria")),
        ("UpdateUser", {"userName": "Mary", "newUserName": "Mary"}, None),
        ("UpdateUser", {"userName": "Mary", "newPath": "/staff/"}, None),
        (
            "ModifyDBInstance",
            {"dBInstanceIdentifier": "a", "newDBInstanceIdentifier": "b"},
            ("a", "b"),
        ),
        (
            "UpdateDeploymentGroup",
            {"currentDeploymentGroupName": "a", "newDeploymentGroupName": "b"},
            ("a", "b"),
        ),
        ("UpdateRepositoryName", {"oldName": "a", "newName": "b"}, ("a", "b")),
        ("ChangePassword", {"oldPassword": "a", "newPassword": "b"}, None),
        ("UpdateUser", None, None),
    ],
)
def test_a_rename_is_read_from_the_request(
    event_name: str, parameters: object, expected: tuple[str, str] | None
) -> None:
    assert rename_of({"eventName": event_name, "requestParameters": parameters}) == expected


def test_renames_are_all_calls_that_rename() -> None:
    """A call renames if it has a member `newName`, and the same member without `new`."""
    found = {}
    for service in catalog().services.values():
        for name in service.model.operation_names:
            shape = service.model.operation_model(name).input_shape
            members = {m.lower() for m in shape.members} if shape else set()
            for member in shape.members if shape else ():
                new = re.fullmatch(r"[Nn]ew(\w*(?:Name|Identifier))", member)
                former = (
                    {f"{prefix}{new[1].lower()}" for prefix in ("", "current", "old")}
                    if new
                    else set()
                )
                if former & members and re.match("Modify|Rename|Update", name):
                    found[name] = f"n{member[1:]}"
    assert found == RENAMES


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
def test_using_a_resource_does_not_change_it(event_name: str, kind: str | None) -> None:
    assert not changes(event_name, kind)


@pytest.mark.parametrize(
    ("event_name", "kind"),
    [
        ("CreateDefaultVpc", "AWS::EC2::VPC"),
        ("ReplicateKey", "AWS::KMS::Key"),
        ("RestoreDBClusterFromSnapshot", "AWS::RDS::DBCluster"),
    ],
)
def test_call_may_make_a_thing_without_naming_it(event_name: str, kind: str) -> None:
    assert creates(event_name, kind)
