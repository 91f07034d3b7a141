"""The words for calls in sentences, which a new row extends.

- `CALL_PHRASES`: the phrase for a call. `{member}` is a member of the request or of the response; a
  call without that member is described by its name. Names are shortened from ARNs and URLs.
- `VERBS`: the first word of a call's name → the verb for the resource that the rest names.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: Event source without `.amazonaws.com` → event name without a version → phrase.
CALL_PHRASES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "cloudtrail": {
            "PutEventSelectors": "changed what trail {trailName} records",
            "StartLogging": "started logging of trail {name}",
            "StopLogging": "stopped logging of trail {name}",
        },
        # Of opentrail itself, as are `detections`, `insights` and `mcp`.
        "console": {
            "CreateConsoleUser": "created console user {name}",
            "CreatePersonalToken": "created personal token {name} of console user {user}",
            "DeleteConsoleUser": "deleted console user {name}",
            "DisableConsoleUser": "disabled console user {name}",
            "EnableConsoleUser": "enabled console user {name}",
            "EndConsoleUserSessions": "ended the sessions of console user {name}",
            "RemovePersonalToken": "removed personal token {name} of console user {user}",
            "ResetConsoleUserPassword": "reset the password of console user {name}",
        },
        "detections": {
            "DisableDetection": "disabled detection {name}",
            "EnableDetection": "enabled detection {name}",
        },
        "dynamodb": {
            "DeleteItem": "deleted an item of DynamoDB table {tableName}",
            "GetItem": "read an item of DynamoDB table {tableName}",
            "PutItem": "put an item into DynamoDB table {tableName}",
            "UpdateItem": "changed an item of DynamoDB table {tableName}",
        },
        "ec2": {
            "AssociateIamInstanceProfile": "gave EC2 instance {instanceId} an instance profile",
            "AttachVolume": "attached EBS volume {volumeId} to EC2 instance {instanceId}",
            "AuthorizeSecurityGroupEgress": "allowed outgoing traffic in security group {groupId}",
            "AuthorizeSecurityGroupIngress": "allowed incoming traffic in security group {groupId}",
            "DetachVolume": "detached EBS volume {volumeId} from EC2 instance {instanceId}",
            "ModifyInstanceAttribute": "changed EC2 instance {instanceId}",
            "ModifySnapshotAttribute": "changed who may use EBS snapshot {snapshotId}",
            "RevokeSecurityGroupEgress": "disallowed outgoing traffic in security group {groupId}",
            "RevokeSecurityGroupIngress": "disallowed incoming traffic in security group {groupId}",
        },
        "iam": {
            "AddRoleToInstanceProfile": (
                "added IAM role {roleName} to instance profile {instanceProfileName}"
            ),
            "AddUserToGroup": "added IAM user {userName} to IAM group {groupName}",
            "AttachGroupPolicy": "attached IAM policy {policyArn} to IAM group {groupName}",
            "AttachRolePolicy": "attached IAM policy {policyArn} to IAM role {roleName}",
            "AttachUserPolicy": "attached IAM policy {policyArn} to IAM user {userName}",
            "CreateAccessKey": "created access key {accessKeyId} for IAM user {userName}",
            "CreateLoginProfile": "gave IAM user {userName} a password for the console",
            "CreatePolicyVersion": "made a new version of IAM policy {policyArn}",
            "DeactivateMFADevice": "took MFA device {serialNumber} from IAM user {userName}",
            "DeleteAccessKey": "deleted access key {accessKeyId} of IAM user {userName}",
            "DeleteGroupPolicy": "removed inline policy {policyName} of IAM group {groupName}",
            "DeleteLoginProfile": "removed the password for the console of IAM user {userName}",
            "DeleteRolePolicy": "removed inline policy {policyName} of IAM role {roleName}",
            "DeleteUserPolicy": "removed inline policy {policyName} of IAM user {userName}",
            "DetachGroupPolicy": "detached IAM policy {policyArn} from IAM group {groupName}",
            "DetachRolePolicy": "detached IAM policy {policyArn} from IAM role {roleName}",
            "DetachUserPolicy": "detached IAM policy {policyArn} from IAM user {userName}",
            "EnableMFADevice": "gave IAM user {userName} MFA device {serialNumber}",
            "PutGroupPolicy": "put inline policy {policyName} on IAM group {groupName}",
            "PutRolePolicy": "put inline policy {policyName} on IAM role {roleName}",
            "PutUserPolicy": "put inline policy {policyName} on IAM user {userName}",
            "RemoveRoleFromInstanceProfile": (
                "removed IAM role {roleName} from instance profile {instanceProfileName}"
            ),
            "RemoveUserFromGroup": "removed IAM user {userName} from IAM group {groupName}",
            "SetDefaultPolicyVersion": "chose version {versionId} of IAM policy {policyArn}",
            "UpdateAccessKey": "made access key {accessKeyId} of IAM user {userName} {status}",
            "UpdateAssumeRolePolicy": "changed who may assume IAM role {roleName}",
            "UpdateLoginProfile": "changed the password for the console of IAM user {userName}",
        },
        "insights": {"ExpectIncident": "marked incident {id} as expected"},
        "kms": {
            "CancelKeyDeletion": "cancelled the deletion of KMS key {keyId}",
            "CreateAlias": "created alias {aliasName} of KMS key {targetKeyId}",
            "CreateGrant": "granted the use of KMS key {keyId}",
            "PutKeyPolicy": "changed the policy of KMS key {keyId}",
            "ScheduleKeyDeletion": "scheduled the deletion of KMS key {keyId}",
        },
        "lambda": {
            "AddPermission": "changed who may invoke Lambda function {functionName}",
            "RemovePermission": "changed who may invoke Lambda function {functionName}",
            "UpdateFunctionCode": "changed the code of Lambda function {functionName}",
            "UpdateFunctionConfiguration": "changed the settings of Lambda function {functionName}",
        },
        "mcp": {
            "McpToolCall": "used the tool {tool} of opentrail",
        },
        "s3": {
            "CompleteMultipartUpload": "put S3 object {key} into S3 bucket {bucketName}",
            "CopyObject": "copied to S3 object {key} in S3 bucket {bucketName}",
            "DeleteBucketPolicy": "removed the policy of S3 bucket {bucketName}",
            "DeleteObject": "deleted S3 object {key} from S3 bucket {bucketName}",
            "GetObject": "read S3 object {key} of S3 bucket {bucketName}",
            "PostObject": "put S3 object {key} into S3 bucket {bucketName}",
            "PutBucketAcl": "changed the access control list of S3 bucket {bucketName}",
            "PutBucketEncryption": "changed the encryption of S3 bucket {bucketName}",
            "PutBucketLifecycle": "changed the lifecycle of S3 bucket {bucketName}",
            "PutBucketLogging": "changed the access logging of S3 bucket {bucketName}",
            "PutBucketPolicy": "changed the policy of S3 bucket {bucketName}",
            "PutBucketPublicAccessBlock": "changed public access to S3 bucket {bucketName}",
            "DeleteBucketPublicAccessBlock": "changed public access to S3 bucket {bucketName}",
            "PutBucketTagging": "tagged S3 bucket {bucketName}",
            "PutBucketVersioning": "changed the versioning of S3 bucket {bucketName}",
            "PutObject": "put S3 object {key} into S3 bucket {bucketName}",
        },
        "secretsmanager": {
            "GetSecretValue": "read secret {secretId}",
            "PutSecretValue": "changed the value of secret {secretId}",
        },
        "signin": {
            "ConsoleLogin": "signed in to the AWS Management Console",
            "SwitchRole": "switched roles in the AWS Management Console",
        },
        "sns": {"Publish": "published to SNS topic {topicArn}"},
        "sqs": {
            "PurgeQueue": "emptied SQS queue {queueUrl}",
            "ReceiveMessage": "received messages of SQS queue {queueUrl}",
            "SendMessage": "sent a message to SQS queue {queueUrl}",
            "SetQueueAttributes": "changed the settings of SQS queue {queueUrl}",
        },
        "ssm": {
            "GetParameter": "read parameter {name}",
            "PutParameter": "put parameter {name}",
        },
        "sts": {
            "AssumeRole": "assumed IAM role {roleArn} as session {roleSessionName}",
            "AssumeRoleWithSAML": "assumed IAM role {roleArn} with a SAML assertion",
            "AssumeRoleWithWebIdentity": "assumed IAM role {roleArn} with a web identity token",
            "GetCallerIdentity": "asked whose credentials these are",
            "GetFederationToken": "got temporary credentials for federated user {name}",
            "GetSessionToken": "got temporary credentials",
        },
    }
)

VERBS: Mapping[str, str] = MappingProxyType(
    {
        "Add": "added",
        "Attach": "attached",
        "Cancel": "cancelled",
        "Copy": "copied",
        "Create": "created",
        "Delete": "deleted",
        "Deregister": "deregistered",
        "Detach": "detached",
        "Disable": "disabled",
        "Enable": "enabled",
        "Import": "imported",
        "Invoke": "invoked",
        "Modify": "changed",
        "Publish": "published",
        "Put": "put",
        "Reboot": "rebooted",
        "Register": "registered",
        "Remove": "removed",
        "Restore": "restored",
        "Rotate": "rotated",
        "Run": "ran",
        "Set": "set",
        "Start": "started",
        "Stop": "stopped",
        "Tag": "tagged",
        "Terminate": "terminated",
        "Untag": "removed tags from",
        "Update": "changed",
    }
)
