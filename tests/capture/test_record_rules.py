"""The tables of CloudTrail's record form, against AWS's models and real records."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from opentrail.capture.record_rules import (
    api_version,
    category,
    data_type,
    event_name,
    is_read_only,
    keeps_answer,
    rules,
    source_of,
)
from opentrail.capture.redaction import ACTIONS
from opentrail.wire.service_models import Service
from tests.collection import at_least, collected_records
from tests.factories import catalog, real_records

#: Names in AWS's logs that are missing in botocore's models, and the reason.
NOT_IN_THE_MODELS = {
    ("s3", "PostObject"): "a browser's form upload; SDKs have no operation for it",
}
#: Members to redact that are in no model, and the reason to list them.
MEMBERS_NOT_IN_THE_MODELS = {
    ("kms", "keyMaterial"): "older SDKs; the model calls it encryptedKeyMaterial",
    ("sts", "authenticationCode1"): "belongs to iam; listed to be sure",
    ("sts", "authenticationCode2"): "belongs to iam; listed to be sure",
}


@cache
def by_label() -> dict[str, list[Service]]:
    found: dict[str, list[Service]] = {}
    for service in catalog().services.values():
        found.setdefault(source_of(service), []).append(service)
    # These share S3's model; only their signing names differ.
    for label in ("s3express", "s3-object-lambda", "s3-outposts"):
        found[label] = [*found.get(label, ()), *found["s3"]]
    return found


def operations(label: str) -> set[str]:
    return {name for service in by_label()[label] for name in service.model.operation_names}


def listed_operations() -> Iterator[tuple[str, str, str]]:
    kinds = rules("kinds")
    for table in ("true", "false"):
        for label, names in kinds["read_only"][table].items():
            yield from (("read_only", label, name) for name in names)
    for table in ("answer_kept", "answer_left_out"):
        for label, names in kinds[table].items():
            yield from ((table, label, name) for name in names)
    for label, types in kinds["data"].items():
        for names in types.values():
            yield from (("data", label, name) for name in names)


def test_a_listed_operation_is_one_of_its_source() -> None:
    listed = list(listed_operations())
    assert len(listed) > 200
    for table, label, operation in listed:
        assert label in by_label(), f"{table}.{label} is no event source"
        is_excused = (label, operation) in NOT_IN_THE_MODELS
        assert (operation in operations(label)) != is_excused, f"{table}.{label}: {operation}"


def test_a_renamed_operation_exists_and_has_another_name() -> None:
    for service, table in rules("names")["event_name"].items():
        known = set(catalog().services[service].model.operation_names)
        assert set(table) <= known
        assert all(name != operation for operation, name in table.items())


def test_only_awss_operations_share_a_name() -> None:
    for service in rules("names")["event_name"]:
        names: dict[str, list[str]] = {}
        for operation in catalog().services[service].model.operation_names:
            names.setdefault(event_name(service, operation), []).append(operation)
        shared = {name: found for name, found in names.items() if len(found) > 1}
        if service == "s3":
            twins = ("GetBucketLifecycle", "PutBucketLifecycle", "GetBucketNotification")
            expected = {"ListObjects", "PutBucketNotification", *twins}
            assert set(shared) == expected
        else:
            assert shared == {}


def service_names() -> Iterator[tuple[str, str]]:
    names = rules("names")
    for table in ("event_source", "api_version", "event_name", "member_name"):
        yield from ((table, service) for service in names[table])
    for group, lists in (
        ("casing", ("as_modelled",)),
        ("times", ("without_second_comma", "epoch_milliseconds")),
        ("error_code", ("shape_name", "client_prefix")),
    ):
        for entry in lists:
            yield from ((f"{group}.{entry}", service) for service in names[group][entry])


def test_a_listed_service_is_one_of_botocore() -> None:
    listed = list(service_names())
    assert len(listed) > 60
    assert [each for each in listed if each[1] not in catalog().services] == []


def test_api_version_has_the_digits_of_the_models() -> None:
    for service in rules("names")["api_version"]:
        digits = "".join(c for c in str(api_version(service)) if c.isdigit())
        assert digits == catalog().services[service].api_version.replace("-", ""), service


def test_service_without_a_listed_api_version_has_none() -> None:
    assert api_version("iam") is None


def redacted_members() -> Iterator[tuple[str, str]]:
    for action in ACTIONS:
        for label, names in rules("redaction")[action].items():
            if label != "*":
                yield from ((label, name) for name in names)


@cache
def recorded_members(label: str) -> frozenset[str]:
    found: set[str] = set()
    for service in by_label()[label]:
        for name in service.model.shape_names:
            shape: Any = service.model.shape_for(name)
            if shape.type_name == "structure":
                members = [member[:1].lower() + member[1:] for member in shape.members]
                found.update(members, shape.members, (f"{name}.{member}" for member in members))
    return frozenset(found)


@pytest.mark.slow
def test_a_redacted_member_is_one_of_its_service() -> None:
    listed = list(redacted_members())
    assert len(listed) > 150
    for label, member in listed:
        is_excused = (label, member) in MEMBERS_NOT_IN_THE_MODELS
        assert (member in recorded_members(label)) != is_excused, f"{label}: {member}"


def test_parameters_are_left_out_with_real_records_errors() -> None:
    """The table lists the errors that AWS records without parameters (cloudtrail-format §2.5)."""
    table = rules("kinds")["parameters_left_out"]
    assert set(table) <= set(by_label())
    seen = {
        (record["eventSource"].partition(".")[0], record["errorCode"])
        for record in real_records()
        if "errorCode" in record and record["requestParameters"] is None
    }
    assert seen == {("sts", "AccessDenied")}
    assert all(code in table[label] for label, code in seen)


def test_hidden_headers_are_listed_in_lower_case() -> None:
    headers = rules("redaction")["s3_headers"]
    for name in (*headers["never"], *headers["answer_never"]):
        assert name == name.lower()
        assert name.startswith("x-amz-")


# Names


#: Service → its event source (cloudtrail-format §3.1).
EVENT_SOURCES = {
    "cloudwatch": "monitoring",
    "logs": "logs",
    "events": "events",
    "scheduler": "scheduler",
    "pipes": "pipes",
    "ses": "ses",
    "sesv2": "ses",
    "sts": "sts",
    "elb": "elasticloadbalancing",
    "elbv2": "elasticloadbalancing",
    "s3": "s3",
    "s3control": "s3",
    "s3outposts": "s3-outposts",
    "s3tables": "s3tables",
    "s3vectors": "s3vectors",
    "stepfunctions": "states",
    "autoscaling": "autoscaling",
    "cognito-idp": "cognito-idp",
    "cognito-identity": "cognito-identity",
    "ecr": "ecr",
    "ecr-public": "ecr-public",
    "efs": "elasticfilesystem",
    "emr": "elasticmapreduce",
    "emr-containers": "emr-containers",
    "elasticache": "elasticache",
    "memorydb": "memorydb",
    "opensearch": "es",
    "es": "es",
    "opensearchserverless": "aoss",
    "rds": "rds",
    "neptune": "rds",
    "docdb": "rds",
    "rds-data": "rdsdata",
    "dynamodb": "dynamodb",
    "dynamodbstreams": "dynamodb",
    "dax": "dax",
    "kinesis": "kinesis",
    "firehose": "firehose",
    "kinesisanalyticsv2": "kinesisanalytics",
    "config": "config",
    "cloudhsmv2": "cloudhsm",
    "organizations": "organizations",
    "iam": "iam",
    "route53": "route53",
    "cloudfront": "cloudfront",
    "waf": "waf",
    "waf-regional": "waf-regional",
    "wafv2": "wafv2",
    "sso-admin": "sso",
    "sso": "sso",
    "identitystore": "identitystore",
    "ssm": "ssm",
    "servicecatalog-appregistry": "servicecatalog-appregistry",
    "acm": "acm",
    "acm-pca": "acm-pca",
    "apigateway": "apigateway",
    "apigatewayv2": "apigateway",
    "resourcegroupstaggingapi": "tagging",
    "resource-groups": "resource-groups",
    "ebs": "ebs",
    "cloudtrail": "cloudtrail",
    "cloudtrail-data": "cloudtrail-data",
    "elasticbeanstalk": "elasticbeanstalk",
    "mq": "amazonmq",
    "kafka": "kafka",
    "quicksight": "quicksight",
    "bedrock": "bedrock",
    "bedrock-runtime": "bedrock",
    "bedrock-agentcore": "bedrock-agentcore",
    "pinpoint": "mobiletargeting",
    "pinpoint-sms-voice-v2": "sms-voice",
}


def test_a_service_has_the_event_source_of_aws() -> None:
    services = catalog().services
    assert {each: source_of(services[each]) for each in EVENT_SOURCES} == EVENT_SOURCES


def test_event_source_is_a_single_label_without_dots() -> None:
    for service in catalog().services.values():
        label = source_of(service)
        assert label
        assert "." not in label


def test_an_unlisted_service_has_its_endpoints_last_label() -> None:
    s3 = catalog().services["s3"]
    assert source_of(replace(s3, name="new", endpoint_prefix="api.new")) == "new"
    assert source_of(replace(s3, name="new", endpoint_prefix="new")) == "new"


@pytest.mark.parametrize(
    ("service", "operation", "name"),
    [
        ("lambda", "CreateFunction", "CreateFunction20150331"),
        ("lambda", "GetFunction", "GetFunction20150331v2"),
        ("lambda", "UpdateFunctionCode", "UpdateFunctionCode20150331v2"),
        ("lambda", "ListVersionsByFunction", "ListVersionsByFunction20150331"),
        ("lambda", "Invoke", "Invoke"),
        ("s3", "ListObjectsV2", "ListObjects"),
        ("s3", "PutBucketLifecycleConfiguration", "PutBucketLifecycle"),
        ("s3", "GetPublicAccessBlock", "GetBucketPublicAccessBlock"),
        ("s3control", "GetPublicAccessBlock", "GetAccountPublicAccessBlock"),
        ("s3", "GetObjectLockConfiguration", "GetBucketObjectLockConfiguration"),
        ("s3", "GetBucketAccelerateConfiguration", "GetAccelerateConfiguration"),
        ("s3", "PutObject", "PutObject"),
        ("iam", "CreateUser", "CreateUser"),
    ],
)
def test_an_operation_has_the_event_name_of_aws(service: str, operation: str, name: str) -> None:
    assert event_name(service, operation) == name


# Kinds


@pytest.mark.parametrize(
    ("label", "operation", "expected"),
    [
        ("iam", "GetUser", True),
        ("iam", "CreateUser", False),
        ("iam", "SimulatePrincipalPolicy", True),
        ("sts", "AssumeRole", True),
        ("sts", "AssumeRoleWithSAML", True),
        ("sts", "GetCallerIdentity", True),
        ("sts", "GetFederationToken", False),
        ("kms", "Decrypt", True),
        ("kms", "GenerateDataKey", True),
        ("kms", "GenerateRandom", True),
        ("kms", "CreateKey", False),
        ("s3", "HeadBucket", True),
        ("s3", "SelectObjectContent", True),
        ("dynamodb", "BatchGetItem", True),
        ("dynamodb", "BatchWriteItem", False),
        ("dynamodb", "TransactGetItems", True),
        ("bedrock", "InvokeModel", True),
        ("cognito-identity", "GetId", False),
        ("cognito-identity", "GetIdentityPoolRoles", True),
        ("cloudtrail", "LookupEvents", True),
        ("lambda", "ListFunctions20150331", True),
        ("elsewhere", "Getaway", True),
        ("elsewhere", "Forget", False),
    ],
)
def test_a_call_reads_or_writes(label: str, operation: str, expected: bool) -> None:
    assert is_read_only(label, operation) is expected


@pytest.mark.parametrize(
    ("label", "operation", "expected"),
    [
        ("iam", "CreateUser", True),
        ("iam", "GetUser", False),
        ("sts", "AssumeRole", True),
        ("sts", "GetSessionToken", True),
        ("sts", "GetFederationToken", True),
        ("sts", "GetCallerIdentity", False),
        ("kms", "Decrypt", False),
        ("cognito-identity", "GetCredentialsForIdentity", True),
        ("cognito-identity", "GetOpenIdToken", True),
        ("sqs", "SendMessage", True),
        ("sqs", "ReceiveMessage", False),
    ],
)
def test_answers_of_writes_and_credentials_are_kept(
    label: str, operation: str, expected: bool
) -> None:
    assert keeps_answer(label, operation) is expected


@pytest.mark.parametrize(
    ("label", "operation", "kind"),
    [
        ("s3", "PutObject", "AWS::S3::Object"),
        ("s3", "HeadBucket", "AWS::S3::Object"),
        ("s3", "ListObjectsV2", "AWS::S3::Object"),
        ("s3", "ListBuckets", None),
        ("s3", "ListMultipartUploads", None),
        ("s3", "PutBucketPolicy", None),
        ("dynamodb", "Query", "AWS::DynamoDB::Table"),
        ("dynamodb", "GetShardIterator", "AWS::DynamoDB::Stream"),
        ("dynamodb", "CreateTable", None),
        ("lambda", "Invoke", "AWS::Lambda::Function"),
        ("lambda", "CreateFunction", None),
        ("sqs", "ReceiveMessage", "AWS::SQS::Queue"),
        ("sqs", "CreateQueue", None),
        ("sns", "Publish", "AWS::SNS::Topic"),
        ("events", "PutEvents", "AWS::Events::EventBus"),
        ("events", "PutPartnerEvents", "AWS::Events::EventSource"),
        ("events", "PutRule", None),
        ("kms", "Decrypt", None),
        ("secretsmanager", "GetSecretValue", None),
        ("sts", "AssumeRole", None),
        ("bedrock", "InvokeModel", None),
    ],
)
def test_a_data_event_is_one_of_its_type(label: str, operation: str, kind: str | None) -> None:
    assert data_type(label, operation) == kind
    assert category(label, operation) == ("Data" if kind else "Management")


# Real records

#: Publishers with some hand-made records are left out.
AS_WRITTEN = ("invictus-aws_dataset", "sans504-s3-ransomware", "stratus-red-team")


def disagreements(records: Iterator[dict[str, Any]]) -> tuple[int, set[str]]:
    count, found = 0, set()
    for record in records:
        if record.get("eventType") != "AwsApiCall" or "eventCategory" not in record:
            continue
        count += 1
        label, name = record["eventSource"].partition(".")[0], record["eventName"]
        if is_read_only(label, name) is not record["readOnly"]:
            found.add(f"{label}.{name} is not readOnly={record['readOnly']}")
        if category(label, name) != record["eventCategory"]:
            found.add(f"{label}.{name} is not {record['eventCategory']}")
    return count, found


def test_real_records_agree_about_reading_and_categories() -> None:
    count, found = disagreements(iter(real_records()))
    assert count > 20
    assert found == set()


@pytest.mark.slow
def test_the_collection_agrees_about_reading_and_categories() -> None:
    records = (record for source, record in collected_records() if source in AS_WRITTEN)
    count, found = disagreements(records)
    assert count > at_least(15_000, 150)
    assert found == set()
