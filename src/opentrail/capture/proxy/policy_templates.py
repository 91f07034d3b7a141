"""Policies that `aws cloudtrail create-subscription` reads from a bucket of AWS's.

The command reads them through the endpoint. They replace the upstream's error if it does not have
this bucket.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from opentrail.capture.proxy.head import Headers
from opentrail.wire.routing import Route

_BUCKET = re.compile(r"awscloudtrail-policy-[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_CLOUDTRAIL = {"Service": "cloudtrail.amazonaws.com"}
_WRITES_ACL = {"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}}
_FOLDER = "<BucketName>/<Prefix>/AWSLogs/<CustomerAccountID>/*"


def _policy(*statements: Mapping[str, object]) -> bytes:
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=4).encode()


#: By key; the command replaces what is in angle brackets.
_TEMPLATES = {
    "policy/S3/AWSCloudTrail-S3BucketPolicy-2014-12-17.json": _policy(
        {
            "Sid": "AWSCloudTrailAclCheck20141217",
            "Effect": "Allow",
            "Principal": _CLOUDTRAIL,
            "Action": "s3:GetBucketAcl",
            "Resource": "arn:aws:s3:::<BucketName>",
        },
        {
            "Sid": "AWSCloudTrailWrite20141217",
            "Effect": "Allow",
            "Principal": _CLOUDTRAIL,
            "Action": "s3:PutObject",
            "Resource": f"arn:aws:s3:::{_FOLDER}",
            "Condition": _WRITES_ACL,
        },
    ),
    "policy/SNS/AWSCloudTrail-SnsTopicPolicy-2014-12-17.json": _policy(
        {
            "Sid": "AWSCloudTrailSNSPolicy20141217",
            "Effect": "Allow",
            "Principal": _CLOUDTRAIL,
            "Action": "SNS:Publish",
            "Resource": "arn:aws:sns:<Region>:<SNSTopicOwnerAccountId>:<SNSTopicName>",
        }
    ),
}


def template_for(route: Route) -> bytes | None:
    """Returns the policy that a call reads, None if it reads none."""
    if route.operation != "GetObject" or route.service is None or route.service.name != "s3":
        return None
    if not _BUCKET.fullmatch(route.labels.get("Bucket", "")):
        return None
    return _TEMPLATES.get(route.labels.get("Key", ""))


def lacks_bucket(body: bytes) -> bool:
    """Returns whether an error of an upstream is NoSuchBucket."""
    return b"<Code>NoSuchBucket</Code>" in body


def headers_of(template: bytes, headers: Headers) -> Headers:
    """Returns the headers of the answer that replaces an upstream's, whose headers are given."""
    aws_headers = [(name, value) for name, value in headers if name.lower().startswith(b"x-amz-")]
    length = b"%d" % len(template)
    return [*aws_headers, (b"Content-Type", b"application/json"), (b"Content-Length", length)]
