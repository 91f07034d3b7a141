"""The service and operation of a request (cloudtrail-format §10.2)."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.wire.message import Request
from opentrail.wire.routing import NOTHING, KnownBy, Route, Router, S3Host
from opentrail.wire.service_models import Service
from opentrail.wire.sigv4 import Credential, read_credential
from tests.factories import (
    ACCOUNT,
    a_json_request,
    a_query_request,
    a_request,
    an_s3_request,
    an_sdk_request,
    catalog,
    router,
)

FORM = {"content-type": "application/x-www-form-urlencoded"}


def identify(request: Request, using: Router | None = None) -> Route:
    return (using or router()).identify(request, read_credential(request))


def named(request: Request, using: Router | None = None) -> tuple[str | None, str | None]:
    route = identify(request, using)
    return route.service.name if route.service else None, route.operation


# S3: host, path and query


@pytest.mark.parametrize(
    ("method", "path", "query", "operation"),
    [
        ("GET", "/", "", "ListBuckets"),
        ("PUT", "/bucket", "", "CreateBucket"),
        ("PUT", "/bucket/", "", "CreateBucket"),
        ("HEAD", "/bucket", "", "HeadBucket"),
        ("GET", "/bucket", "", "ListObjects"),
        ("GET", "/bucket/", "prefix=in%2F&max-keys=2", "ListObjects"),
        ("GET", "/bucket", "list-type=2", "ListObjectsV2"),
        ("GET", "/bucket", "versions", "ListObjectVersions"),
        ("GET", "/bucket", "acl", "GetBucketAcl"),
        ("GET", "/bucket", "acl=", "GetBucketAcl"),
        ("GET", "/bucket", "policy", "GetBucketPolicy"),
        ("PUT", "/bucket", "policy", "PutBucketPolicy"),
        ("DELETE", "/bucket", "policy", "DeleteBucketPolicy"),
        ("GET", "/bucket", "policyStatus", "GetBucketPolicyStatus"),
        ("GET", "/bucket", "location", "GetBucketLocation"),
        ("PUT", "/bucket", "lifecycle", "PutBucketLifecycleConfiguration"),
        ("GET", "/bucket", "lifecycle", "GetBucketLifecycleConfiguration"),
        ("PUT", "/bucket", "notification", "PutBucketNotificationConfiguration"),
        ("GET", "/bucket", "publicAccessBlock", "GetPublicAccessBlock"),
        ("GET", "/bucket", "uploads", "ListMultipartUploads"),
        ("POST", "/bucket", "delete", "DeleteObjects"),
        ("POST", "/bucket/key", "delete", "DeleteObjects"),
        ("PUT", "/bucket/key", "", "PutObject"),
        ("GET", "/bucket/key", "", "GetObject"),
        ("GET", "/bucket/key", "acl", "GetObjectAcl"),
        ("HEAD", "/bucket/key", "versionId=3", "HeadObject"),
        ("DELETE", "/bucket/key", "", "DeleteObject"),
        ("DELETE", "/bucket/key", "tagging", "DeleteObjectTagging"),
        ("POST", "/bucket/key", "uploads", "CreateMultipartUpload"),
        ("PUT", "/bucket/key", "partNumber=1&uploadId=u", "UploadPart"),
        ("POST", "/bucket/key", "uploadId=u", "CompleteMultipartUpload"),
        ("DELETE", "/bucket/key", "uploadId=u", "AbortMultipartUpload"),
        ("GET", "/bucket/key", "uploadId=u", "ListParts"),
        ("POST", "/bucket/key", "restore", "RestoreObject"),
        ("POST", "/bucket/key", "select&select-type=2", "SelectObjectContent"),
    ],
)
def test_a_sub_resource_decides_the_s3_operation(
    method: str, path: str, query: str, operation: str
) -> None:
    assert named(an_s3_request(method, path, query)) == ("s3", operation)


def test_a_post_without_an_upload_completes_none() -> None:
    assert named(an_s3_request("POST", "/bucket/key", "partNumber=1")) == ("s3", None)


def test_object_attributes_are_requested_by_a_header() -> None:
    headers = {"x-amz-object-attributes": "ETag,ObjectSize"}
    request = an_s3_request("GET", "/bucket/key", "attributes", headers)
    assert named(request) == ("s3", "GetObjectAttributes")


@pytest.mark.parametrize(
    ("headers", "query", "operation"),
    [
        ({"x-amz-copy-source": "/other/key"}, "", "CopyObject"),
        ({"x-amz-copy-source": "/o/k"}, "partNumber=1&uploadId=u", "UploadPartCopy"),
        ({}, "", "PutObject"),
    ],
)
def test_a_copy_source_makes_an_upload_a_copy(
    headers: dict[str, str], query: str, operation: str
) -> None:
    assert named(an_s3_request("PUT", "/bucket/key", query, headers)) == ("s3", operation)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/bucket//key", "/key"),
        ("/bucket/a//b", "a//b"),
        ("/bucket/a/../b", "a/../b"),
        ("/bucket/./a", "./a"),
        ("/bucket/a%2Fb", "a%2Fb"),
        ("/bucket/folder/", "folder/"),
        ("/bucket/a+b%20c", "a+b%20c"),
        ("/bucket/%E2%82%AC", "%E2%82%AC"),
        ("/bucket/line%0Abreak", "line%0Abreak"),
        ("/bucket/2015-03-31/functions/f/invocations", "2015-03-31/functions/f/invocations"),
        ("/bucket/service/X/operation/Y", "service/X/operation/Y"),
    ],
)
def test_a_key_is_kept_exactly(path: str, key: str) -> None:
    """Nothing is collapsed, resolved or unquoted: the path is part of the signature."""
    route = identify(an_s3_request("GET", path))
    assert route.operation == "GetObject"
    assert route.labels == {"Bucket": "bucket", "Key": key}


@pytest.mark.parametrize("path", ["/bucket/key", "/v20180820/key", "/v20180820/bucket"])
def test_bucket_may_have_another_services_version_as_name(path: str) -> None:
    route = identify(an_s3_request("GET", path))
    assert (route.service and route.service.name, route.operation) == ("s3", "GetObject")
    assert route.labels["Bucket"] == path.split("/")[1]


def test_s3_control_is_recognized_by_path_and_header() -> None:
    account = {"x-amz-account-id": "123456789012"}
    path = "/v20180820/configuration/publicAccessBlock"
    assert named(an_s3_request("GET", path, "", account)) == ("s3control", "GetPublicAccessBlock")
    jobs = an_s3_request("POST", "/v20180820/jobs", "", account, b"<CreateJobRequest/>")
    assert named(jobs) == ("s3control", "CreateJob")


def test_virtual_hosts_key_may_resemble_the_control_service() -> None:
    request = an_s3_request(
        "GET", "/v20180820/jobs", "", {"host": "my-bucket.s3.us-east-1.amazonaws.com"}
    )
    route = identify(request)
    assert (route.service and route.service.name, route.operation) == ("s3", "GetObject")
    assert route.labels == {"Bucket": "my-bucket", "Key": "v20180820/jobs"}


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("my-bucket.s3.amazonaws.com", "my-bucket"),
        ("my-bucket.s3.us-east-1.amazonaws.com", "my-bucket"),
        ("my-bucket.s3.us-east-1.amazonaws.com:443", "my-bucket"),
        ("my-bucket.s3-us-west-2.amazonaws.com", "my-bucket"),
        ("my-bucket.s3.dualstack.eu-west-1.amazonaws.com", "my-bucket"),
        ("my-bucket.s3-accelerate.amazonaws.com", "my-bucket"),
        ("my-bucket.s3.cn-north-1.amazonaws.com.cn", "my-bucket"),
        ("my.dotted.bucket.s3.us-east-1.amazonaws.com", "my.dotted.bucket"),
        ("my.s3.bucket.s3.us-east-1.amazonaws.com", "my.s3.bucket"),
        ("my-bucket.trail.example.org", "my-bucket"),
        ("my-bucket.trail.example.org:4747", "my-bucket"),
        ("my-bucket.s3.trail.example.org:4747", "my-bucket"),
        ("my.bucket.localhost:4747", "my.bucket"),
        ("s3.amazonaws.com", None),
        ("s3.us-east-1.amazonaws.com", None),
        ("s3.dualstack.us-east-1.amazonaws.com", None),
        ("trail.example.org", None),
        ("trail.example.org:4747", None),
        ("localhost:4747", None),
        ("s3.localhost:4747", None),
        ("s3.trail.example.org", None),
        ("127.0.0.1:4747", None),
        ("127.0.0.1", None),
        ("[::1]:4747", None),
        ("elsewhere.example.com", None),
        ("eviltrail.example.org", None),
        ("bucket.S3.amazonaws.com", "bucket"),
        ("bucket.s3.us-west-2.AMAZONAWS.com.", "bucket"),
        ("bucket.LocalHost:4747", "bucket"),
        ("bucket.S3.localhost", "bucket"),
        ("S3.localhost", None),
        ("b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com", "b--use1-az4--x-s3"),
        ("my.bucket.bucket.vpce-0a1b-2c3d.s3.us-east-1.vpce.amazonaws.com", "my.bucket"),
        ("bucket.vpce-0a1b-2c3d.s3.us-east-1.vpce.amazonaws.com", None),
        (f"ap-{ACCOUNT}.accesspoint.vpce-0a.s3.us-east-1.vpce.amazonaws.com", f"ap-{ACCOUNT}"),
        ("", None),
        ("b.s3" + "-a" * 100 + "_", None),  # must not be read in 2^100 ways
        ("b.s3" + ".a-" * 80 + "_", None),
    ],
)
def test_a_bucket_is_read_from_a_virtual_host(host: str, bucket: str | None) -> None:
    using = Router(catalog(), ["localhost", "trail.example.org"])
    assert using.bucket_of_host(host) == bucket


@pytest.mark.parametrize(
    "host",
    [
        "s3-control.localhost:4747",
        f"{ACCOUNT}.s3-control.localhost:4747",
        f"{ACCOUNT}.S3-Control.LocalHost:4747",
        f"{ACCOUNT}.control.vpce-0a1b-2c3d.s3.us-east-1.vpce.amazonaws.com",
        "control.vpce-0a1b-2c3d.s3.us-east-1.vpce.amazonaws.com",
    ],
)
def test_s3_control_is_known_by_names_and_header(host: str) -> None:
    path, using = "/v20180820/configuration/publicAccessBlock", Router(catalog(), ["localhost"])
    headers = {"host": host, "x-amz-account-id": ACCOUNT}
    control = ("s3control", "PutPublicAccessBlock")
    assert named(an_s3_request("PUT", path, "", headers), using) == control


@pytest.mark.parametrize("bucket", ["s3-control", ACCOUNT, f"{ACCOUNT}.s3-control"])
def test_buckets_named_like_s3_control_stay_buckets(bucket: str) -> None:
    path, using = "/v20180820/configuration/publicAccessBlock", Router(catalog(), ["localhost"])
    for host in (f"{bucket}.localhost", f"{bucket}.s3.amazonaws.com"):
        request = an_s3_request("PUT", path, "", {"host": host})
        assert named(request, using) == ("s3", "PutObject")


@pytest.mark.parametrize(
    ("host", "bucket", "known_by"),
    [
        ("127.0.0.1:4747", None, KnownBy.NAME),
        ("[::1]:4747", None, KnownBy.NAME),
        ("localhost:4747", None, KnownBy.NAME),
        ("opentrail:4747", None, KnownBy.NAME),
        ("", None, KnownBy.NAME),
        ("opentrail.audit.svc.cluster.local:4747", None, KnownBy.NAME),
        ("opentrail.audit.svc", None, KnownBy.NAME),
        ("vault.seaweedfs.audit.svc.cluster.local", None, KnownBy.NOTHING),
        ("s3.example.org:4747", None, KnownBy.NAME),
        ("vault.s3.example.org:4747", "vault", KnownBy.NAME),
        ("a.b.s3.example.org", "a.b", KnownBy.NAME),
        ("Vault.s3.example.org", "vault", KnownBy.LABEL),
        ("vault.s3.example.org.", "vault", KnownBy.LABEL),
        ("vault.s3.example.org:x", None, KnownBy.NOTHING),
        ("s3.us-east-1.amazonaws.com", None, KnownBy.NAME),
        ("vault.s3.amazonaws.com", "vault", KnownBy.AWS),
        ("sts.amazonaws.com", None, KnownBy.AWS),
        ("vault.localhost:4747", "vault", KnownBy.LABEL),
        ("vault.s3.localhost:4747", "vault", KnownBy.LABEL),
        ("s3.localhost:4747", None, KnownBy.LABEL),
        ("s3.us-east-1.localhost:4747", None, KnownBy.LABEL),
        ("vault.s3.us-east-1.localhost:4747", "vault", KnownBy.LABEL),
        ("my.s3.vault.s3.localhost", "my.s3.vault", KnownBy.LABEL),
        ("vault.127.0.0.1:4747", "vault", KnownBy.LABEL),
        ("vault.127.0.0.1.nip.io", "vault", KnownBy.LABEL),
        ("127.0.0.1.nip.io", None, KnownBy.NAME),
        ("vault.s3.other.example", None, KnownBy.NOTHING),
        ("s3.example.org.evil.example", None, KnownBy.NOTHING),
    ],
)
def test_upstreams_read_only_known_names_alike(
    host: str, bucket: str | None, known_by: KnownBy
) -> None:
    using = Router(catalog(), ["localhost"], ["s3.example.org"])
    assert using.read_host(host) == S3Host(bucket, known_by)


@pytest.mark.parametrize(
    "host",
    [
        "abc.execute-api.localhost:4566",
        "abc.lambda-url.us-east-1.localhost.localstack.cloud:4566",
        "abc.cloudfront.localhost",
    ],
)
def test_host_of_a_function_is_no_bucket_of_anybody(host: str) -> None:
    unsigned = a_request(None, "PUT", "/stage/path", headers={"host": host})
    assert identify(unsigned) == NOTHING
    signed = an_s3_request("PUT", "/vault/key", "", {"host": host})
    assert named(signed) == ("s3", "PutObject")


def test_a_confirmation_link_is_a_call_to_sns() -> None:
    link = an_s3_request("GET", "/", "Action=ConfirmSubscription&TopicArn=t&Token=secret", {})
    route = Router(catalog()).identify(link, None)
    assert (route.service and route.service.name, route.operation) == ("sns", "ConfirmSubscription")


@pytest.mark.parametrize("query", ["Action=SendMessage&MessageBody=x", "Version=1&Action=Foo"])
def test_an_unknown_unsigned_action_is_not_s3(query: str) -> None:
    request = an_s3_request("GET", "/", query, {})
    assert Router(catalog()).identify(request, None) == NOTHING


def test_virtual_host_and_path_name_the_same_object() -> None:
    virtual = an_s3_request("GET", "/in//a", "", {"host": "my-bucket.s3.us-east-1.amazonaws.com"})
    path = an_s3_request("GET", "/my-bucket/in//a", "", {"host": "s3.us-east-1.amazonaws.com"})
    assert identify(virtual) == identify(path)
    assert identify(path).labels == {"Bucket": "my-bucket", "Key": "in//a"}


def test_root_of_a_virtual_host_is_its_bucket() -> None:
    host = {"host": "my-bucket.s3.us-east-1.amazonaws.com"}
    assert named(an_s3_request("GET", "/", "", host)) == ("s3", "ListObjects")
    assert named(an_s3_request("HEAD", "/", "", host)) == ("s3", "HeadBucket")
    assert named(an_s3_request("PUT", "/", "", host)) == ("s3", "CreateBucket")


def test_a_browsers_form_upload_is_a_post_object() -> None:
    headers = {"content-type": "multipart/form-data; boundary=XX"}
    route = identify(an_s3_request("POST", "/bucket", "", headers, signed=False))
    assert (route.service and route.service.name, route.operation) == ("s3", "PostObject")
    assert route.labels == {"Bucket": "bucket"}


@pytest.mark.parametrize(("method", "path"), [("OPTIONS", "/b/k"), ("PATCH", "/b")])
def test_an_unknown_s3_request_is_still_s3(method: str, path: str) -> None:
    assert named(an_s3_request(method, path)) == ("s3", None)


@pytest.mark.parametrize(
    ("service", "method", "path", "expected"),
    [
        ("s3express", "GET", "/", ("s3", "ListDirectoryBuckets")),
        ("s3express", "GET", "/bucket--use1-az4--x-s3", ("s3", "ListObjects")),
        ("s3express", "PUT", "/bucket--use1-az4--x-s3/key", ("s3", "PutObject")),
        ("s3-object-lambda", "POST", "/WriteGetObjectResponse", ("s3", "WriteGetObjectResponse")),
    ],
)
def test_other_signing_names_of_s3(
    service: str, method: str, path: str, expected: tuple[str, str]
) -> None:
    headers = {"x-amz-request-route": "r", "x-amz-request-token": "t"}
    assert named(a_request(service, method, path, headers=headers)) == expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("PUT", "/v20180820/bucket/my-bucket", ("s3control", "CreateBucket")),
        ("POST", "/S3Outposts/CreateEndpoint", ("s3outposts", "CreateEndpoint")),
    ],
)
def test_control_service_makes_buckets_on_outposts(
    method: str, path: str, expected: tuple[str, str]
) -> None:
    assert named(a_request("s3-outposts", method, path)) == expected


@given(
    path=st.text(st.sampled_from("/ab.%2F0?&;=\\\n\x00é+*"), max_size=20),
    query=st.text(st.sampled_from("acl=&uploadId%+;/é"), max_size=20),
    host=st.text(st.sampled_from("ab.s3:localhost[]0"), max_size=20),
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", ""]),
)
def test_any_path_signed_for_s3_is_s3(path: str, query: str, host: str, method: str) -> None:
    route = identify(an_s3_request(method, f"/{path}", query, {"host": host}))
    assert route.service is not None
    assert route.service.name == "s3"
    first = path.partition("/")[0]
    # Slashes before the bucket, encoded or not, are left out.
    has_bucket_first = first and "%2" not in first and not router().bucket_of_host(host)
    if route.operation == "GetObject" and has_bucket_first:
        assert f"/{route.labels['Bucket']}/{route.labels['Key']}" == f"/{path}"


# The query protocols


def test_action_and_version_name_the_operation() -> None:
    assert named(a_query_request("iam", "CreateUser", "2010-05-08")) == ("iam", "CreateUser")
    ec2 = identify(a_query_request("ec2", "RunInstances", "2016-11-15"))
    assert (ec2.operation, ec2.protocol) == ("RunInstances", "ec2")


def test_a_query_call_may_be_a_get() -> None:
    """EKS tokens are presigned GETs of GetCallerIdentity."""
    request = a_request("sts", "GET", "/", "Action=GetCallerIdentity&Version=2011-06-15")
    route = identify(request)
    assert (route.service and route.service.name, route.operation) == ("sts", "GetCallerIdentity")
    assert route.protocol == "query"


@pytest.mark.parametrize("signing_name", ["rds", None])
@pytest.mark.parametrize("action", ["CreateDBCluster", "DescribeEvents", "FailoverDBCluster"])
def test_shared_calls_become_calls_of_rds(signing_name: str | None, action: str) -> None:
    """Their versions are equal, and rds's model includes the others (cloudtrail-format §10.2)."""
    request = a_query_request("rds", action, "2014-10-31", signed=signing_name is not None)
    assert named(request) == ("rds", action)


@pytest.mark.parametrize(
    ("action", "version", "service"),
    [
        ("CreateLoadBalancer", "2012-06-01", "elb"),
        ("CreateLoadBalancer", "2015-12-01", "elbv2"),
    ],
)
def test_the_version_distinguishes_services_with_one_signing_name(
    action: str, version: str, service: str
) -> None:
    assert named(a_query_request("elasticloadbalancing", action, version)) == (service, action)


def test_query_protocol_of_old_sdks_still_reaches_sqs() -> None:
    route = identify(a_query_request("sqs", "SendMessage", "2012-11-05"))
    assert (route.service and route.service.name, route.operation) == ("sqs", "SendMessage")
    assert route.protocol == "query"


def test_an_action_precedes_a_queues_path() -> None:
    form = urlencode({"Action": "SendMessage", "Version": "2012-11-05", "MessageBody": "x"})
    request = a_request("sqs", "POST", "/123456789012/q", headers=FORM, body=form.encode())
    assert named(request) == ("sqs", "SendMessage")


def test_unsigned_query_call_is_named_by_its_version() -> None:
    request = a_query_request("sts", "AssumeRoleWithWebIdentity", "2011-06-15", signed=False)
    assert named(request) == ("sts", "AssumeRoleWithWebIdentity")


def test_an_unknown_action_keeps_its_name() -> None:
    route = identify(a_query_request("iam", "FlyToTheMoon", "2010-05-08"))
    assert (route.service and route.service.name, route.operation) == ("iam", "FlyToTheMoon")
    assert route.model is None


@pytest.mark.parametrize("body", [b"Version=2010-05-08", b"", b"Action=&Version=", b"\xff\xfe=1"])
def test_a_form_without_an_action_has_no_operation(body: bytes) -> None:
    assert identify(a_request("iam", headers=FORM, body=body)).operation is None


def test_object_like_a_form_is_still_an_object() -> None:
    body = b"Action=DeleteUser&Version=2010-05-08&UserName=Mary"
    assert named(an_s3_request("PUT", "/bucket/key", "", FORM, body)) == ("s3", "PutObject")


# Two names for one call: an upstream may read the other name. moto 5.2 takes the first of
# two actions, a form before the query and any action before a target, and asks for no version: it
# carries out DeleteUser for all requests below but one. None may be recorded as something harmless.

DELETE = b"Action=DeleteUser&UserName=Mary&Version=2010-05-08"
LIST = b"Action=ListUsers&Version=2010-05-08"


@pytest.mark.parametrize("body", [DELETE + b"&" + LIST, LIST + b"&" + DELETE])
def test_a_form_with_two_actions_is_not_routed(body: bytes) -> None:
    assert identify(a_request("iam", headers=FORM, body=body)).operation is None


def test_the_same_action_twice_is_one_action() -> None:
    body = DELETE + b"&Action=DeleteUser"
    assert named(a_request("iam", headers=FORM, body=body)) == ("iam", "DeleteUser")


def test_an_action_with_anothers_target_is_not_routed() -> None:
    headers = {**FORM, "x-amz-target": "AmazonSQS.ListQueues"}
    assert identify(a_request("iam", headers=headers, body=DELETE)).operation is None


def test_conflicting_actions_are_not_routed() -> None:
    request = a_request("iam", query=LIST.decode(), headers=FORM, body=DELETE)
    assert identify(request).operation is None


def test_querys_action_counts_without_one_in_the_form() -> None:
    request = a_request("iam", query=DELETE.decode(), headers=FORM, body=b"x=y")
    assert named(request) == ("iam", "DeleteUser")


@pytest.mark.parametrize("version", [b"", b"&Version=", b"&Version=1999-01-01"])
def test_a_signed_action_needs_no_version(version: bytes) -> None:
    body = b"Action=DeleteUser&UserName=Mary" + version
    assert named(a_request("iam", headers=FORM, body=body)) == ("iam", "DeleteUser")


def test_header_of_cbor_does_not_hide_an_action() -> None:
    headers = {**FORM, "smithy-protocol": "rpc-v2-cbor"}
    route = identify(a_request("iam", headers=headers, body=DELETE))
    assert (route.service and route.service.name, route.operation) == ("iam", None)
    assert route.conflict


# A signature's service, and parts of the request that name another. Upstreams differ in which they
# believe; the service of the signature is never changed.

MISLEADING = st.fixed_dictionaries(
    {},
    optional={
        "x-amz-target": st.sampled_from(
            [
                "DynamoDB_20120810.GetItem",
                "Kinesis_20131202.GetRecords",
                "DynamoDBStreams_20120810.GetRecords",
                "AmazonSQS.ReceiveMessage",
                "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents",
                "DynamoDB_20120810.PutItem.GetItem",
                "x",
            ]
        ),
        "smithy-protocol": st.sampled_from(["rpc-v2-cbor", "RPC-v2-CBOR", "rpc-v2-json"]),
        "content-type": st.sampled_from(
            [FORM["content-type"], "application/x-amz-json-1.0", "multipart/form-data; boundary=x"]
        ),
        "x-amz-request-route": st.just("route"),
    },
)
PATHS = st.sampled_from(
    [
        "/",
        "/bucket",
        "/bucket/key",
        "/bucket/k/service/DynamoDB_20120810/operation/GetItem",
        "/service/DynamoDB_20120810/operation/GetItem",
        "/2015-03-31/functions",
        "/v1/speech",
    ]
)
QUERIES = st.sampled_from(["", "uploads", "delete", "Action=GetUser&Version=2010-05-08", "acl"])
BODIES = st.sampled_from([b"", DELETE, b"{}", b"Action=GetCallerIdentity&Version=2011-06-15"])


@given(
    service=st.sampled_from(["s3", "s3express", "s3-outposts", "iam", "lambda", "dynamodb", "sqs"]),
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE"]),
    path=PATHS,
    query=QUERIES,
    headers=MISLEADING,
    body=BODIES,
)
def test_service_of_a_signature_never_changes(
    service: str, method: str, path: str, query: str, headers: dict[str, str], body: bytes
) -> None:
    signed_as = {
        s.name for s in catalog().signed_as(service) if service not in ("s3", "s3express")
    } | ({"s3"} if service.startswith("s3") else set())
    route = identify(a_request(service, method, path, query, headers, body))
    assert route.service is None or route.service.name in signed_as
    if route.conflict is not None:
        assert route.operation is None


@given(method=st.sampled_from(["GET", "PUT", "POST", "DELETE"]), path=PATHS, query=QUERIES)
def test_json_call_is_no_call_to_s3(method: str, path: str, query: str) -> None:
    headers = {"x-amz-target": "DynamoDB_20120810.GetItem"}
    request = a_request("dynamodb", method, path, query, headers, b"{}")
    route = identify(request)
    assert route.operation == "GetItem" or route.conflict
    assert route.conflict or not router().is_like_s3(request)


@pytest.mark.parametrize("target", ["DynamoDB_20120810.PutItem.GetItem", "PutItem.GetItem"])
def test_target_with_two_operations_is_a_conflict(target: str) -> None:
    route = identify(a_json_request("dynamodb", target, {}))
    assert route.operation is None
    assert route.conflict


def test_target_of_an_older_version_is_read() -> None:
    route = identify(a_json_request("dynamodb", "DynamoDB_20111205.GetItem", {}))
    assert (route.operation, route.conflict) == ("GetItem", None)


@pytest.mark.parametrize("service", ["s3-outposts", "s3-object-lambda", "s3express"])
def test_common_bucket_needs_the_common_signing_name(service: str) -> None:
    route = identify(a_request(service, "DELETE", "/bucket/key"))
    assert (route.service and route.service.name, route.operation) == ("s3", None)
    assert route.conflict


@pytest.mark.parametrize(
    ("key", "region"), [("KEY/x", "us-east-1"), ("KEY", "s3"), ("KEY", "us-s3-1")]
)
def test_scope_that_may_be_read_as_s3_is_a_conflict(key: str, region: str) -> None:
    credential = Credential(key, region, "lambda", "SigV4", "AuthHeader")
    assert router().identify(a_request("lambda", "PUT", "/b/k"), credential).conflict


# JSON and CBOR


def test_a_target_names_service_and_operation() -> None:
    request = a_json_request("dynamodb", "DynamoDB_20120810.PutItem", {})
    assert named(request) == ("dynamodb", "PutItem")
    streams = a_json_request("dynamodb", "DynamoDBStreams_20120810.GetRecords", {})
    assert named(streams) == ("dynamodbstreams", "GetRecords")


def test_an_unsigned_target_is_enough() -> None:
    headers = {"x-amz-target": "AWSCognitoIdentityProviderService.InitiateAuth"}
    assert named(a_request(None, headers=headers, body=b"{}")) == ("cognito-idp", "InitiateAuth")


@pytest.mark.parametrize(
    ("target", "operation"),
    [
        ("AmazonSQS.FlyToTheMoon", "FlyToTheMoon"),
        ("Unknown_1.PutThing", "PutThing"),
        ("NoDot", "NoDot"),
        (".", "."),
    ],
)
def test_an_unknown_target_leaves_the_signers_service(target: str, operation: str) -> None:
    route = identify(a_json_request("sqs", target, {}))
    assert (route.service and route.service.name, route.operation) == ("sqs", operation)
    assert route.protocol == "json"


def test_a_cbor_call_is_named_by_its_path() -> None:
    path = "/service/GraniteServiceVersion20100801/operation/PutMetricData"
    request = a_request("monitoring", "POST", path, headers={"smithy-protocol": "rpc-v2-cbor"})
    route = identify(request)
    assert (route.service and route.service.name, route.operation) == (
        "cloudwatch",
        "PutMetricData",
    )
    assert route.protocol == "cbor"


def test_cbor_call_without_its_path_has_no_operation() -> None:
    request = a_request("monitoring", path="/", headers={"smithy-protocol": "rpc-v2-cbor"})
    assert identify(request).operation is None


# REST services


@pytest.mark.parametrize(
    ("service", "method", "path", "query", "expected"),
    [
        ("lambda", "POST", "/2015-03-31/functions", "", ("lambda", "CreateFunction")),
        ("lambda", "POST", "/2015-03-31/functions/", "", ("lambda", "CreateFunction")),
        ("lambda", "GET", "/2015-03-31/functions/f", "", ("lambda", "GetFunction")),
        (
            "lambda",
            "POST",
            "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A1%3Afunction%3Af/invocations",
            "",
            ("lambda", "Invoke"),
        ),
        ("apigateway", "POST", "/restapis", "", ("apigateway", "CreateRestApi")),
        ("apigateway", "POST", "/restapis", "mode=import", ("apigateway", "ImportRestApi")),
        ("apigateway", "POST", "/v2/apis", "", ("apigatewayv2", "CreateApi")),
        ("route53", "GET", "/2013-04-01/hostedzone", "", ("route53", "ListHostedZones")),
        ("cloudfront", "GET", "/2020-05-31/distribution", "", ("cloudfront", "ListDistributions")),
        ("eks", "GET", "/clusters/c", "", ("eks", "DescribeCluster")),
        ("kafka", "GET", "/nothing/like/this", "", ("kafka", None)),
    ],
)
def test_a_rest_route_names_the_operation(
    service: str, method: str, path: str, query: str, expected: tuple[str, str | None]
) -> None:
    assert named(a_request(service, method, path, query)) == expected


def test_a_quoted_slash_stays_inside_its_label() -> None:
    arn = "arn%3Aaws%3Aeks%3Aus-east-1%3A1%3Acluster%2Fc"
    route = identify(a_request("eks", "GET", f"/tags/{arn}"))
    assert (route.operation, route.labels) == ("ListTagsForResource", {"resourceArn": arn})


@pytest.mark.parametrize(
    "path", ["//clusters/a", "/clusters//a", "/clusters%2Fa", "/%2Fclusters/a"]
)
def test_empty_and_encoded_segments_hide_no_operation(path: str) -> None:
    route = identify(a_request("eks", "GET", path))
    assert (route.operation, route.labels) == ("DescribeCluster", {"name": "a"})


def test_services_with_one_signing_name_differ_by_route() -> None:
    bedrock = [
        ("GET", "/foundation-models", ("bedrock", "ListFoundationModels")),
        ("POST", "/model/m/invoke", ("bedrock-runtime", "InvokeModel")),
        ("GET", "/agents/a/", ("bedrock-agent", "GetAgent")),
    ]
    for method, path, expected in bedrock:
        assert named(a_request("bedrock", method, path)) == expected


# Unsigned and unknown


def test_an_unsigned_request_is_s3_by_default() -> None:
    assert named(a_request(None, "GET", "/bucket/key")) == ("s3", "GetObject")
    assert named(a_request(None, "POST", "/token")) == ("sso-oidc", "CreateToken")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_unsigned_object_is_no_sign_on_call(method: str) -> None:
    route = identify(a_request(None, method, "/token"))
    assert route.service is not None
    assert route.service.name == "s3"


@pytest.mark.parametrize("service", ["no-such-service", "S3", " s3", "s3%20", "..", "é"])
def test_an_unknown_service_is_not_routed(service: str) -> None:
    route = identify(a_request(service, "GET", "/x/y"))
    assert (route.service, route.operation) == (None, None)
    assert (route.conflict is None) == (service == "no-such-service")


@pytest.mark.hypothesis
@settings(deadline=None)
@given(
    service=st.sampled_from(["lambda", "bedrock", "iam", "sqs", "s3", "apigateway", "x", None]),
    method=st.sampled_from(["GET", "POST", "PUT", "X"]),
    path=st.text(st.sampled_from("/abv2{}*.%\n"), max_size=15).map(lambda text: f"/{text}"),
    query=st.text(max_size=15) | st.just("Action=A&Version=B"),
    headers=st.dictionaries(
        st.sampled_from(["x-amz-target", "smithy-protocol", "content-type", "host"]),
        st.sampled_from(["rpc-v2-cbor", "a.b", ".", "application/x-www-form-urlencoded", "é"]),
    ),
    body=st.binary(max_size=20) | st.just(b"Action=ListUsers&Version=2010-05-08"),
)
def test_any_request_is_routed_without_an_error(
    service: str | None,
    method: str,
    path: str,
    query: str,
    headers: dict[str, str],
    body: bytes,
) -> None:
    route = identify(a_request(service, method, path, query, headers, body))
    assert route.operation is None or route.operation
    assert route.service is None or route.protocol or route.operation is None


# Every operation of every service


def minimal(shape: Any, text: str, deep: bool, seen: tuple[str, ...] = ()) -> Any:
    """Returns a value of `shape`: the required members, or (`deep`) all of the first two levels."""
    kind = shape.type_name
    if kind == "structure":
        if shape.name in seen or getattr(shape, "is_document_type", False):
            return {}
        names = shape.members if deep and len(seen) < 2 else shape.required_members
        inside = (*seen, shape.name)
        return {
            name: "x"
            if shape.members[name].serialization.get("hostLabel")
            else minimal(shape.members[name], text, deep, inside)
            for name in names
        }
    if kind == "list":
        return [minimal(shape.member, text, deep, seen)] if shape.name not in seen else []
    if kind == "map":
        return {"k": minimal(shape.value, text, deep, seen)}
    if kind == "string":
        return shape.enum[0] if getattr(shape, "enum", None) else text
    return SCALARS[kind]


SCALARS: dict[str, Any] = {
    "integer": 1,
    "long": 1,
    "float": 1.5,
    "double": 1.5,
    "boolean": True,
    "timestamp": datetime(2020, 1, 1, 9, tzinfo=UTC),
    "blob": b"x",
}

#: (service, operation) → the recorded operation, and the reason.
NAMED_OTHERWISE = {
    ("s3", "GetBucketLifecycle"): "GetBucketLifecycleConfiguration",  # its successor, same URI
    ("s3", "PutBucketLifecycle"): "PutBucketLifecycleConfiguration",  # its successor, same URI
    ("s3", "GetBucketNotification"): "GetBucketNotificationConfiguration",  # its successor
    ("s3", "PutBucketNotification"): "PutBucketNotificationConfiguration",  # its successor
    ("lex-models", "GetImport"): "DescribeImport",  # Lex V2's has signing name and URI of V1's
    ("lex-models", "StartImport"): "ListImports",  # Lex V2's has signing name and URI of V1's
}
#: Operations that SDKs sign by another name than their service's, by the endpoint rules.
SIGNED_OTHERWISE = {
    ("s3", "ListDirectoryBuckets"): "s3express",
    ("s3control", "CreateBucket"): "s3-outposts",
}
#: service → services with the same signing name and the same operation on the same URI, version
#: or target; on one endpoint nothing distinguishes them.
TWINS = {
    "bedrock-agent-runtime": ("bedrock-agent",),
    "bedrock-data-automation": ("bedrock",),
    "chime-sdk-media-pipelines": ("chime-sdk-identity",),
    "chime-sdk-meetings": ("chime-sdk-identity",),
    "chime-sdk-messaging": ("chime-sdk-identity",),
    "chime-sdk-voice": ("chime", "chime-sdk-identity"),
    "docdb": ("rds",),
    "greengrassv2": ("greengrass",),
    "ivs-realtime": ("ivs",),
    "lambda-microvms": ("lambda",),
    "lex-models": ("lexv2-models",),
    "neptune": ("rds",),
    "signer-data": ("signer",),
    "sms-voice": ("pinpoint-sms-voice",),
    "timestream-write": ("timestream-query",),
    "wisdom": ("qconnect",),
}


def misnamed(service: Service, operation: str, protocol: str, route: Route) -> str | None:
    """Returns the error in `call` as the name of the operation, None if it is right."""
    wanted = NAMED_OTHERWISE.get((service.name, operation), operation)
    services = (service.name, *TWINS.get(service.name, ()))
    found = (route.service.name if route.service else None, route.operation, route.protocol)
    right = found[0] in services and found[1] in (operation, wanted) and route.model is not None
    names = {"smithy-rpc-v2-cbor": "cbor"}
    if right and route.protocol == names.get(protocol, protocol):
        return None
    return f"{service.name}.{operation} over {protocol} is taken for {found}"


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "deep"),
    [("x", False), ("arn:aws:x:y/z 1+2%2F", False), ("x", True)],
    ids=["minimal", "awkward", "full"],
)
def test_every_operation_of_every_service_is_named_rightly(
    text: str, deep: bool, record_property: Callable[[str, object], None]
) -> None:
    problems, count = [], 0
    for service in catalog().services.values():
        for operation in service.model.operation_names:
            model = service.model.operation_model(operation)
            shape = model.input_shape
            parameters = minimal(shape, text, deep) if shape else {}
            name = SIGNED_OTHERWISE.get((service.name, operation), service.signing_name)
            signer = Credential("AKIA", "us-east-1", name, "SigV4", "AuthHeader")
            for protocol in service.protocols:
                count += 1
                request = an_sdk_request(service.name, operation, parameters, protocol=protocol)
                # Operations without required signature are sent without one.
                credential = None if model.auth_type == "none" else signer
                route = router().identify(request, credential)
                problem = misnamed(service, operation, protocol, route)
                if problem:
                    problems.append(problem)
    record_property("operations", count)
    print(f"{count} requests of {len(catalog().services)} services, {len(problems)} misnamed")
    assert count > 19_000
    assert problems == [], "\n".join(problems)


def test_every_exception_of_the_sweep_names_a_service() -> None:
    for service, operation in (*NAMED_OTHERWISE, *SIGNED_OTHERWISE):
        assert catalog().services[service].operation(operation) is not None
    for service, twins in TWINS.items():
        for twin in twins:
            known = catalog().services
            assert known[service].signing_name == known[twin].signing_name
