"""Calls that the starter rules must match, and near-misses, as opentrail records them.

A near-miss differs from a match in one part on which the rule depends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from opentrail.capture.record.assemble import Assembler
from tests.factories import (
    ACCOUNT,
    MOMENT,
    a_record,
    an_assumed_role,
    an_exchange,
    an_iam_user,
    an_identity,
    an_s3_request,
    an_sdk_request,
)

Record = dict[str, Any]
OTHER = "210987654321"
DENIED: Record = {"errorCode": "AccessDenied"}
ROOT = {
    "type": "Root",
    "principalId": ACCOUNT,
    "arn": f"arn:aws:iam::{ACCOUNT}:root",
    "accountId": ACCOUNT,
}
_ASSEMBLER = Assembler(lambda key: an_identity(key=key))


def _recorded(exchange: Any, changes: Mapping[str, Any]) -> Record:
    return {**json.loads(_ASSEMBLER.assemble(exchange).entry.record), **changes}


def call(service: str, operation: str, given: Mapping[str, Any] = {}, **changes: Any) -> Record:
    """Returns the record of an SDK's call by IAM user John; `changes` are members of it."""
    return _recorded(an_exchange(an_sdk_request(service, operation, given)), changes)


def s3(
    method: str, query: str, body: str = "", headers: Mapping[str, str] | None = None, **more: Any
) -> Record:
    """Returns the record of a call on a bucket."""
    request = an_s3_request(method, "/my-bucket", query, headers, body.encode())
    return _recorded(an_exchange(request), more)


def burst(*records: Record, seconds: int = 5) -> Sequence[Record]:
    """Returns records with this many seconds between them."""
    return [
        {
            **record,
            "eventID": f"id-{number}",
            "eventTime": f"{MOMENT + number * timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}",
        }
        for number, record in enumerate(records)
    ]


def login(mfa: str = "No", answer: str = "Success", **changes: Any) -> Record:
    identity = an_iam_user()
    del identity["accessKeyId"]
    members = {
        "userIdentity": identity,
        "eventSource": "signin.amazonaws.com",
        "eventName": "ConsoleLogin",
        "requestParameters": None,
        "responseElements": {"ConsoleLogin": answer},
        "additionalEventData": {"MFAUsed": mfa, "MobileVersion": "No"},
        "eventType": "AwsConsoleSignIn",
    }
    return a_record(**{**members, **changes})


def policy(effect: str = "Allow", action: Any = "*", **more: Any) -> str:
    statement = {"Effect": effect, "Action": action, "Resource": "*", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def bucket_policy(principal: Any, effect: str = "Allow") -> str:
    statement = {"Effect": effect, "Principal": principal, "Action": "s3:GetObject"}
    return json.dumps({"Statement": [{**statement, "Resource": "arn:aws:s3:::my-bucket/*"}]})


def trust(principal: Mapping[str, str]) -> dict[str, str]:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return {"RoleName": "admin", "PolicyDocument": json.dumps({"Statement": [statement]})}


def ingress(port: int, cidr: str, **more: Any) -> dict[str, Any]:
    ranges = {"IpRanges": [{"CidrIp": cidr}]} if cidr != "::/0" else {}
    six = {"Ipv6Ranges": [{"CidrIpv6": cidr}]} if cidr == "::/0" else {}
    rule = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **ranges, **six}
    return {"GroupId": "sg-1", "IpPermissions": [rule], **more}


def block(off: str = "") -> str:
    members = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    inner = "".join(f"<{m}>{'false' if m == off else 'true'}</{m}>" for m in members)
    return f"<PublicAccessBlockConfiguration>{inner}</PublicAccessBlockConfiguration>"


def replication(inner: str) -> str:
    rule = "<Rule><ID>r</ID><Status>Enabled</Status><Destination>"
    rule += f"<Bucket>arn:aws:s3:::copy</Bucket>{inner}</Destination></Rule>"
    role = "<Role>arn:aws:iam::123456789012:role/r</Role>"
    return f"<ReplicationConfiguration>{role}{rule}</ReplicationConfiguration>"


def acl(group: str) -> str:
    return (
        '<AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><AccessControlList>'
        '<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group">'
        f"<URI>http://acs.amazonaws.com/groups/{group}</URI></Grantee>"
        "<Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>"
    )


_MARY, _JOHN = {"UserName": "Mary"}, {"UserName": "John"}
_ADMIN = {"PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"}
_READER = {"PolicyArn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}
_TRAIL = {"Name": "audit"}
_KEY = {"KeyId": "1234abcd-12ab-34cd-56ef-1234567890ab"}
_FUNCTION = {"FunctionName": "shop", "StatementId": "s", "Action": "lambda:InvokeFunction"}
_SNAPSHOT = {"SnapshotId": "snap-1", "Attribute": "createVolumePermission"}
_COMMAND = {"InstanceIds": ["i-1"], "Parameters": {"commands": ["id"]}}
_LISTS: tuple[tuple[str, str, Record], ...] = (
    *(("iam", name, {}) for name in ("ListUsers", "ListRoles", "ListGroups", "ListPolicies")),
    *(("ec2", name, {}) for name in ("DescribeInstances", "DescribeVpcs", "DescribeRegions")),
    *(("sts", "GetCallerIdentity", {}), ("kms", "ListKeys", {}), ("sns", "ListTopics", {})),
    *(("lambda", "ListFunctions", {}), ("secretsmanager", "ListSecrets", {})),
)
_LISTED = [call(*each) for each in _LISTS]
_MARY_DID = {"userIdentity": an_iam_user("Mary")}
_SECRETS = [call("secretsmanager", "GetSecretValue", {"SecretId": f"s{n}"}) for n in range(10)]
_CODES = ("AccessDeniedException", "UnauthorizedOperation", "Client.UnauthorizedOperation")
_REFUSED = 5 * [call("iam", "ListUsers", errorCode=code) for code in (*_CODES, "AccessDenied")]


def selectors(**changes: Any) -> dict[str, Any]:
    chosen = {"ReadWriteType": "All", "IncludeManagementEvents": True, **changes}
    return {"TrailName": "audit", "EventSelectors": [chosen]}


#: Rule → records that it must match, and near-misses; a sequence of records is a burst.
CALLS: Mapping[str, tuple[Sequence[Any], Sequence[Any]]] = {
    "root_activity": (
        [
            call("iam", "CreateAccessKey", userIdentity=ROOT),
            login(mfa="Yes", userIdentity=ROOT),
        ],
        [
            call("iam", "CreateAccessKey"),
            call("kms", "Decrypt", userIdentity={**ROOT, "invokedBy": "s3.amazonaws.com"}),
            call("kms", "EnableKeyRotation", userIdentity=ROOT, eventType="AwsServiceEvent"),
        ],
    ),
    "console_login_without_mfa": (
        [login(), login(userIdentity=ROOT)],
        [
            login(mfa="Yes"),
            login(answer="Failure"),
            login(userIdentity=an_assumed_role()),
            login(eventName="SwitchRole"),
        ],
    ),
    "trail_stopped": (
        [call("cloudtrail", "StopLogging", _TRAIL), call("cloudtrail", "DeleteTrail", _TRAIL)],
        [
            call("cloudtrail", "StartLogging", _TRAIL),
            call("cloudtrail", "StopLogging", _TRAIL, **DENIED),
        ],
    ),
    "trail_narrowed": (
        [
            call("cloudtrail", "UpdateTrail", {**_TRAIL, "IsMultiRegionTrail": False}),
            call("cloudtrail", "UpdateTrail", {**_TRAIL, "IncludeGlobalServiceEvents": False}),
            call("cloudtrail", "UpdateTrail", {**_TRAIL, "EnableLogFileValidation": False}),
            call("cloudtrail", "PutEventSelectors", selectors(IncludeManagementEvents=False)),
            call("cloudtrail", "PutEventSelectors", selectors(ReadWriteType="ReadOnly")),
            call("cloudtrail", "PutEventSelectors", selectors(ReadWriteType="WriteOnly")),
        ],
        [
            call("cloudtrail", "UpdateTrail", {**_TRAIL, "IsMultiRegionTrail": True}),
            call("cloudtrail", "CreateTrail", {**_TRAIL, "IsMultiRegionTrail": False}),
            call("cloudtrail", "PutEventSelectors", selectors()),
            call("cloudtrail", "PutEventSelectors", selectors(ReadWriteType="ReadOnly"), **DENIED),
        ],
    ),
    "access_key_for_another_user": (
        [call("iam", "CreateAccessKey", _MARY), call("iam", "CreateAccessKey", _JOHN, **_MARY_DID)],
        [
            call("iam", "CreateAccessKey", _JOHN),
            call("iam", "CreateAccessKey"),
            call("iam", "CreateAccessKey", _MARY, **DENIED),
            call("iam", "CreateLoginProfile", _MARY),
        ],
    ),
    "administrator_policy_attached": (
        [
            call("iam", "AttachUserPolicy", {**_MARY, **_ADMIN}),
            call("iam", "AttachGroupPolicy", {"GroupName": "g", **_ADMIN}),
            call(
                "iam",
                "AttachRolePolicy",
                {"RoleName": "r", "PolicyArn": "arn:aws-cn:iam::aws:policy/IAMFullAccess"},
            ),
        ],
        [
            call("iam", "AttachUserPolicy", {**_MARY, **_READER}),
            call("iam", "DetachUserPolicy", {**_MARY, **_ADMIN}),
            call("iam", "AttachUserPolicy", {**_MARY, **_ADMIN}, **DENIED),
        ],
    ),
    "policy_allows_everything": (
        [
            call("iam", "CreatePolicy", {"PolicyName": "p", "PolicyDocument": policy()}),
            call("iam", "CreatePolicyVersion", {"PolicyArn": "p" * 20, "PolicyDocument": policy()}),
            call(
                "iam",
                "PutUserPolicy",
                {**_MARY, "PolicyName": "p", "PolicyDocument": policy(action=["*"])},
            ),
            call(
                "iam",
                "PutGroupPolicy",
                {
                    "GroupName": "g",
                    "PolicyName": "p",
                    "PolicyDocument": policy().replace(": ", ":"),
                },
            ),
            call(
                "iam",
                "PutRolePolicy",
                {
                    "RoleName": "r",
                    "PolicyName": "p",
                    "PolicyDocument": policy(action=["*"]).replace(": ", ":"),
                },
            ),
        ],
        [
            call(
                "iam", "CreatePolicy", {"PolicyName": "p", "PolicyDocument": policy(action="s3:*")}
            ),
            call("iam", "CreatePolicy", {"PolicyName": "p", "PolicyDocument": policy("Deny")}),
            call("iam", "CreatePolicy", {"PolicyName": "p", "PolicyDocument": policy()}, **DENIED),
            call("iam", "UpdateAssumeRolePolicy", {"RoleName": "r", "PolicyDocument": policy()}),
        ],
    ),
    "role_trust_given_to_account": (
        [
            call("iam", "UpdateAssumeRolePolicy", trust({"AWS": f"arn:aws:iam::{OTHER}:root"})),
            call("iam", "UpdateAssumeRolePolicy", trust({"AWS": "*"})),
        ],
        [
            call("iam", "UpdateAssumeRolePolicy", trust({"Service": "ec2.amazonaws.com"})),
            call("iam", "UpdateAssumeRolePolicy", trust({"AWS": "*"}), **DENIED),
            call("iam", "PutRolePolicy", {"PolicyName": "p", **trust({"AWS": "*"})}),
        ],
    ),
    "identity_provider_changed": (
        [
            call("iam", "CreateSAMLProvider", {"Name": "p", "SAMLMetadataDocument": "x" * 1000}),
            call("iam", "UpdateSAMLProvider", {"SAMLProviderArn": "p" * 20}),
            call("iam", "CreateOpenIDConnectProvider", {"Url": "https://id.example.com"}),
            call("iam", "UpdateOpenIDConnectProviderThumbprint", {"ThumbprintList": ["a" * 40]}),
            call("iam", "AddClientIDToOpenIDConnectProvider", {"ClientID": "c"}),
        ],
        [
            call("iam", "ListOpenIDConnectProviders"),
            call("iam", "UpdateSAMLProvider", {"SAMLProviderArn": "p" * 20}, **DENIED),
        ],
    ),
    "mfa_device_removed": (
        [
            call("iam", "DeactivateMFADevice", {**_MARY, "SerialNumber": "GAHT12345678"}),
            call("iam", "DeleteVirtualMFADevice", {"SerialNumber": "GAHT12345678"}),
        ],
        [
            call("iam", "EnableMFADevice", {**_MARY, "SerialNumber": "GAHT12345678"}),
            call("iam", "DeactivateMFADevice", {**_MARY, "SerialNumber": "GAHT1234"}, **DENIED),
        ],
    ),
    "password_policy_weakened": (
        [
            call("iam", "DeleteAccountPasswordPolicy"),
            call("iam", "UpdateAccountPasswordPolicy", {"MinimumPasswordLength": 11}),
        ],
        [
            call("iam", "UpdateAccountPasswordPolicy", {"MinimumPasswordLength": 12}),
            call("iam", "GetAccountPasswordPolicy"),
            call("iam", "DeleteAccountPasswordPolicy", **DENIED),
        ],
    ),
    "bucket_made_public": (
        [
            s3("PUT", "acl", headers={"x-amz-acl": "public-read"}),
            s3("PUT", "acl", headers={"x-amz-acl": "public-read-write"}),
            s3("PUT", "acl", headers={"x-amz-acl": "authenticated-read"}),
            s3("PUT", "acl", acl("global/AllUsers")),
            s3("PUT", "acl", acl("global/AuthenticatedUsers")),
            s3("PUT", "policy", bucket_policy("*")),
            s3("PUT", "policy", bucket_policy({"AWS": "*"})),
            s3("PUT", "policy", '{"Statement":{"Principal":"*","Effect":"Allow"}}'),
            s3("PUT", "policy", '{"Statement":[{"Principal":{"AWS":"*"},"Effect":"Allow"}]}'),
        ],
        [
            s3("PUT", "acl", headers={"x-amz-acl": "private"}),
            s3("PUT", "acl", acl("s3/LogDelivery")),
            s3("PUT", "policy", bucket_policy("*", "Deny")),
            s3("PUT", "policy", bucket_policy({"AWS": ACCOUNT})),
            s3("PUT", "policy", bucket_policy("*"), **DENIED),
            s3("PUT", "", headers={"x-amz-acl": "public-read"}),
        ],
    ),
    "public_access_block_removed": (
        [
            s3("DELETE", "publicAccessBlock"),
            call("s3control", "DeletePublicAccessBlock", {"AccountId": ACCOUNT}),
            s3("PUT", "publicAccessBlock", block("BlockPublicAcls")),
            s3("PUT", "publicAccessBlock", block("IgnorePublicAcls")),
            s3("PUT", "publicAccessBlock", block("BlockPublicPolicy")),
            s3("PUT", "publicAccessBlock", block("RestrictPublicBuckets")),
            call(
                "s3control",
                "PutPublicAccessBlock",
                {
                    "AccountId": ACCOUNT,
                    "PublicAccessBlockConfiguration": {"BlockPublicPolicy": False},
                },
            ),
        ],
        [
            s3("PUT", "publicAccessBlock", block()),
            s3("DELETE", "publicAccessBlock", **DENIED),
            s3("DELETE", "policy"),
        ],
    ),
    "bucket_replicated_to_another_account": (
        [
            s3("PUT", "replication", replication(f"<Account>{OTHER}</Account>")),
            s3("PUT", "replication", replication("<Account>111122223333</Account>")),
        ],
        [
            s3("PUT", "replication", replication("")),
            s3("PUT", "replication", replication(f"<Account>{OTHER}</Account>"), **DENIED),
        ],
    ),
    "kms_key_made_unusable": (
        [
            call("kms", "ScheduleKeyDeletion", _KEY),
            call("kms", "DisableKey", _KEY),
            call("kms", "DeleteImportedKeyMaterial", _KEY),
        ],
        [call("kms", "EnableKey", _KEY), call("kms", "DisableKey", _KEY, **DENIED)],
    ),
    "backups_deleted": (
        [
            call("backup", "DeleteBackupVault", {"BackupVaultName": "v"}),
            call(
                "backup", "DeleteRecoveryPoint", {"BackupVaultName": "v", "RecoveryPointArn": "a"}
            ),
            call("backup", "DeleteBackupVaultLockConfiguration", {"BackupVaultName": "v"}),
            call("rds", "DeleteDBInstanceAutomatedBackup", {"DbiResourceId": "db-1"}),
            call("rds", "DeleteDBClusterAutomatedBackup", {"DbClusterResourceId": "cluster-1"}),
            call(
                "rds", "DeleteDBInstance", {"DBInstanceIdentifier": "d", "SkipFinalSnapshot": True}
            ),
            call("rds", "DeleteDBCluster", {"DBClusterIdentifier": "d", "SkipFinalSnapshot": True}),
        ],
        [
            call(
                "rds",
                "DeleteDBInstance",
                {
                    "DBInstanceIdentifier": "d",
                    "SkipFinalSnapshot": False,
                    "FinalDBSnapshotIdentifier": "last",
                },
            ),
            call("backup", "DeleteBackupPlan", {"BackupPlanId": "p"}),
            call("backup", "DeleteBackupVault", {"BackupVaultName": "v"}, **DENIED),
        ],
    ),
    "security_group_opened": (
        [
            call("ec2", "AuthorizeSecurityGroupIngress", ingress(22, "0.0.0.0/0")),
            call("ec2", "AuthorizeSecurityGroupIngress", ingress(3389, "::/0")),
            call(
                "ec2",
                "AuthorizeSecurityGroupIngress",
                {"GroupId": "sg-1", "CidrIp": "0.0.0.0/0", "IpProtocol": "tcp", "FromPort": 22},
            ),
        ],
        [
            call("ec2", "AuthorizeSecurityGroupIngress", ingress(22, "10.0.0.0/8")),
            call("ec2", "AuthorizeSecurityGroupIngress", ingress(443, "0.0.0.0/0")),
            call("ec2", "AuthorizeSecurityGroupIngress", ingress(80, "::/0")),
            call(
                "ec2",
                "AuthorizeSecurityGroupIngress",
                {"GroupId": "sg-1", "CidrIp": "0.0.0.0/0", "IpProtocol": "tcp", "FromPort": 443},
            ),
            call(
                "ec2",
                "AuthorizeSecurityGroupIngress",
                {"GroupId": "sg-1", "CidrIp": "0.0.0.0/0", "IpProtocol": "tcp", "FromPort": 80},
            ),
            call("ec2", "AuthorizeSecurityGroupEgress", ingress(22, "0.0.0.0/0")),
            call(
                "ec2",
                "AuthorizeSecurityGroupIngress",
                ingress(22, "0.0.0.0/0"),
                errorCode="Client.UnauthorizedOperation",
            ),
        ],
    ),
    "snapshot_shared": (
        [
            call(
                "ec2",
                "ModifySnapshotAttribute",
                {**_SNAPSHOT, "CreateVolumePermission": {"Add": [{"UserId": OTHER}]}},
            ),
            call(
                "ec2",
                "ModifySnapshotAttribute",
                {**_SNAPSHOT, "CreateVolumePermission": {"Add": [{"Group": "all"}]}},
            ),
            call(
                "ec2",
                "ModifyImageAttribute",
                {"ImageId": "ami-1", "LaunchPermission": {"Add": [{"UserId": OTHER}]}},
            ),
        ],
        [
            call(
                "ec2",
                "ModifySnapshotAttribute",
                {**_SNAPSHOT, "CreateVolumePermission": {"Remove": [{"UserId": OTHER}]}},
            ),
            call(
                "ec2",
                "ModifyImageAttribute",
                {"ImageId": "ami-1", "LaunchPermission": {"Remove": [{"UserId": OTHER}]}},
            ),
            call(
                "ec2",
                "ModifySnapshotAttribute",
                {**_SNAPSHOT, "CreateVolumePermission": {"Add": [{"UserId": OTHER}]}},
                errorCode="Client.UnauthorizedOperation",
            ),
        ],
    ),
    "database_snapshot_shared": (
        [
            call(
                "rds",
                "ModifyDBSnapshotAttribute",
                {
                    "DBSnapshotIdentifier": "s",
                    "AttributeName": "restore",
                    "ValuesToAdd": [OTHER],
                },
            ),
            call(
                "rds",
                "ModifyDBClusterSnapshotAttribute",
                {
                    "DBClusterSnapshotIdentifier": "s",
                    "AttributeName": "restore",
                    "ValuesToAdd": ["all"],
                },
            ),
        ],
        [
            call(
                "rds",
                "ModifyDBSnapshotAttribute",
                {
                    "DBSnapshotIdentifier": "s",
                    "AttributeName": "restore",
                    "ValuesToRemove": [OTHER],
                },
            ),
            call(
                "rds",
                "ModifyDBSnapshotAttribute",
                {"DBSnapshotIdentifier": "s", "AttributeName": "other", "ValuesToAdd": [OTHER]},
            ),
            call(
                "rds",
                "ModifyDBSnapshotAttribute",
                {"DBSnapshotIdentifier": "s", "AttributeName": "restore", "ValuesToAdd": [OTHER]},
                **DENIED,
            ),
        ],
    ),
    "guardduty_turned_off": (
        [
            call("guardduty", "DeleteDetector", {"DetectorId": "d"}),
            call("guardduty", "DisassociateFromAdministratorAccount", {"DetectorId": "d"}),
            call("guardduty", "DisassociateFromMasterAccount", {"DetectorId": "d"}),
            call("guardduty", "StopMonitoringMembers", {"DetectorId": "d", "AccountIds": [OTHER]}),
            call("guardduty", "UpdateDetector", {"DetectorId": "d", "Enable": False}),
        ],
        [
            call("guardduty", "UpdateDetector", {"DetectorId": "d", "Enable": True}),
            call("guardduty", "CreateDetector", {"Enable": False}),
            call("guardduty", "DeleteDetector", {"DetectorId": "d"}, **DENIED),
        ],
    ),
    "security_checks_turned_off": (
        [
            call("config", "StopConfigurationRecorder", {"ConfigurationRecorderName": "r"}),
            call("config", "DeleteConfigurationRecorder", {"ConfigurationRecorderName": "r"}),
            call("config", "DeleteDeliveryChannel", {"DeliveryChannelName": "c"}),
            call("securityhub", "DisableSecurityHub"),
            call("macie2", "DisableMacie"),
            call("accessanalyzer", "DeleteAnalyzer", {"analyzerName": "a"}),
        ],
        [
            call("config", "StartConfigurationRecorder", {"ConfigurationRecorderName": "r"}),
            call("securityhub", "EnableSecurityHub"),
            call("securityhub", "DisableSecurityHub", **DENIED),
        ],
    ),
    "flow_logs_deleted": (
        [
            call("ec2", "DeleteFlowLogs", {"FlowLogIds": ["fl-1"]}),
            call("ec2", "DeleteFlowLogs", {"FlowLogIds": ["fl-1", "fl-2"]}, **_MARY_DID),
        ],
        [
            call("ec2", "CreateFlowLogs", {"ResourceIds": ["vpc-1"]}),
            call("ec2", "DeleteFlowLogs", errorCode="Client.UnauthorizedOperation"),
        ],
    ),
    "dns_query_logs_removed": (
        [
            call(
                "route53resolver",
                "DeleteResolverQueryLogConfig",
                {"ResolverQueryLogConfigId": "rqlc-1"},
            ),
            call(
                "route53resolver",
                "DisassociateResolverQueryLogConfig",
                {"ResolverQueryLogConfigId": "rqlc-1", "ResourceId": "vpc-1"},
            ),
            call("route53", "DeleteQueryLoggingConfig", {"Id": "87654321"}),
        ],
        [
            call(
                "route53resolver",
                "AssociateResolverQueryLogConfig",
                {"ResolverQueryLogConfigId": "rqlc-1", "ResourceId": "vpc-1"},
            ),
            call("route53", "GetQueryLoggingConfig", {"Id": "87654321"}),
            call("route53", "DeleteQueryLoggingConfig", {"Id": "87654321"}, **DENIED),
        ],
    ),
    "instance_user_data_read": (
        [
            call(
                "ec2", "DescribeInstanceAttribute", {"InstanceId": "i-1", "Attribute": "userData"}
            ),
            call(
                "ec2",
                "DescribeInstanceAttribute",
                {"InstanceId": "i-2", "Attribute": "userData"},
                userIdentity=an_assumed_role(),
            ),
        ],
        [
            call(
                "ec2",
                "DescribeInstanceAttribute",
                {"InstanceId": "i-1", "Attribute": "instanceType"},
            ),
            call(
                "ec2",
                "DescribeInstanceAttribute",
                {"InstanceId": "i-1", "Attribute": "userData"},
                errorCode="Client.UnauthorizedOperation",
            ),
            call("ec2", "ModifyInstanceAttribute", {"InstanceId": "i", "Attribute": "userData"}),
        ],
    ),
    "ssm_command_run": (
        [
            call("ssm", "SendCommand", {"DocumentName": "AWS-RunShellScript", **_COMMAND}),
            call("ssm", "SendCommand", {"DocumentName": "AWS-RunPowerShellScript", **_COMMAND}),
        ],
        [
            call("ssm", "SendCommand", {"DocumentName": "AWS-RunPatchBaseline", **_COMMAND}),
            call(
                "ssm",
                "SendCommand",
                {"DocumentName": "AWS-RunShellScript", **_COMMAND},
                userIdentity={**an_assumed_role(), "invokedBy": "ssm.amazonaws.com"},
            ),
            call(
                "ssm", "SendCommand", {"DocumentName": "AWS-RunShellScript", **_COMMAND}, **DENIED
            ),
            call("ssm", "StartSession", {"Target": "i-1"}),
        ],
    ),
    "lambda_made_public": (
        [
            call("lambda", "AddPermission", {**_FUNCTION, "Principal": "*"}),
            call("lambda", "CreateFunctionUrlConfig", {"FunctionName": "f", "AuthType": "NONE"}),
            call("lambda", "UpdateFunctionUrlConfig", {"FunctionName": "f", "AuthType": "NONE"}),
        ],
        [
            call("lambda", "AddPermission", {**_FUNCTION, "Principal": "s3.amazonaws.com"}),
            call("lambda", "AddPermission", {**_FUNCTION, "Principal": "*", "SourceArn": "arn:x"}),
            call(
                "lambda", "AddPermission", {**_FUNCTION, "Principal": "*", "SourceAccount": ACCOUNT}
            ),
            call(
                "lambda", "AddPermission", {**_FUNCTION, "Principal": "*", "PrincipalOrgID": "o-1"}
            ),
            call("lambda", "AddPermission", {**_FUNCTION, "Principal": "*"}, **DENIED),
            call("lambda", "CreateFunctionUrlConfig", {"FunctionName": "f", "AuthType": "AWS_IAM"}),
        ],
    ),
    "organization_left": (
        [
            call("organizations", "LeaveOrganization"),
            call("organizations", "RemoveAccountFromOrganization", {"AccountId": OTHER}),
            call("organizations", "DeleteOrganization"),
            call("organizations", "DisablePolicyType", {"PolicyType": "SERVICE_CONTROL_POLICY"}),
            call("organizations", "DetachPolicy", {"PolicyId": "p-1", "TargetId": OTHER}),
        ],
        [
            call("organizations", "AttachPolicy", {"PolicyId": "p-1", "TargetId": OTHER}),
            call("organizations", "LeaveOrganization", **DENIED),
        ],
    ),
    "many_denied_calls": (
        [burst(*_REFUSED), burst(*_REFUSED, seconds=31)],
        [
            burst(*_REFUSED[:-1]),
            burst(*_REFUSED, seconds=32),
            burst(*_REFUSED[:-1], {**_REFUSED[-1], **_MARY_DID}),
            burst(*_REFUSED[:-1], call("iam", "ListUsers")),
        ],
    ),
    "account_enumerated": (
        [burst(*_LISTED), burst(*_LISTED, *_LISTED, seconds=20)],
        [
            burst(*_LISTED[1:], _LISTED[1]),
            burst(*_LISTED, seconds=60),
            burst(*_LISTED[1:], {**_LISTED[0], **_MARY_DID}),
            burst(*_LISTED[1:], call("iam", "GetUser")),
        ],
    ),
    "secrets_read_in_bulk": (
        [burst(*_SECRETS), burst(*_SECRETS, seconds=60)],
        [
            burst(*_SECRETS[1:], _SECRETS[1]),
            burst(*_SECRETS, seconds=70),
            burst(*_SECRETS[1:], {**_SECRETS[0], **_MARY_DID}),
            burst(*_SECRETS[1:], {**_SECRETS[0], **DENIED}),
        ],
    ),
}
