"""The ARNs in questions to policies."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.permissions.needs import permissions_of
from opentrail.permissions.resource_arns import arns_of, copied_object
from tests.factories import ACCOUNT, a_data_record, a_record

HERE = f"us-east-1:{ACCOUNT}"


def arns(source: str, name: str, parameters: dict[str, Any] | None, **more: Any) -> list[str]:
    record = a_record(
        eventSource=f"{source}.amazonaws.com",
        eventName=name,
        requestParameters=parameters,
        **{"responseElements": None, **more},
    )
    return arns_of(record)


def test_request_names_s3_objects_and_buckets() -> None:
    assert arns_of(a_data_record()) == ["arn:aws:s3:::my-bucket/in/a.csv"]
    assert arns("s3", "CreateBucket", {"bucketName": "x"}) == ["arn:aws:s3:::x"]
    assert arns("s3", "ListObjects", {"bucketName": "x", "prefix": "a/"}) == ["arn:aws:s3:::x"]
    assert arns("s3", "ListBuckets", None) == ["*"]


@pytest.mark.parametrize(
    ("region", "partition"),
    [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("garage", "aws")],
)
def test_made_arns_have_the_calls_partition(region: str, partition: str) -> None:
    for source, name, given, expected in (
        ("s3", "CreateBucket", {"bucketName": "x"}, "s3:::x"),
        ("sqs", "CreateQueue", {"queueName": "q"}, f"sqs:{region}:{ACCOUNT}:q"),
        ("logs", "DeleteLogGroup", {"logGroupName": "/g"}, f"logs:{region}:{ACCOUNT}:log-group:/g"),
        ("dynamodb", "DeleteTable", {"tableName": "t"}, f"dynamodb:{region}:{ACCOUNT}:table/t"),
        ("ec2", "CreateVpc", {"cidrBlock": "10.0.0.0/16"}, f"ec2:{region}:{ACCOUNT}:vpc/"),
    ):
        record = a_record(
            eventSource=f"{source}.amazonaws.com",
            eventName=name,
            awsRegion=region,
            requestParameters=given,
            responseElements=None,
        )
        needed = {permission.resource for permission in permissions_of(record)}
        begin = f"arn:{partition}:{expected}"
        assert any(arn.startswith(begin) for arn in needed), (needed, begin)


def test_a_copy_reads_its_source() -> None:
    given = {"bucketName": "x", "key": "b", "x-amz-copy-source": "/y/in%20a?versionId=1"}
    record = a_data_record(eventName="CopyObject", requestParameters=given)
    assert arns_of(record) == ["arn:aws:s3:::x/b"]
    assert copied_object(record) == "arn:aws:s3:::y/in a"
    assert copied_object(a_data_record()) is None


def test_listed_resources_count() -> None:
    table = f"arn:aws:dynamodb:{HERE}:table/t"
    listed = [{"accountId": ACCOUNT, "type": "AWS::DynamoDB::Table", "ARN": table}]
    given = {"tableName": "t"}
    assert arns("dynamodb", "PutItem", given, resources=listed) == [table]
    indexed = arns("dynamodb", "Query", {**given, "indexName": "i"}, resources=listed)
    assert indexed == [f"{table}/index/i"]


@pytest.mark.parametrize(
    ("source", "name", "parameters", "expected"),
    [
        ("sqs", "CreateQueue", {"queueName": "jobs"}, f"arn:aws:sqs:{HERE}:jobs"),
        ("sqs", "PurgeQueue", {"queueUrl": "http://h:1/1/jobs"}, f"arn:aws:sqs:{HERE}:jobs"),
        ("sns", "CreateTopic", {"name": "news"}, f"arn:aws:sns:{HERE}:news"),
        (
            "lambda",
            "GetFunction20150331v2",
            {"functionName": "f"},
            f"arn:aws:lambda:{HERE}:function:f",
        ),
        (
            "secretsmanager",
            "GetSecretValue",
            {"secretId": "db/pw"},
            f"arn:aws:secretsmanager:{HERE}:secret:db/pw-??????",
        ),
        ("ssm", "GetParametersByPath", {"path": "/a/b"}, f"arn:aws:ssm:{HERE}:parameter/a/b"),
        ("ec2", "StopInstances", {"instanceId": "i-1"}, f"arn:aws:ec2:{HERE}:instance/i-1"),
        ("events", "PutRule", {"name": "r"}, f"arn:aws:events:{HERE}:rule/r"),
        ("logs", "CreateLogStream", {"logGroupName": "/g", "logStreamName": "s"}, "log-stream:s"),
        ("logs", "DescribeLogStreams", {"logGroupName": "/g"}, None),
        ("logs", "PutLogEvents", {"logGroupName": "/g", "logStreamName": "s"}, "log-stream:s"),
        ("sts", "AssumeRole", {"roleArn": "arn:aws:iam::1:role/r"}, "arn:aws:iam::1:role/r"),
    ],
)
def test_arns_are_made_of_names(
    source: str, name: str, parameters: dict[str, Any], expected: str | None
) -> None:
    group = f"arn:aws:logs:{HERE}:log-group:/g"
    expected = {None: f"{group}:*", "log-stream:s": f"{group}:log-stream:s"}.get(expected, expected)
    assert arns(source, name, parameters) == [expected]


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ('SELECT * FROM "Orders" WHERE id = 1', "Orders"),
        ("select id, 'from x' from Orders", "Orders"),
        ('SELECT a FROM "Orders.old"."by-day"', "Orders.old/index/by-day"),
        ("INSERT INTO Orders VALUE {'id': 1}", "Orders"),
        ('UPDATE "Orders" SET a = 1', "Orders"),
        ("DELETE FROM Orders WHERE id = 1", "Orders"),
        ("SELECT \"a FROM Secrets b\", 'c FROM Secrets d' FROM Orders", "Orders"),
        ("EXISTS(SELECT * FROM Orders)", None),
        ("SELECT * FROM a*", None),
    ],
)
def test_a_statement_of_partiql_names_its_table(statement: str, name: str | None) -> None:
    expected = f"arn:aws:dynamodb:{HERE}:table/{name}" if name else "*"
    assert arns("dynamodb", "ExecuteStatement", {"statement": statement}) == [expected]


def test_arn_in_the_request_may_be_the_resource() -> None:
    table = f"arn:aws:dynamodb:{HERE}:table/t"
    given = {"resourceArn": table, "other": f"arn:aws:sns:{HERE}:t"}
    assert arns("dynamodb", "ListTagsOfResource", given, readOnly=True) == [table]


def test_version_in_an_answer_of_lambda_is_ignored() -> None:
    function = f"arn:aws:lambda:{HERE}:function:f"
    answer = {"functionName": "f", "functionArn": f"{function}:1", "version": "1"}
    given = {"functionName": "f"}
    assert arns("lambda", "PublishVersion20150331", given, responseElements=answer) == [function]


def test_the_answer_knows_the_path_of_a_user() -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:user/staff/Mary"
    answer = {"user": {"userName": "Mary", "arn": arn}}
    given = {"userName": "Mary", "path": "/staff/"}
    assert arns("iam", "CreateUser", given, responseElements=answer) == [arn]
    assert arns("iam", "DeleteUser", given) == [f"arn:aws:iam::{ACCOUNT}:user/Mary"]


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("AttachRolePolicy", "role"),
        ("PutRolePolicy", "role"),
        ("ListAttachedRolePolicies", "role"),
        ("AddUserToGroup", "group"),
        ("ListGroupsForUser", "user"),
        ("CreateAccessKey", "user"),
    ],
)
def test_actions_of_iam_are_about_one_type(event: str, kind: str) -> None:
    given = {
        "roleName": "x",
        "userName": "x",
        "groupName": "x",
        "policyArn": "arn:aws:iam::aws:policy/ReadOnlyAccess",
    }
    assert arns("iam", event, given) == [f"arn:aws:iam::{ACCOUNT}:{kind}/x"]


@pytest.mark.parametrize(
    ("source", "event", "parameters"),
    [
        ("iam", "ListUsers", None),
        ("ec2", "DescribeInstances", {"instanceId": "i-1"}),
        ("cloudformation", "DeleteStack", {"stackName": "s"}),
        ("ecs", "ListClusters", {}),
    ],
)
def test_calls_without_known_resource_need_all(
    source: str, event: str, parameters: dict[str, Any] | None
) -> None:
    is_read = event.startswith(("List", "Describe"))
    assert arns(source, event, parameters, readOnly=is_read) == ["*"]
