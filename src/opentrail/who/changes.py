"""How calls change resources: tables, which a new row extends.

- `MAKERS`, `UNMAKERS`: calls that create or delete a resource, though their names do not say so.
- `CHANGERS`: calls that change a resource without naming its type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

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
        "AWS::IAM::AccessKey": _CREDENTIALS,
        "AWS::STS::AssumedRole": _CREDENTIALS[:3],
        "AWS::S3::Object": ("PutObject", "CopyObject", "CompleteMultipartUpload", "PostObject"),
        "AWS::EC2::Instance": ("RunInstances",),
        "AWS::EC2::Ami": ("CreateImage", "RegisterImage", "CopyImage", "ImportImage"),
        "AWS::EC2::Snapshot": ("CopySnapshot",),
        "AWS::DynamoDB::Table": (
            "ImportTable",
            "RestoreTableFromBackup",
            "RestoreTableToPointInTime",
        ),
        "AWS::EC2::Subnet": ("CreateDefaultSubnet",),
        "AWS::EC2::VPC": ("CreateDefaultVpc",),
        "AWS::EC2::Volume": ("CopyVolumes",),
        "AWS::IAM::Role": ("CreateServiceLinkedRole",),
        "AWS::KMS::Alias": ("CreateAlias",),
        "AWS::KMS::Key": ("ReplicateKey",),
        "AWS::RDS::DBCluster": (
            "RestoreDBClusterFromS3",
            "RestoreDBClusterFromSnapshot",
            "RestoreDBClusterToPointInTime",
        ),
        "AWS::RDS::DBInstance": (
            "CreateDBInstanceReadReplica",
            "RestoreDBInstanceFromDBSnapshot",
            "RestoreDBInstanceFromS3",
            "RestoreDBInstanceToPointInTime",
        ),
        "AWS::RDS::DBSnapshot": ("CopyDBSnapshot",),
        "AWS::IAM::MFADevice": ("CreateVirtualMFADevice",),
        "AWS::IAM::OIDCProvider": ("CreateOpenIDConnectProvider",),
        "AWS::IAM::ServerCertificate": ("UploadServerCertificate",),
        "AWS::SSM::Parameter": ("PutParameter",),
    }
)
#: Calls that create a resource or overwrite it.
OVERWRITING = frozenset({*MAKERS["AWS::S3::Object"], "PutParameter"})

UNMAKERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "AWS::EC2::Ami": ("DeregisterImage",),
        "AWS::IAM::MFADevice": ("DeleteVirtualMFADevice",),
        "AWS::IAM::OIDCProvider": ("DeleteOpenIDConnectProvider",),
        "AWS::IAM::Role": ("DeleteServiceLinkedRole",),
        "AWS::KMS::Key": ("DeleteKey", "ScheduleKeyDeletion"),
        "AWS::SSM::Parameter": ("DeleteParameters",),
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
    """
    if resource_type is None:
        return event_name.startswith("Create")
    if event_name in MAKERS.get(resource_type, ()):
        return True
    maker = rf"(Create|Run|Register|Import){_label(resource_type)}(\d.*)?"
    return bool(re.fullmatch(maker, event_name, re.I))


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
    remover = rf"(Delete|Terminate|Deregister){_label(resource_type)}s?(\d.*)?"
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
