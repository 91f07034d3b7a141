"""Calls that change resources.

To support another call, add a row to a table:

- `MAKERS`, `UNMAKERS`: calls whose names do not show that they create or delete a resource.
- `RENAMES`: calls that rename a resource.
- `CHANGERS`: calls that change a resource without naming its type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from opentrail.core.event import Record, as_object

_CREDENTIALS = (
    "AssumeRole",
    "AssumeRoleWithSAML",
    "AssumeRoleWithWebIdentity",
    "AssumeRoot",
    "GetFederationToken",
    "GetSessionToken",
)

MAKERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "AWS::CloudWatch::Alarm": ("PutMetricAlarm", "PutCompositeAlarm"),
        "AWS::EC2::Ami": ("CreateImage", "RegisterImage", "CopyImage", "ImportImage"),
        "AWS::EC2::EIP": ("AllocateAddress",),
        "AWS::EC2::Subnet": ("CreateDefaultSubnet",),
        "AWS::EC2::VPC": ("CreateDefaultVpc",),
        "AWS::IAM::AccessKey": _CREDENTIALS,
        "AWS::IAM::MFADevice": ("CreateVirtualMFADevice",),
        "AWS::IAM::OIDCProvider": ("CreateOpenIDConnectProvider",),
        "AWS::IAM::Policy": ("PutGroupPolicy", "PutRolePolicy", "PutUserPolicy"),
        "AWS::IAM::Role": ("CreateServiceLinkedRole",),
        "AWS::KMS::Key": ("ReplicateKey",),
        "AWS::RDS::DBInstance": ("CreateDBInstanceReadReplica",),
        "AWS::S3::Object": ("CompleteMultipartUpload", "PostObject"),
        "AWS::STS::AssumedRole": _CREDENTIALS[:3],
    }
)
#: Calls that return an existing resource unchanged, and create it otherwise.
IDEMPOTENT = frozenset({"CreateBucket", "CreatePlatformEndpoint", "CreateQueue", "CreateTopic"})

UNMAKERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "AWS::EC2::Ami": ("DeregisterImage",),
        "AWS::EC2::EIP": ("ReleaseAddress",),
        "AWS::IAM::MFADevice": ("DeleteVirtualMFADevice",),
        "AWS::IAM::OIDCProvider": ("DeleteOpenIDConnectProvider",),
        "AWS::IAM::Policy": ("DeleteGroupPolicy", "DeleteRolePolicy", "DeleteUserPolicy"),
        "AWS::IAM::Role": ("DeleteServiceLinkedRole",),
        "AWS::KMS::Key": ("DeleteKey", "ScheduleKeyDeletion"),
    }
)

CHANGERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "AWS::AutoScaling::AutoScalingGroup": ("SetDesiredCapacity",),
        "AWS::CloudTrail::Trail": (
            "StartLogging",
            "StopLogging",
            "PutEventSelectors",
            "PutInsightSelectors",
        ),
        "AWS::DynamoDB::Table": (
            "UpdateTimeToLive",
            "UpdateContinuousBackups",
            "UpdateContributorInsights",
            "EnableKinesisStreamingDestination",
            "DisableKinesisStreamingDestination",
            "UpdateKinesisStreamingDestination",
        ),
        "AWS::EC2::Ami": ("ModifyImageAttribute",),
        "AWS::EC2::Instance": ("AttachVolume", "DetachVolume"),
        "AWS::EC2::RouteTable": ("CreateRoute", "DeleteRoute", "ReplaceRoute"),
        "AWS::IAM::User": (
            "CreateAccessKey",
            "DeleteAccessKey",
            "UpdateAccessKey",
            "CreateLoginProfile",
            "UpdateLoginProfile",
            "DeleteLoginProfile",
            "EnableMFADevice",
            "DeactivateMFADevice",
            "ChangePassword",
        ),
        "AWS::IAM::Role": ("UpdateAssumeRolePolicy",),
        "AWS::KMS::Key": ("CreateGrant", "RevokeGrant", "CreateAlias", "UpdateAlias"),
        "AWS::Lambda::Function": ("AddPermission", "RemovePermission", "PublishVersion"),
        "AWS::Logs::LogGroup": (
            "PutRetentionPolicy",
            "DeleteRetentionPolicy",
            "PutSubscriptionFilter",
            "DeleteSubscriptionFilter",
            "PutMetricFilter",
            "DeleteMetricFilter",
            "PutDataProtectionPolicy",
            "DeleteDataProtectionPolicy",
            "AssociateKmsKey",
            "DisassociateKmsKey",
        ),
        "AWS::SNS::Topic": ("AddPermission", "RemovePermission", "Subscribe"),
        "AWS::SQS::Queue": ("AddPermission", "RemovePermission"),
    }
)
_CREATING = "Allocate|Copy|Create|Import|Publish|Put|Register|Request|Run|Upload"
#: Calls that create a resource or overwrite it; Create and the like fail if one exists.
_OVERWRITING = re.compile(r"(Import|Publish|Put|Register)[A-Z]|(CopyObject|PostObject)\Z|Complete")
#: Calls that can rename a resource → the member with the new name.
RENAMES: Mapping[str, str] = MappingProxyType(
    {
        "ModifyCluster": "newClusterIdentifier",
        "ModifyDBCluster": "newDBClusterIdentifier",
        "ModifyDBInstance": "newDBInstanceIdentifier",
        "ModifyDBProxy": "newDBProxyName",
        "ModifyDBProxyEndpoint": "newDBProxyEndpointName",
        "ModifyGlobalCluster": "newGlobalClusterIdentifier",
        "ModifyTenantDatabase": "newTenantDBName",
        "RenameTable": "newName",
        "UpdateApplication": "newApplicationName",
        "UpdateApprovalRuleTemplateName": "newApprovalRuleTemplateName",
        "UpdateComponent": "newComponentName",
        "UpdateDeploymentGroup": "newDeploymentGroupName",
        "UpdateGeneratedTemplate": "newGeneratedTemplateName",
        "UpdateGroup": "newGroupName",
        "UpdateRepositoryName": "newName",
        "UpdateServerCertificate": "newServerCertificateName",
        "UpdateUser": "newUserName",
    }
)
#: Calls that change resources of any type; attaching a policy does not change the policy.
_OF_ANY_TYPE = re.compile(
    r"(Tag|Untag)[A-Z]\w*|(Create|Delete|Add|Remove)Tags\w*|(Put|Delete)ResourcePolicy"
)
#: Calls that only use the resources that they name, though AWS records them as writes.
_USING = re.compile(
    r"(Acquire|Assume|Bundle|Copy|Detect|Execute|Export|Invoke|Purchase|Receive|Replicate|Report"
    r"|Request|Retrieve|Search|Send|Simulate|Test|Validate|Verify|Write)[A-Z]\w*"
    r"|Start\w*(Build|Execution|Job|Query|Run|Session|Task)|Create\w*(Image|Snapshot)s?"
    r"|Restore\w+From\w*Snapshot|Decrypt|Encrypt|Invoke|ReEncrypt|Publish|Sign"
)
_NO_CHANGE = MappingProxyType({"AWS::IAM::Policy": ("Attach", "Detach")})


@lru_cache(4096)
def creates(event_name: str, resource_type: str | None) -> bool:
    """Returns whether a call of this name makes a resource of this type.

    >>> creates("CreateUser", "AWS::IAM::User"), creates("CreateAccessKey", "AWS::IAM::User")
    (True, False)
    >>> creates("PutRule", "AWS::Events::Rule"), creates("PutBucketPolicy", "AWS::S3::Bucket")
    (True, False)
    """
    if resource_type is None:
        return event_name.startswith("Create")
    if event_name in MAKERS.get(resource_type, ()):
        return True
    label = _label(resource_type)
    maker = rf"({_CREATING}){label}s?(\d.*)?|Restore{label}(From|To)(?!RecycleBin)\w+"
    return bool(re.fullmatch(maker, event_name, re.I))


def overwrites(event_name: str) -> bool:
    """Returns whether a call of this name that creates a resource may change an existing one.

    >>> overwrites("PutParameter"), overwrites("CopyObject"), overwrites("CopySnapshot")
    (True, True, False)
    """
    return _OVERWRITING.match(event_name) is not None


@lru_cache(4096)
def restores(event_name: str, resource_type: str | None) -> bool:
    """Returns whether a call of this name undoes the deletion of a resource of this type.

    >>> restores("CancelKeyDeletion", "AWS::KMS::Key")
    True
    """
    label = _label(resource_type or "")
    restorer = rf"Restore{label}(FromRecycleBin)?|Cancel{label}Deletion"
    return bool(re.fullmatch(restorer, event_name, re.I))


def version_of(record: Record) -> int | None:
    """Returns the number of the written version in an answer; the first version is 1."""
    response = as_object(record.get("responseElements"))
    for part in (response, *map(as_object, response.values())):
        for member in ("version", "revision"):
            if type(number := part.get(member)) is int:
                return number
    return None


def rename_of(record: Record) -> tuple[str, str] | None:
    """Returns the old and the new name, if a call renames a resource.

    >>> asked = {"userName": "Mary", "newUserName": "Maria"}
    >>> rename_of({"eventName": "UpdateUser", "requestParameters": asked})
    ('Mary', 'Maria')
    """
    member = RENAMES.get(str(record.get("eventName")), "")
    parameters = as_object(record.get("requestParameters"))
    new, noun = parameters.get(member), member.removeprefix("new")
    for former in (f"{noun[:1].lower()}{noun[1:]}", f"current{noun}", f"old{noun}"):
        old = parameters.get(former)
        if isinstance(old, str) and isinstance(new, str) and old != new:
            return old, new
    return None


@lru_cache(4096)
def deletes(event_name: str, resource_type: str | None) -> bool:
    """Returns whether a call of this name removes a resource of this type.

    >>> deletes("TerminateInstances", "AWS::EC2::Instance"), deletes("DeleteUser", "AWS::IAM::Role")
    (True, False)
    """
    if resource_type is None:
        return event_name.startswith("Delete")
    if event_name in UNMAKERS.get(resource_type, ()):
        return True
    remover = rf"(Delete|Deregister|Release|Terminate){_label(resource_type)}s?(\d.*)?"
    return bool(re.fullmatch(remover, event_name, re.I))


@lru_cache(4096)
def changes(event_name: str, resource_type: str | None) -> bool:
    """Returns whether a call of this name, if it writes, changes a resource of this type.

    A call that only names a resource, as RunInstances does a subnet, does not change it.

    >>> changes("AttachUserPolicy", "AWS::IAM::User"), changes("RunInstances", "AWS::EC2::VPC")
    (True, False)
    >>> changes("AssumeRole", "AWS::IAM::Role"), changes("Invoke", None)
    (False, False)
    """
    event_name = re.sub(r"\d.*", "", event_name)
    if resource_type is None:
        return _USING.fullmatch(event_name) is None
    if _OF_ANY_TYPE.fullmatch(event_name):
        return True
    if event_name in CHANGERS.get(resource_type, ()):
        return True
    if _USING.fullmatch(event_name):
        return False
    if event_name.startswith(_NO_CHANGE.get(resource_type, ("\0",))):
        return False
    label = resource_type.rpartition("::")[2]
    return bool(re.search(rf"(?<=[a-z])(?i:{label})(?![a-z]{{2}})", event_name))


def _label(resource_type: str) -> str:
    return re.escape(resource_type.rpartition("::")[2])
