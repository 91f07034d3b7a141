"""Answers changed on their way to the client; each is held until complete.

- `aws cloudtrail create-subscription` reads policies from a bucket of AWS's through the endpoint.
  They replace the upstream's error if it does not have this bucket.
- The upstream answers the Resource Groups Tagging API for its own resources and does not know the
  trails, which are added. Its answers about other resources are passed on unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

import orjson

from opentrail.capture.proxy.bodies import Flow
from opentrail.capture.proxy.call import Call
from opentrail.capture.proxy.endpoint import ApiCall
from opentrail.capture.proxy.head import Headers
from opentrail.capture.proxy.upstream import AnswerHead, Upstream, UpstreamConnection
from opentrail.capture.record_rules import answers_urls
from opentrail.core.event import Json
from opentrail.wire.message import fold_headers
from opentrail.wire.routing import Route

_BUCKET = re.compile(r"awscloudtrail-policy-[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_CLOUDTRAIL = {"Service": "cloudtrail.amazonaws.com"}
_WRITES_ACL = {"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}}
_FOLDER = "<BucketName>/<Prefix>/AWSLogs/<CustomerAccountID>/*"


def _policy(*statements: Mapping[str, object]) -> bytes:
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=4).encode()


#: By key; the command replaces the placeholders in angle brackets.
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
    """Returns the headers of the answer that replaces an upstream's, based on its headers."""
    aws_headers = [(name, value) for name, value in headers if name.lower().startswith(b"x-amz-")]
    length = b"%d" % len(template)
    return [*aws_headers, (b"Content-Type", b"application/json"), (b"Content-Length", length)]


#: Calls an operation of opentrail's API as the caller; returns status and document.
AskApi = Callable[[str, Json], Awaitable[tuple[int, Json]]]

TAGGING = "resourcegroupstaggingapi"
_READS = frozenset({"GetResources", "GetTagKeys", "GetTagValues"})
_WRITES = frozenset({"TagResources", "UntagResources"})
#: Operations whose answers include trails.
OPERATIONS = _READS | _WRITES
#: Parts of an error's code that show that an upstream does not have the operation at all.
_ABSENT = ("Unknown", "NotImplemented", "Unsupported", "MethodNotAllowed", "NotFound")
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
#: Maximum trails in a ListTags request.
_MAX_LISTED_TRAILS = 20
#: Maximum resources of TagResources and UntagResources, as on AWS; each trail is a call here.
_MAX_CHANGED = 20


def is_trail(arn: object) -> bool:
    """Returns whether a value has the form of a trail's ARN.

    >>> is_trail("arn:aws:cloudtrail:us-east-1:123456789012:trail/main"), is_trail("arn:aws:s3:::b")
    (True, False)
    """
    parts = arn.split(":", 5) if isinstance(arn, str) else []
    return len(parts) == 6 and parts[2] == "cloudtrail" and parts[5].startswith("trail/")


class TrailTags:
    """Adds the trails of one account and Region to answers of an upstream.

    Args:
        ask: calls opentrail's API as the caller, so that policies apply.
        region: the called Region.
    """

    def __init__(self, ask: AskApi, region: str) -> None:
        self._ask = ask
        self._region = region

    async def merged(
        self, operation: str, body: bytes, status: int, answer: bytes
    ) -> tuple[int, bytes] | None:
        """Returns status and body of the answer with the trails; None if it is unchanged.

        Args:
            operation: one of `OPERATIONS`.
            body: the body of the request.
            status: the upstream's status.
            answer: the body of its answer.
        """
        parameters, document = _object(body), _object(answer)
        if parameters is None:
            return None
        if operation in _WRITES:
            return await self._changed(operation, parameters, status, document)
        if status != HTTPStatus.OK:
            if not _is_absent(status, document):
                return None
            document = {}
        if document is None or document.get("PaginationToken"):
            return None  # trails are on the last page
        changed = await self._with_trails(operation, parameters, document)
        return HTTPStatus.OK, orjson.dumps(changed)

    # Reading

    async def _with_trails(self, operation: str, parameters: Json, document: Json) -> Json:
        tagged = await self._tagged_trails()
        if operation == "GetResources":
            mappings = [
                {"ResourceARN": arn, "Tags": tags}
                for arn, tags in tagged.items()
                if _is_wanted(parameters, arn, tags)
            ]
            name = "ResourceTagMappingList"
            values: list[Any] = [*_list(document, name), *mappings]
        elif operation == "GetTagKeys":
            name = "TagKeys"
            values = _union(document, name, (t["Key"] for tags in tagged.values() for t in tags))
        else:
            name, key = "TagValues", parameters.get("Key")
            values = _union(
                document,
                name,
                (t["Value"] for tags in tagged.values() for t in tags if t["Key"] == key),
            )
        return {"PaginationToken": "", **document, name: values}

    async def _tagged_trails(self) -> dict[str, list[dict[str, str]]]:
        """Returns the tags of the Region's tagged trails, by ARN."""
        status, document = await self._ask("ListTrails", {})
        trails = [
            str(item["TrailARN"])
            for item in _list(document, "Trails")
            if item.get("HomeRegion") == self._region
        ]
        tagged: dict[str, list[dict[str, str]]] = {}
        for start in range(0, len(trails) if status == HTTPStatus.OK else 0, _MAX_LISTED_TRAILS):
            arns = trails[start : start + _MAX_LISTED_TRAILS]
            status, answer = await self._ask("ListTags", {"ResourceIdList": arns})
            if status != HTTPStatus.OK:
                continue  # the caller may not see them
            for item in _list(answer, "ResourceTagList"):
                if item["TagsList"]:
                    tagged[item["ResourceId"]] = [
                        {"Key": tag["Key"], "Value": tag.get("Value", "")}
                        for tag in item["TagsList"]
                    ]
        return tagged

    # Changing

    async def _changed(
        self, operation: str, parameters: Json, status: int, document: Json | None
    ) -> tuple[int, bytes] | None:
        arns = parameters.get("ResourceARNList")
        resources = arns if isinstance(arns, Sequence) and not isinstance(arns, str) else []
        trails = [arn for arn in resources if is_trail(arn)]
        if not trails or len(resources) > _MAX_CHANGED or status in _REFUSED:
            return None
        if status != HTTPStatus.OK and len(trails) < len(resources):
            return None  # the upstream changed nothing, so nothing changes here
        answer = document if status == HTTPStatus.OK and document is not None else {}
        failed = {**answer.get("FailedResourcesMap", {})}
        for arn in trails:
            failed.pop(arn, None)
            code, reply = await self._change(operation, parameters, arn)
            if code != HTTPStatus.OK:
                failed[arn] = _failure(code, reply)
        return HTTPStatus.OK, orjson.dumps({**answer, "FailedResourcesMap": failed})

    async def _change(self, operation: str, parameters: Json, arn: str) -> tuple[int, Json]:
        if operation == "TagResources":
            pairs_by_key = parameters.get("Tags")
            pairs = pairs_by_key.items() if isinstance(pairs_by_key, Mapping) else ()
            tags = [{"Key": key, "Value": value} for key, value in pairs]
            return await self._ask("AddTags", {"ResourceId": arn, "TagsList": tags})
        keys = parameters.get("TagKeys")
        tags = [{"Key": key} for key in keys] if isinstance(keys, Sequence) else []
        return await self._ask("RemoveTags", {"ResourceId": arn, "TagsList": tags})


def _object(body: bytes) -> Json | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _list(document: Json, name: str) -> list[Any]:
    value = document.get(name)
    return value if isinstance(value, list) else []


def _union(document: Json, name: str, more: Any) -> list[str]:
    return sorted({*map(str, _list(document, name)), *more})


def _is_absent(status: int, answer: Json | None) -> bool:
    """Returns whether an upstream does not have the operation."""
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED):
        return True
    code = str((answer or {}).get("__type") or (answer or {}).get("code") or "")
    return status not in _REFUSED and any(word in code for word in _ABSENT)


def _is_wanted(parameters: Json, arn: str, tags: Sequence[Mapping[str, str]]) -> bool:
    """Returns whether a trail fits the filters of GetResources."""
    arns = _list(parameters, "ResourceARNList")
    types = _list(parameters, "ResourceTypeFilters")
    if arns and arn not in arns:
        return False
    if types and not {"cloudtrail", "cloudtrail:trail"} & set(map(str, types)):
        return False
    values = {tag["Key"]: tag["Value"] for tag in tags}
    for tag_filter in _list(parameters, "TagFilters"):
        allowed = _list(tag_filter, "Values")
        if tag_filter.get("Key") not in values or (
            allowed and values[tag_filter["Key"]] not in allowed
        ):
            return False
    return True


def _failure(status: int, reply: Json) -> Json:
    message = reply.get("Message") or reply.get("message") or reply.get("__type") or ""
    is_callers = status < HTTPStatus.INTERNAL_SERVER_ERROR
    code = "InvalidParameterException" if is_callers else "InternalServiceException"
    return {"StatusCode": int(status), "ErrorCode": code, "ErrorMessage": str(message)}


#: Returns the body instead of another; the head is changed with it.
Change = Callable[[bytes], Awaitable[bytes]]
#: Longer answers are passed on unchanged.
MAX_REWRITTEN = 1024 * 1024
_API_TARGET = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101"
#: Headers with checksums of the body.
_CHECKSUMS = frozenset({b"content-md5", b"x-amz-crc32"})


def change_of(call: Call, upstream: Upstream, answer: AnswerHead) -> Change | None:
    """Returns the change of an answer; None to pass it on unchanged."""
    route = call.route
    if route.service is None:
        return None
    if answer.status == 404 and (template := template_for(route)):
        return partial(_with_template, template, answer)
    if route.service.name == TAGGING and route.operation in OPERATIONS:
        is_readable = "content-encoding" not in answer.folded
        return partial(_with_trails, call, answer) if is_readable else None
    host, is_tls = call.folded.get("host", ""), call.client.tls is not None
    if host and has_urls(route, answer) and not upstream.is_aws:
        return partial(with_own_urls, host, is_tls, upstream, answer)
    return None


async def rewritten(call: Call, body: Flow, upstream: UpstreamConnection, change: Change) -> bytes:
    """Returns the complete changed body, or the start of one too long for that.

    Raises:
        BrokenOffError: it broke off.
    """
    pieces: list[bytes] = []
    length = 0
    while piece := await call.client.next_piece(body, upstream):
        pieces.append(piece)
        length += len(piece)
        if length > MAX_REWRITTEN:
            return b"".join(pieces)
    return await change(b"".join(pieces))


# Policies for `aws cloudtrail create-subscription`


async def _with_template(template: bytes, answer: AnswerHead, body: bytes) -> bytes:
    if not lacks_bucket(body):
        return body
    _replace(answer, 200, headers_of(template, answer.headers))
    return template


# Trails in the Resource Groups Tagging API


async def _with_trails(call: Call, answer: AnswerHead, body: bytes) -> bytes:
    merged = await _merged(call, answer.status, body)
    if merged is None:
        return body
    status, changed = merged
    _replace(answer, status, _headers_for(changed, answer.headers))
    return changed


async def _merged(call: Call, status: int, body: bytes) -> tuple[int, bytes] | None:
    """Returns the answer with trails, None if the caller or the trails are unknown."""
    recorder, credential, admission = call.endpoint.recorder, call.credential, call.admission
    if credential is None or (admission is not None and admission.caller is None):
        return None
    request = call.sent.content()
    account, region = recorder.caller(call.exchange(request))
    identity = recorder.identity(credential.access_key_id)

    async def ask(operation: str, parameters: Json) -> tuple[int, Json]:
        api_call = ApiCall(call.event_id, identity, account, region, call.source_ip)
        api_call.secure = call.client.tls is not None
        headers: Headers = [
            (b"x-amz-target", f"{_API_TARGET}.{operation}".encode()),
            (b"content-type", b"application/x-amz-json-1.1"),
            (b"user-agent", call.folded.get("user-agent", "").encode("latin-1", "replace")),
        ]
        answer = await call.endpoint.answer_api_call(
            b"POST", b"/", headers, orjson.dumps(parameters), api_call
        )
        return answer.status, orjson.loads(answer.body)

    return await TrailTags(ask, region).merged(call.route.operation or "", request, status, body)


# URLs of the endpoint, for upstreams unaware of opentrail: clients that follow them would pass it

#: Names that emulators give themselves in URLs.
_LOCAL_NAMES = ("localhost.localstack.cloud", "localhost", "127.0.0.1")
#: Labels before such a name that the path replaces.
_REPLACED_LABELS = re.compile(
    rb"(?:(?:sqs|queue|s3)\.)?(?:[a-z]{2}(?:-[a-z]+)+-\d\.)?|[a-z]{2}(?:-[a-z]+)+-\d\.queue\."
)


def has_urls(route: Route, answer: AnswerHead) -> bool:
    """Returns whether an answer holds URLs of the endpoint, and can be changed."""
    if route.service is None or not answers_urls(route.service.name, route.operation or ""):
        return False
    length = answer.folded.get("content-length", "0")
    is_short = length.isdigit() and int(length) <= MAX_REWRITTEN
    return is_short and "content-encoding" not in answer.folded


async def with_own_urls(
    host: str, is_tls: bool, upstream: Upstream, answer: AnswerHead, body: bytes
) -> bytes:
    """Returns a body whose URLs of the upstream lead to the endpoint; the head gets its new length.

    A URL of the upstream has its address, or a local name with its port. Labels that the upstream
    needs, such as a function's, remain before the name; only the port changes then. In JSON the
    slashes may be escaped.

    Args:
        host: the endpoint, as the client sent it.
        is_tls: whether the client uses TLS.
        upstream: its own address.
        answer: the head.
        body: the body.
    """
    scheme = b"https" if is_tls else b"http"
    own = host.encode("latin-1", "replace")
    names = b"|".join(re.escape(name.encode()) for name in {upstream.host, *_LOCAL_NAMES})
    port = b"%d" % upstream.port
    at_port = rb"(?::%b)?" % port if upstream.authority == upstream.host else rb":%b" % port
    url = re.compile(
        rb"https?(:\\?/\\?/)(?:(%b)|((?:[\w-]+\.)*)(%b)%b)(?![\w.:-])"
        % (re.escape(own), names, at_port),
        re.I,
    )

    def replaced(match: re.Match[bytes]) -> bytes:
        slashes, is_own, labels, name = match.groups()
        if is_own or _REPLACED_LABELS.fullmatch(labels.lower()):
            return scheme + slashes + own
        own_port = re.search(rb":\d+\Z", own)
        return scheme + slashes + labels + name + (own_port[0] if own_port else b"")

    changed = url.sub(replaced, body)
    if changed != body:
        _replace(answer, answer.status, _headers_for(changed, answer.headers))
    return changed


def _headers_for(body: bytes, headers: Headers) -> Headers:
    """Returns the headers of an answer with a changed body."""
    return [
        (name, b"%d" % len(body) if name.lower() == b"content-length" else value)
        for name, value in headers
        if name.lower() not in _CHECKSUMS
    ]


def _replace(answer: AnswerHead, status: int, headers: Headers) -> None:
    if status != answer.status:
        answer.status, answer.reason = status, b"OK"
    answer.headers, answer.folded = headers, fold_headers(headers)
