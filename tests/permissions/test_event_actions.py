"""IAM's actions of recorded calls."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opentrail.capture.record_rules import event_name, rules, source_of
from opentrail.permissions.authorization import is_known, passes_role
from opentrail.permissions.event_actions import (
    ACTION_NAMES,
    WITHOUT_PERMISSION,
    actions_of,
)
from opentrail.wire.service_models import ServiceCatalog
from tests.factories import a_record


def actions(source: str, name: str, **parameters: Any) -> tuple[str, ...]:
    record = a_record(
        eventSource=f"{source}.amazonaws.com", eventName=name, requestParameters=parameters or None
    )
    return actions_of(record)


@pytest.mark.parametrize(
    ("source", "name", "action"),
    [
        ("iam", "CreateUser", "iam:CreateUser"),
        ("s3", "PutObject", "s3:PutObject"),
        ("s3", "ListObjects", "s3:ListBucket"),
        ("s3", "HeadObject", "s3:GetObject"),
        ("s3", "HeadBucket", "s3:ListBucket"),
        ("s3", "ListBuckets", "s3:ListAllMyBuckets"),
        ("s3", "UploadPart", "s3:PutObject"),
        ("s3", "PutBucketLifecycle", "s3:PutLifecycleConfiguration"),
        ("lambda", "Invoke", "lambda:InvokeFunction"),
        ("lambda", "CreateFunction20150331", "lambda:CreateFunction"),
        ("lambda", "UpdateFunctionCode20150331v2", "lambda:UpdateFunctionCode"),
        ("cloudfront", "CreateDistribution2020_05_31", "cloudfront:CreateDistribution"),
        ("monitoring", "PutMetricData", "cloudwatch:PutMetricData"),
        ("sqs", "SendMessageBatch", "sqs:SendMessage"),
        ("sns", "PublishBatch", "sns:Publish"),
        ("apigateway", "CreateRestApi", "apigateway:POST"),
        ("apigateway", "GetRestApis", "apigateway:GET"),
        ("apigateway", "UpdateStage", "apigateway:PATCH"),
        ("dynamodb", "TransactGetItems", "dynamodb:GetItem"),
    ],
)
def test_an_event_has_its_action(source: str, name: str, action: str) -> None:
    assert actions(source, name) == (action,)


@pytest.mark.parametrize(
    ("source", "name"),
    [("sts", "GetCallerIdentity"), ("sts", "GetSessionToken"), ("s3", "DeleteObjects")],
)
def test_some_events_need_no_permission(source: str, name: str) -> None:
    assert actions(source, name) == ()


def test_a_version_of_an_object_has_special_actions() -> None:
    assert actions("s3", "GetObject", versionId="v1") == ("s3:GetObjectVersion",)
    assert actions("s3", "DeleteObject", versionId="v1") == ("s3:DeleteObjectVersion",)
    assert actions("s3", "PutObject", versionId="v1") == ("s3:PutObject",)


def test_headers_of_an_upload_may_need_more() -> None:
    given = {"x-amz-acl": "private", "x-amz-tagging": "a=b"}
    needed = ("s3:PutObject", "s3:PutObjectAcl", "s3:PutObjectTagging")
    assert actions("s3", "PutObject", **given) == needed
    assert actions("s3", "GetObjectAttributes") == ("s3:GetObject", "s3:GetObjectAttributes")


def test_a_transaction_needs_the_actions_of_its_items() -> None:
    items = [{"put": {"tableName": "a"}}, {"delete": {"tableName": "a"}}, {"put": {}}]
    found = actions("dynamodb", "TransactWriteItems", transactItems=items)
    assert found == ("dynamodb:DeleteItem", "dynamodb:PutItem")


def test_a_transaction_needs_its_items_actions() -> None:
    """Form: "Understanding DynamoDB log file entries" of the DynamoDB developer guide."""
    items = [
        {"operation": "Put", "tableName": "a", "key": {"id": "1"}, "items": ["id"]},
        {"operation": "Update", "tableName": "a", "key": {"id": "2"}, "items": ["id"]},
        {"operation": "Delete", "TableName": "a", "key": {"id": "3"}},
        {"operation": "Check", "tableName": "a", "key": {"id": "4"}},
    ]
    names = ("ConditionCheckItem", "DeleteItem", "PutItem", "UpdateItem")
    needed = tuple(f"dynamodb:{name}" for name in names)
    assert actions("dynamodb", "TransactWriteItems", requestItems=items) == needed
    items[3]["operation"] = "New"
    found = actions("dynamodb", "TransactWriteItems", requestItems=items)
    assert found == (*needed[1:], "dynamodb:TransactWriteItems")
    assert actions("dynamodb", "TransactWriteItems") == ("dynamodb:TransactWriteItems",)


def test_awss_form_of_statements_needs_their_actions() -> None:
    statements = [
        {"statement": "UPDATE Music SET Album = ***(Redacted) WHERE Artist = 'A'"},
        {"statement": "INSERT INTO Music VALUE {'Artist' : ***(Redacted)}"},
    ]
    found = actions("dynamodb", "BatchExecuteStatement", requestItems=statements)
    assert found == ("dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate")


def test_the_tables_name_events_as_records_do() -> None:
    """A table would never find an operation recorded under another name."""
    for service, names in ACTION_NAMES.items():
        renamed = rules("names")["event_name"].get(service, {})
        assert [name for name in names if renamed.get(name, name) != name] == []


@pytest.mark.parametrize(
    ("source", "name", "parameters", "expected"),
    [
        ("kms", "ReEncrypt", {}, ("kms:ReEncryptFrom", "kms:ReEncryptTo")),
        ("s3", "CreateSession", {"bucketName": "b"}, ("s3express:CreateSession",)),
        ("s3", "ListObjectsV2", {"bucketName": "b"}, ("s3:ListBucket",)),
        ("s3", "PutPublicAccessBlock", {}, ("s3:PutBucketPublicAccessBlock",)),
        ("sts", "AssumeRole", {}, ("sts:AssumeRole",)),
        (
            *("sts", "AssumeRole", {"tags": [{"key": "a"}], "sourceIdentity": "Ada"}),
            ("sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"),
        ),
        (
            "dynamodb",
            "ExecuteStatement",
            {"statement": "select * from t"},
            ("dynamodb:PartiQLSelect",),
        ),
        ("dynamodb", "ExecuteStatement", {}, ("dynamodb:ExecuteStatement",)),
        (
            *("dynamodb", "BatchExecuteStatement"),
            {"statements": [{"statement": "SELECT 1"}, {"statement": "UPDATE t"}, 1]},
            ("dynamodb:PartiQLSelect", "dynamodb:PartiQLUpdate"),
        ),
        (
            *("dynamodb", "ExecuteTransaction"),
            {"transactStatements": [{"statement": "DELETE FROM t"}]},
            ("dynamodb:PartiQLDelete",),
        ),
        ("dynamodb", "ExecuteTransaction", {}, ("dynamodb:ExecuteTransaction",)),
        ("apigateway", "PostToConnection", {}, ("execute-api:ManageConnections",)),
        ("apigateway", "ImportApi", {}, ("apigateway:PUT",)),
        ("amplify", "CreateWebhook", {}, ("amplify:CreateWebHook",)),
        ("mail-manager", "GetRuleSet", {}, ("ses:GetRuleSet",)),
        (
            *("s3", "PutObject", {"x-amz-object-lock-mode": "GOVERNANCE"}),
            ("s3:PutObject", "s3:PutObjectRetention"),
        ),
        (
            *("s3", "PutObject", {"x-amz-object-lock-legal-hold": "ON"}),
            ("s3:PutObject", "s3:PutObjectLegalHold"),
        ),
        ("runtime.lex", "PostText", {}, ("lex:PostText",)),
        ("budgets", "CreateBudget", {}, ("budgets:ModifyBudget",)),
    ],
)
def test_some_events_have_other_actions(
    source: str, name: str, parameters: dict[str, Any], expected: tuple[str, ...]
) -> None:
    assert actions(source, name, **parameters) == expected


def test_the_actions_of_the_tables_exist() -> None:
    for service, names in ACTION_NAMES.items():
        actions = [name if ":" in name else f"{service}:{name}" for name in names.values()]
        assert [action for action in actions if not is_known(action)] == []


# Another map of operations to actions (`tests/data/SOURCES.md`)

#: Parameters without which a call has no actions, or other actions than the map's.
STATED = {"statement": "SELECT * FROM t"}
PARAMETERS: dict[str, dict[str, Any]] = {
    "dynamodb.BatchExecuteStatement": {"statements": [STATED]},
    "dynamodb.ExecuteStatement": STATED,
    "dynamodb.ExecuteTransaction": {"transactStatements": [STATED]},
    "dynamodb.TransactWriteItems": {"transactItems": [{"put": {}}]},
}
#: Operations with a wrong entry in the map, and the reason.
DIFFERENT = {
    "lambda.InvokeAsync": "the action of the same name is deprecated, as the operation is",
    "mediapackage.ConfigureLogs": "the action of the same name is newer than the map",
    "apigatewayv2.TagResource": "events of both APIs have one name, and REST APIs need PUT",
}


def mapped_operations() -> Iterator[tuple[str, set[str], set[str]]]:
    """Yields operations, each with our actions and the map's."""
    packed = Path(__file__).parent.parent.joinpath("data/iam-map.json.gz").read_bytes()
    services = ServiceCatalog().services
    for service, operations in json.loads(gzip.decompress(packed)).items():
        for operation, theirs in operations.items() if service in services else ():
            name = event_name(service, operation)
            parameters = PARAMETERS.get(f"{service}.{operation}", {})
            ours = actions(source_of(services[service]), name, **parameters)
            expected = theirs or [f"{service}:{operation}"]
            yield f"{service}.{operation}", set(ours), set(expected)


def is_explained(operation: str, ours: set[str], theirs: set[str]) -> bool:
    """Returns whether there is a known reason why our actions and the map's are disjoint."""
    if not ours:
        return operation.replace(".", ":") in WITHOUT_PERMISSION
    if not all(map(is_known, ours)):
        return False
    return (
        operation in DIFFERENT
        # The map's actions do not exist.
        or not any(map(is_known, theirs))
        # Lex V2 has different actions; the map has Lex V1's.
        or operation.startswith("lexv2-models.")
        # The same operations are for buckets and access points on Outposts.
        or all(action.startswith("s3-outposts:") for action in theirs)
    )


def test_another_map_names_the_same_actions() -> None:
    operations = list(mapped_operations())
    different = [row for row in operations if not row[1] & row[2]]
    assert [row for row in different if not is_explained(*row)] == []
    assert len(operations) > 10_000
    assert len(different) < 50
    assert set(DIFFERENT) <= {operation for operation, _, _ in different}


#: Operations that pass a role by the map, and not by our data: they name none, or in settings and
#: templates that no member of the request is named for; the roles of new accounts are not passed.
PASSED_UNSEEN = {
    *("cloudformation.CreateStackInstances", "cloudformation.EstimateTemplateCost"),
    *("cloudformation.SetStackPolicy", "cloudformation.UpdateStackInstances"),
    *("cloudhsm.ModifyHsm", "datapipeline.PutPipelineDefinition"),
    *("datapipeline.ValidatePipelineDefinition", "ec2.ModifySpotFleetRequest"),
    *("elasticbeanstalk.CreateConfigurationTemplate", "elasticbeanstalk.UpdateEnvironment"),
    *("elasticbeanstalk.UpdateConfigurationTemplate", "iotthingsgraph.CreateSystemInstance"),
    *("mq.CreateBroker", "mq.UpdateBroker", "quicksight.RegisterUser"),
    *("organizations.CreateAccount", "organizations.CreateGovCloudAccount"),
    "s3.PutBucketNotification",
}


def test_another_map_passes_the_same_roles() -> None:
    passing = [row for row in mapped_operations() if "iam:PassRole" in row[2]]
    unseen = {name for name, ours, _ in passing if not any(map(passes_role, ours))}
    assert unseen == PASSED_UNSEEN
    assert len(passing) > 340
