"""Parameters of requests are read back from an SDK's bytes, whatever the protocol."""

from datetime import UTC, datetime
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from opentrail.wire.message import Request
from opentrail.wire.requests import decode_request
from opentrail.wire.sigv4 import read_credential
from tests.factories import (
    a_json_request,
    a_query_request,
    a_request,
    an_s3_request,
    an_sdk_request,
    catalog,
    router,
)

FORM = {"content-type": "application/x-www-form-urlencoded"}


def decoded(request: Request) -> tuple[dict[str, Any], list[str]]:
    return decode_request(router().identify(request, read_credential(request)), request)


def parameters(request: Request) -> dict[str, Any]:
    return decoded(request)[0]


# Round trips: botocore serialises, we read back

#: XML and HTTP cannot carry control characters; everything else must survive.
TEXT = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=8)
#: Valid values of a header: no space at its ends, and no comma, which separates.
HEADER_TEXT = st.from_regex(r"[!-+\--~]{1,8}", fullmatch=True)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXT,
    "character": TEXT,
    "integer": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(-1e30, 1e30, width=32),
    "double": st.floats(-1e300, 1e300),
    "boolean": st.booleans(),
    "timestamp": st.datetimes(
        datetime(1970, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds
        datetime(2100, 1, 1),  # noqa: DTZ001
        timezones=st.just(UTC),
    ).map(lambda moment: moment.replace(microsecond=0)),
    "blob": st.binary(max_size=8),
}


def values_of(shape: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Returns a strategy for values of `shape`, nested to a bounded depth."""
    kind = shape.type_name
    if kind == "structure":
        return structures_of(shape, depth)
    if kind == "list":
        return st.lists(values_of(shape.member, depth + 1), min_size=1, max_size=2)
    if kind == "map":
        inner = values_of(shape.value, depth + 1)
        return st.dictionaries(TEXT.filter(bool), inner, min_size=1, max_size=2)
    location = shape.serialization.get("location")
    if kind == "string" and location in ("header", "headers"):
        return HEADER_TEXT
    if kind == "string" and location == "uri":
        return TEXT.filter(bool)
    return SCALARS[kind]


def structures_of(shape: Any, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    always = set(shape.required_members)
    names = [
        name
        for name, member in shape.members.items()
        if name in always or depth < 3 or member.type_name not in ("structure", "list", "map")
    ]
    if depth > 6:
        return st.just({})

    @st.composite
    def draw_members(draw: st.DrawFn) -> dict[str, Any]:
        rest = [name for name in names if name not in always]
        chosen = always | set(draw(st.lists(st.sampled_from(rest), max_size=3)) if rest else [])
        if shape.name == "AttributeValue":  # a union: one member
            chosen = {draw(st.sampled_from(["S", "N", "B", "BOOL", "SS", "L", "M"][: 7 - depth]))}
        return {
            name: draw(values_of(shape.members[name], depth + 1))
            for name in shape.members
            if name in chosen
        }

    return draw_members()


def sent(shape: Any, value: Any, protocol: str) -> Any:
    """Returns the part of `value` that the protocol can carry, None for nothing.

    Forms can carry neither an empty structure nor a list of such.
    """
    forms = protocol in ("query", "ec2")
    if shape.type_name == "structure":
        members = {n: sent(shape.members[n], v, protocol) for n, v in value.items()}
        said = {name: item for name, item in members.items() if item is not None}
        return None if forms and not said else said
    if shape.type_name == "list":
        items = [sent(shape.member, item, protocol) for item in value]
        return [item for item in items if item is not None] or None
    if shape.type_name == "map":
        return {key: sent(shape.value, item, protocol) for key, item in value.items()}
    return value


OPERATIONS = [
    ("dynamodb", "PutItem", "json"),
    ("dynamodb", "UpdateTable", "json"),
    ("kms", "CreateKey", "json"),
    ("sqs", "SendMessageBatch", "json"),
    ("ssm", "PutParameter", "json"),
    ("cloudtrail", "LookupEvents", "json"),
    ("iam", "CreateRole", "query"),
    ("sns", "CreateTopic", "query"),
    ("rds", "ModifyDBInstance", "query"),
    ("cloudwatch", "PutMetricData", "query"),
    ("elbv2", "CreateRule", "query"),
    ("sts", "AssumeRole", "query"),
    ("ec2", "RunInstances", "ec2"),
    ("ec2", "AuthorizeSecurityGroupIngress", "ec2"),
    ("ec2", "CreateFlowLogs", "ec2"),
    ("lambda", "CreateFunction", "rest-json"),
    ("lambda", "ListEventSourceMappings", "rest-json"),
    ("eks", "CreateNodegroup", "rest-json"),
    ("mq", "UpdateBroker", "rest-json"),
    ("apigateway", "PutMethod", "rest-json"),
    ("s3", "PutBucketLifecycleConfiguration", "rest-xml"),
    ("s3", "PutObjectTagging", "rest-xml"),
    ("s3", "PutBucketAcl", "rest-xml"),
    ("route53", "ChangeResourceRecordSets", "rest-xml"),
    ("cloudfront", "CreateInvalidation", "rest-xml"),
    ("cloudwatch", "PutMetricData", "smithy-rpc-v2-cbor"),
    ("cloudwatch", "PutMetricAlarm", "smithy-rpc-v2-cbor"),
    ("cloudwatch", "GetMetricData", "smithy-rpc-v2-cbor"),
]


@pytest.mark.slow
@pytest.mark.hypothesis
@pytest.mark.parametrize(
    ("service", "operation", "protocol"), OPERATIONS, ids=[f"{s}.{o}-{p}" for s, o, p in OPERATIONS]
)
@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(data=st.data())
def test_sdk_requests_round_trip(
    service: str, operation: str, protocol: str, data: st.DataObject
) -> None:
    model = catalog().services[service].operation(operation)
    assert model is not None
    asked = data.draw(values_of(model.input_shape))
    if service == "s3":  # whose buckets have no such names: upstreams split them
        assume("/" not in asked.get("Bucket", "") and "%" not in asked.get("Bucket", ""))
    request = an_sdk_request(service, operation, asked, protocol=protocol)
    call = router().identify(request, read_credential(request))
    assert call.operation == operation
    found, notes = decode_request(call, request)
    assert found == (sent(model.input_shape, asked, protocol) or {})
    assert notes == []


# Places of REST parameters


def test_labels_query_headers_and_body_are_put_together() -> None:
    request = a_request(
        "lambda",
        "POST",
        "/2015-03-31/functions/my%2Ffunction/invocations",
        "Qualifier=a%26b",
        {"x-amz-invocation-type": "Event"},
        b"the payload",
    )
    assert parameters(request) == {
        "FunctionName": "my/function",
        "Qualifier": "a&b",
        "InvocationType": "Event",
    }


def test_repeated_query_names_are_a_list() -> None:
    request = a_request("eks", "DELETE", "/tags/arn", "tagKeys=a+b&tagKeys=&tagKeys=c%2B")
    assert parameters(request) == {"resourceArn": "arn", "tagKeys": ["a b", "", "c+"]}


def test_headers_with_a_prefix_are_a_map() -> None:
    headers = {"x-amz-meta-team": "audit", "x-amz-meta-": "empty", "x-amz-acl": "private"}
    assert parameters(an_s3_request("PUT", "/b/a%20b", "", headers, b"data")) == {
        "Bucket": "b",
        "Key": "a b",
        "ACL": "private",
        "Metadata": {"team": "audit", "": "empty"},
    }


def test_bytes_of_an_object_are_never_a_parameter() -> None:
    assert "Body" not in parameters(an_s3_request("PUT", "/b/k", body=b"the object"))


def test_truncated_body_leaves_the_parameters_of_the_head() -> None:
    request = an_s3_request("PUT", "/b", "tagging", body=b"<Tagg", body_is_whole=False)
    assert parameters(request) == {"Bucket": "b"}


def test_an_empty_body_gives_no_parameters() -> None:
    assert parameters(a_json_request("sqs", "AmazonSQS.ListQueues", b"")) == {}
    assert parameters(a_json_request("sqs", "AmazonSQS.ListQueues", b" \r\n")) == {}
    assert parameters(a_query_request("iam", "ListUsers", "2010-05-08")) == {}


# Forms


def test_parameters_of_the_protocol_are_left_out() -> None:
    signing = {
        "AWSAccessKeyId": "AKIA",
        "SignatureVersion": "2",
        "SignatureMethod": "HmacSHA256",
        "Signature": "x",
        "Timestamp": "2020-01-01T09:00:00Z",
        "SecurityToken": "token",
        "X-Amz-Security-Token": "token",
        "UserName": "Mary",
    }
    assert parameters(a_query_request("iam", "GetUser", "2010-05-08", signing)) == {
        "UserName": "Mary"
    }


def test_parameters_of_a_get_are_in_its_query() -> None:
    query = "Action=GetUser&Version=2010-05-08&UserName=Mary%20Major&X-Amz-Signature=0"
    assert parameters(a_request("iam", "GET", "/", query)) == {"UserName": "Mary Major"}


def test_an_action_without_a_model_shows_its_form() -> None:
    request = a_query_request("iam", "FlyToTheMoon", "2010-05-08", {"Speed": "c"})
    assert parameters(request) == {"Speed": "c"}


def test_an_old_sqs_calls_queue_is_its_path() -> None:
    body = b"Action=DeleteMessage&Version=2012-11-05&ReceiptHandle=r"
    request = a_request("sqs", "POST", "/123456789012/my-queue", headers=FORM, body=body)
    assert parameters(request) == {
        "QueueUrl": "http://127.0.0.1:4747/123456789012/my-queue",
        "ReceiptHandle": "r",
    }


# Notes and refusals


def test_duplicate_keys_are_noted() -> None:
    request = a_json_request("sqs", "AmazonSQS.DeleteQueue", b'{"QueueUrl":"a","QueueUrl":"b"}')
    assert decoded(request) == ({"QueueUrl": "b"}, ["duplicateKeys"])
    rest = a_request("eks", "POST", "/tags/arn", "", {}, b'{"tags":{"k":"1","k":"2"}}')
    assert decoded(rest) == ({"resourceArn": "arn", "tags": {"k": "2"}}, ["duplicateKeys"])


@pytest.mark.parametrize(
    "body",
    [
        b"Action=DeleteUser&Version=2010-05-08&UserName=Mary&UserName=Bob",
        b"Action=CreateUser&Version=2010-05-08&UserName=Bob&Tags.member.1.Key=a&Tags.member.1.Key=b",
    ],
)
def test_names_that_a_form_repeats_are_noted(body: bytes) -> None:
    """The upstream may read either; the record must mark the uncertainty."""
    found, notes = decoded(a_request("iam", headers=FORM, body=body))
    assert found["UserName"] == "Bob"
    assert notes == ["duplicateKeys"]


@pytest.mark.parametrize(
    "request_",
    [
        a_json_request("sqs", "AmazonSQS.DeleteQueue", b"{"),
        a_json_request("sqs", "AmazonSQS.DeleteQueue", b"[]"),
        a_json_request("sqs", "AmazonSQS.DeleteQueue", b"\xff\xfe"),
        an_s3_request("PUT", "/b", "tagging", body=b"<Tagging>"),
        an_s3_request("PUT", "/b", "tagging", body=b"<!DOCTYPE x><Tagging/>"),
        a_request("eks", "POST", "/tags/arn", body=b"not json"),
        a_request(
            "monitoring",
            path="/service/GraniteServiceVersion20100801/operation/PutMetricData",
            headers={"smithy-protocol": "rpc-v2-cbor"},
            body=b"\xff\xff",
        ),
        a_request(
            "iam",
            headers={**FORM, "content-encoding": "gzip"},
            body=b"Action=ListUsers&Version=2010-05-08",
        ),
    ],
    ids=["json", "list", "utf-8", "xml", "doctype", "rest-json", "cbor", "gzip"],
)
def test_a_body_that_breaks_the_protocol_is_refused(request_: Request) -> None:
    with pytest.raises(ValueError, match=r"."):
        decoded(request_)


# Hostile bodies: parameters or a ValueError, whatever the input

CBOR_PATH = "/service/GraniteServiceVersion20100801/operation/PutMetricData"


def cbor_request(body: bytes) -> Request:
    headers = {"smithy-protocol": "rpc-v2-cbor", "content-type": "application/cbor"}
    return a_request("monitoring", path=CBOR_PATH, headers=headers, body=body)


def read_or_refused(request: Request) -> dict[str, Any] | None:
    try:
        found = parameters(request)
    except ValueError:
        return None
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    "body",
    [
        b"\x81" * 100_000,
        b"\xa1\x61a" * 50_000,
        b"\x9f" * 100_000,
        b"\xd8\x1c" * 20_000 + b"\x01",
        b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff",
        cbor2.dumps({"Namespace": cbor2.CBORTag(0, "0001-01-01T00:00:00+14:00")}),
        cbor2.dumps({"MetricData": [{"Timestamp": cbor2.CBORTag(1, 1e300)}]}),
        cbor2.dumps({"MetricData": [{"Timestamp": cbor2.CBORTag(0, "0001-01-01T00:00:00+14:00")}]}),
        cbor2.dumps({"MetricData": [{"Timestamp": cbor2.CBORTag(100, 10**12)}]}),
        cbor2.dumps({1: 2, None: 3, b"x": 4}),
        cbor2.dumps({"Namespace": cbor2.CBORTag(35, "(((")}),
        cbor2.dumps({"Namespace": cbor2.CBORTag(37, b"short")}),
        cbor2.dumps({"Namespace": cbor2.CBORTag(4, [10**9, 1])}),
        cbor2.dumps({"Namespace": cbor2.CBORTag(30, [1, 0])}),
        cbor2.dumps({"Namespace": cbor2.CBORTag(260, b"xx")}),
        bytes.fromhex("d81ca1616ad81d00"),
    ],
    ids=range(17),
)
def test_a_hostile_cbor_body_is_read_or_refused(body: bytes) -> None:
    """The last one is an object that contains itself (tags 28 and 29)."""
    read_or_refused(cbor_request(body))


@pytest.mark.hypothesis
@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=40))
def test_any_bytes_are_cbor_or_refused(body: bytes) -> None:
    read_or_refused(cbor_request(body))


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None, max_examples=200)
@given(
    st.binary(max_size=60)
    | st.text(st.sampled_from("ABUserName.member1=&%+;Tags\x00é"), max_size=60).map(str.encode)
)
def test_any_bytes_are_a_form_or_refused(body: bytes) -> None:
    for service, version, action in (
        ("iam", "2010-05-08", "CreateUser"),
        ("ec2", "2016-11-15", "RunInstances"),
        ("sqs", "2012-11-05", "SendMessageBatch"),
        ("iam", "2010-05-08", "NoSuchAction"),
    ):
        form = f"Action={action}&Version={version}&".encode() + body
        read_or_refused(a_request(service, headers=FORM, body=form))


@pytest.mark.hypothesis
@settings(deadline=None, max_examples=200)
@given(
    st.binary(max_size=60)
    | st.text(st.sampled_from('{}[]":,0eE-.TagSetItemxnul\\ud8 '), max_size=60).map(str.encode)
)
def test_any_bytes_are_json_or_refused(body: bytes) -> None:
    read_or_refused(a_json_request("dynamodb", "DynamoDB_20120810.PutItem", body))
    read_or_refused(a_request("eks", "POST", "/tags/arn", body=body))


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None, max_examples=200)
@given(
    body=st.binary(max_size=60)
    | st.text(st.sampled_from('<>/="TagSetKey?!xmlversion1.0 encoding'), max_size=60).map(
        str.encode
    ),
    query=st.text(st.sampled_from("tagging&=%41\udcff+;"), max_size=12),
)
def test_any_bytes_are_xml_or_refused(body: bytes, query: str) -> None:
    read_or_refused(an_s3_request("PUT", "/b", f"tagging&{query}", body=body))
    read_or_refused(a_request("route53", "POST", "/2013-04-01/hostedzone", body=body))


@pytest.mark.hypothesis
@settings(deadline=None, max_examples=150)
@given(
    path=st.text(st.sampled_from("/%2Fé\x00 ab"), min_size=1, max_size=12),
    query=st.text(max_size=20),
    header=st.text(max_size=20),
)
def test_any_rest_head_is_read_or_refused(path: str, query: str, header: str) -> None:
    headers = dict.fromkeys(
        ("if-modified-since", "content-length", "x-amz-meta-x", "range", "expires"), header
    )
    read_or_refused(an_s3_request("PUT", f"/b/{path}", f"partNumber={query}&{query}", headers))
