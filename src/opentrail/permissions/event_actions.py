"""The IAM actions that an event needs: tables for events whose names differ from the actions.

Sources: "Actions, resources, and condition keys" of each service in the Service Authorization
Reference, and "Required permissions for Amazon S3 API operations" of the S3 user guide.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from opentrail.core.event import as_object, objects_in, without_version
from opentrail.core.partiql import statements_of
from opentrail.permissions.authorization import needed_for

#: First label of `eventSource` → prefix of actions. Not listed: they are the same.
PREFIXES = {
    "agreement-marketplace": "aws-marketplace",
    "amazonmq": "mq",
    "appstream2": "appstream",
    "cassandra-streams": "cassandra",
    "chime-sdk-media-pipelines": "chime",
    "cloudcontrolapi": "cloudformation",
    "cloudsearchdomain": "cloudsearch",
    "contact-lens": "connect",
    "data-signer": "signer",
    "deployment-marketplace": "aws-marketplace",
    "email": "ses",
    "forecastquery": "forecast",
    "iotdata": "iot",
    "ivsrealtime": "ivs",
    "mail-manager": "ses",
    "marketplace": "aws-marketplace",
    "marketplacecatalog": "aws-marketplace",
    "metering-marketplace": "aws-marketplace",
    "migrationhub-config": "mgh",
    "models.lex": "lex",
    "monitoring": "cloudwatch",
    "mturk-requester": "mechanicalturk",
    "partnercentral-account": "partnercentral",
    "partnercentral-benefits": "partnercentral",
    "partnercentral-channel": "partnercentral",
    "partnercentral-selling": "partnercentral",
    "personalize-events": "personalize",
    "personalize-runtime": "personalize",
    "pinpoint": "sms-voice",
    "rdsdata": "rds-data",
    "reporting-marketplace": "aws-marketplace",
    "runtime.lex": "lex",
    "servicecatalog-appregistry": "servicecatalog",
    "streams.dynamodb": "dynamodb",
    "tagging": "tag",
}

_S3 = {
    "CompleteMultipartUpload": "PutObject",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "DeleteAccountPublicAccessBlock": "PutAccountPublicAccessBlock",
    "DeleteBucketAnalyticsConfiguration": "PutAnalyticsConfiguration",
    "DeleteBucketCors": "PutBucketCORS",
    "DeleteBucketEncryption": "PutEncryptionConfiguration",
    "DeleteBucketIntelligentTieringConfiguration": "PutIntelligentTieringConfiguration",
    "DeleteBucketInventoryConfiguration": "PutInventoryConfiguration",
    "DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "DeleteBucketMetricsConfiguration": "PutMetricsConfiguration",
    "DeleteBucketOwnershipControls": "PutBucketOwnershipControls",
    "DeleteBucketPublicAccessBlock": "PutBucketPublicAccessBlock",
    "DeleteBucketReplication": "PutReplicationConfiguration",
    "DeleteBucketTagging": "PutBucketTagging",
    "GetBucketAnalyticsConfiguration": "GetAnalyticsConfiguration",
    "GetBucketCors": "GetBucketCORS",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetBucketIntelligentTieringConfiguration": "GetIntelligentTieringConfiguration",
    "GetBucketInventoryConfiguration": "GetInventoryConfiguration",
    "GetBucketLifecycle": "GetLifecycleConfiguration",
    "GetBucketMetricsConfiguration": "GetMetricsConfiguration",
    "GetBucketReplication": "GetReplicationConfiguration",
    "GetBucket": "s3-outposts:GetBucket",
    "HeadBucket": "ListBucket",
    "HeadObject": "GetObject",
    "ListBucketAnalyticsConfigurations": "GetAnalyticsConfiguration",
    "ListBucketIntelligentTieringConfigurations": "GetIntelligentTieringConfiguration",
    "ListBucketInventoryConfigurations": "GetInventoryConfiguration",
    "ListBucketMetricsConfigurations": "GetMetricsConfiguration",
    "ListBuckets": "ListAllMyBuckets",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListObjectVersions": "ListBucketVersions",
    "ListObjects": "ListBucket",
    "ListParts": "ListMultipartUploadParts",
    "ListRegionalBuckets": "s3-outposts:ListRegionalBuckets",
    "PutBucketAnalyticsConfiguration": "PutAnalyticsConfiguration",
    "PutBucketCors": "PutBucketCORS",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "PutBucketIntelligentTieringConfiguration": "PutIntelligentTieringConfiguration",
    "PutBucketInventoryConfiguration": "PutInventoryConfiguration",
    "PutBucketLifecycle": "PutLifecycleConfiguration",
    "PutBucketMetricsConfiguration": "PutMetricsConfiguration",
    "PutBucketReplication": "PutReplicationConfiguration",
    "SelectObjectContent": "GetObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
    "WriteGetObjectResponse": "s3-object-lambda:WriteGetObjectResponse",
}
#: The same, with the names of the API, which the records of other tools have.
_S3_OPERATIONS = {
    "DeleteBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetBucketAccelerateConfiguration": "GetAccelerateConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "ListObjectsV2": "ListBucket",
    "PutBucketAccelerateConfiguration": "PutAccelerateConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
    "PutObjectLockConfiguration": "PutBucketObjectLockConfiguration",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
}
#: S3's action → the action needed instead if the call names a version of the object.
S3_VERSIONED = {
    "DeleteObject": "DeleteObjectVersion",
    "DeleteObjectTagging": "DeleteObjectVersionTagging",
    "GetObject": "GetObjectVersion",
    "GetObjectAcl": "GetObjectVersionAcl",
    "GetObjectAttributes": "GetObjectVersionAttributes",
    "GetObjectTagging": "GetObjectVersionTagging",
    "PutObjectAcl": "PutObjectVersionAcl",
    "PutObjectTagging": "PutObjectVersionTagging",
}

#: Prefix → name of an event → name of the action, with its prefix if that differs. Other events
#: have the name of their action.
ACTION_NAMES: Mapping[str, Mapping[str, str]] = {
    "s3": _S3,
    "apigateway": dict.fromkeys(
        ("DeleteConnection", "GetConnection", "PostToConnection"), "execute-api:ManageConnections"
    ),
    "autoscaling": {
        name: f"autoscaling-plans:{name}"
        for name in (
            *("CreateScalingPlan", "DeleteScalingPlan", "DescribeScalingPlanResources"),
            *("DescribeScalingPlans", "GetScalingPlanResourceForecastData", "UpdateScalingPlan"),
        )
    },
    "budgets": {
        **{
            f"{verb}{kind}": "ModifyBudget"
            for verb in ("Create", "Delete", "Update")
            for kind in ("Budget", "Notification", "Subscriber")
        },
        **dict.fromkeys(("DescribeBudget", "DescribeBudgets"), "ViewBudget"),
        "DescribeBudgetPerformanceHistory": "ViewBudget",
        "DescribeNotificationsForBudget": "ViewBudget",
        "DescribeSubscribersForNotification": "ViewBudget",
    },
    "cloudsearch": {"Search": "search", "Suggest": "suggest", "UploadDocuments": "document"},
    "dynamodb": {"TransactGetItems": "GetItem"},
    "glue": {
        "BatchUpdatePartition": "UpdatePartition",
        "CreatePartitionIndex": "UpdateTable",
        "DeleteColumnStatisticsForPartition": "UpdatePartition",
        "DeleteColumnStatisticsForTable": "UpdateTable",
        "DeletePartitionIndex": "UpdateTable",
        "GetColumnStatisticsForPartition": "GetPartition",
        "GetColumnStatisticsForTable": "GetTable",
        "GetPartitionIndexes": "GetTable",
        "UpdateColumnStatisticsForPartition": "UpdatePartition",
        "UpdateColumnStatisticsForTable": "UpdateTable",
    },
    "lambda": {
        "GetLayerVersionByArn": "GetLayerVersion",
        "Invoke": "InvokeFunction",
        "InvokeAsync": "InvokeFunction",
        "InvokeWithResponseStream": "InvokeFunction",
    },
    "sns": {"PublishBatch": "Publish"},
    "sqs": {
        "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
        "DeleteMessageBatch": "DeleteMessage",
        "SendMessageBatch": "SendMessage",
    },
    "timestream": {"Query": "Select"},
}
#: Events that need no permission: AWS checks none, or the record of each object has its own.
WITHOUT_PERMISSION = frozenset({"s3:DeleteObjects", "sts:GetCallerIdentity", "sts:GetSessionToken"})
#: The name of an action. Another text from a record, such as `iam:*`, must not pass for one.
ACTION_NAME = re.compile(r"[a-z0-9-]{1,60}:[A-Za-z0-9]{1,100}")
#: Kind of an item of a transaction, in lower case → action.
_TRANSACT_ITEMS = {
    "check": "ConditionCheckItem",
    "conditioncheck": "ConditionCheckItem",
    "delete": "DeleteItem",
    "put": "PutItem",
    "update": "UpdateItem",
}
#: First word of a statement of PartiQL → action.
_STATEMENTS = {
    "SELECT": "PartiQLSelect",
    "INSERT": "PartiQLInsert",
    "UPDATE": "PartiQLUpdate",
    "DELETE": "PartiQLDelete",
}
#: Events with PartiQL statements; ExecuteStatement holds its statement directly.
_PARTIQL = frozenset({"ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"})
#: Operations of DynamoDB that need actions for their items, and none for themselves.
OF_ITEMS = frozenset(f"dynamodb:{name}" for name in (*_PARTIQL, "TransactWriteItems"))
#: Imports of API Gateway that replace something.
_PUT = frozenset({"ImportApi", "ImportDocumentationParts"})
#: First word of an event of API Gateway → HTTP method, which its actions are named for.
_METHODS = {
    **dict.fromkeys(("Create", "Import", "Generate", "Test"), "POST"),
    **dict.fromkeys(("Delete", "Untag", "Flush", "Reset"), "DELETE"),
    **dict.fromkeys(("Put", "Tag", "Reimport"), "PUT"),
    **dict.fromkeys(("Update",), "PATCH"),
}


def source_label(record: Mapping[str, Any]) -> str:
    """Returns the part of `eventSource` before `.amazonaws.com`."""
    return str(record.get("eventSource", "")).partition(".amazonaws.com")[0]


def prefix_of(label: str) -> str:
    """Returns the prefix of a service's actions.

    >>> prefix_of("monitoring"), prefix_of("s3")
    ('cloudwatch', 's3')
    """
    return PREFIXES.get(label, label)


def actions_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the actions that a call needs; an empty tuple if it needs no permission."""
    prefix = prefix_of(source_label(record))
    name = without_version(str(record.get("eventName", "")))
    parameters = as_object(record.get("requestParameters"))
    if f"{prefix}:{name}" in WITHOUT_PERMISSION:
        return ()
    if prefix == "s3" and name == "CreateSession":
        return ("s3express:CreateSession",)
    if prefix == "kms" and name == "ReEncrypt":
        return ("kms:ReEncryptFrom", "kms:ReEncryptTo")
    if prefix == "sts" and name.startswith("AssumeRole"):
        return tuple(f"sts:{action}" for action in _sts_actions(name, parameters))
    if prefix == "dynamodb" and name in _PARTIQL:
        return _each_of({partiql_action(each) for each in statements_of(parameters)}, name)
    if prefix == "dynamodb" and name == "TransactWriteItems":
        return _each_of({action for action, _ in items_of(parameters)}, name)
    action_name = ACTION_NAMES.get(prefix, {}).get(name, name)
    if ":" in action_name:
        return (action_name,)
    if prefix == "apigateway":
        words = re.findall("[A-Z][a-z]*", name)
        method = "PUT" if name in _PUT else _METHODS.get(words[0] if words else "", "GET")
        return (f"apigateway:{method}",)
    if prefix == "s3":
        names = _s3_actions(_S3_OPERATIONS.get(name, action_name), parameters)
    else:
        names = [action_name]
    needed = (needed_for(f"{prefix}:{each}") for each in names)
    return tuple(action for action in needed if action)


def _each_of(found: Collection[str | None], event_name: str) -> tuple[str, ...]:
    """Returns DynamoDB's actions; the name of the event for the rest."""
    names = sorted(filter(None, found)) + ([] if found and None not in found else [event_name])
    return tuple(f"dynamodb:{name}" for name in names)


def items_of(parameters: Mapping[str, Any]) -> Iterator[tuple[str | None, str]]:
    """Yields the action and the table of each item of a TransactWriteItems.

    AWS's records list them as `requestItems`, each with an `operation` and a `tableName`; others
    as the request does. The action is None for an unknown operation.
    """
    for item in objects_in(parameters.get("requestItems")):
        kind = str(item.get("operation", "")).lower()
        yield _TRANSACT_ITEMS.get(kind), str(item.get("tableName") or item.get("TableName") or "")
    for item in objects_in(parameters.get("transactItems")):
        for kind, part in item.items():
            yield _TRANSACT_ITEMS.get(kind.lower()), str(as_object(part).get("tableName") or "")


def _sts_actions(name: str, parameters: Mapping[str, Any]) -> list[str]:
    actions = [name]
    if parameters.get("tags") or parameters.get("principalTags"):
        actions.append("TagSession")
    if parameters.get("sourceIdentity"):
        actions.append("SetSourceIdentity")
    return actions


def partiql_action(statement: str) -> str | None:
    """Returns the action that a statement of PartiQL needs; None if it is unknown."""
    words = statement.split(maxsplit=1)
    return _STATEMENTS.get(words[0].upper()) if words else None


def _s3_actions(name: str, parameters: Mapping[str, Any]) -> list[str]:
    if parameters.get("versionId"):
        name = S3_VERSIONED.get(name, name)
    actions = [name]
    if name == "GetObjectAttributes":
        actions.insert(0, "GetObject")
    elif name == "GetObjectVersionAttributes":
        actions.insert(0, "GetObjectVersion")
    if name == "PutObject":
        if any(
            member.lower() == "x-amz-acl" or member.lower().startswith("x-amz-grant-")
            for member in parameters
        ):
            actions.append("PutObjectAcl")
        if any(member.lower() == "x-amz-tagging" for member in parameters):
            actions.append("PutObjectTagging")
        names = {member.lower() for member in parameters}
        if "x-amz-object-lock-legal-hold" in names:
            actions.append("PutObjectLegalHold")
        if names & {"x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date"}:
            actions.append("PutObjectRetention")
    return actions
