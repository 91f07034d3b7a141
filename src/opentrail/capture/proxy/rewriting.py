"""Answers that are changed on their way to the client; each is held until it is whole."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson

from opentrail.capture.proxy.asgi import ApiCall
from opentrail.capture.proxy.bodies import Flow
from opentrail.capture.proxy.call import Call
from opentrail.capture.proxy.head import Headers
from opentrail.capture.proxy.policy_templates import headers_of, lacks_bucket, template_for
from opentrail.capture.proxy.trail_tags import OPERATIONS, TAGGING, TrailTags
from opentrail.capture.proxy.upstream import AnswerHead, UpstreamConnection
from opentrail.capture.record_rules import answers_urls
from opentrail.wire.message import fold_headers
from opentrail.wire.routing import Route

#: Returns the body instead of another; the head is changed with it.
Change = Callable[[bytes], Awaitable[bytes]]
#: Longer answers are passed on as they are.
MAX_REWRITTEN = 1024 * 1024
_API_TARGET = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101"
#: Headers with checksums of the body.
_CHECKSUMS = frozenset({b"content-md5", b"x-amz-crc32"})


def change_of(call: Call, answer: AnswerHead) -> Change | None:
    """Returns how an answer is changed; None: it is passed on as it comes."""
    route = call.route
    if route.service is None:
        return None
    if answer.status == 404 and (template := template_for(route)):
        return partial(_with_template, template, answer)
    if route.service.name == TAGGING and route.operation in OPERATIONS:
        is_readable = "content-encoding" not in answer.folded
        return partial(_with_trails, call, answer) if is_readable else None
    if call.client.tls is not None and has_urls(route, answer):
        return partial(with_https, call.folded.get("host", ""), answer)
    return None


async def rewritten(call: Call, body: Flow, upstream: UpstreamConnection, change: Change) -> bytes:
    """Returns the whole body changed, or the start of one that is too long for that.

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
    """Returns the answer with trails, None if nothing is known of the caller or of trails."""
    recorder, credential, admission = call.endpoint.recorder, call.credential, call.admission
    if credential is None or (admission is not None and admission.caller is None):
        return None
    request = call.sent.content()
    account, region = recorder.caller(call.exchange(request))
    identity = recorder.identity(credential.access_key_id)

    async def ask(operation: str, parameters: dict[str, Any]) -> tuple[int, dict[str, Any]]:
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


# URLs of the endpoint, for upstreams that do not know that clients use TLS


def has_urls(route: Route, answer: AnswerHead) -> bool:
    """Returns whether an answer holds URLs of the endpoint, and can be changed."""
    if route.service is None or not answers_urls(route.service.name, route.operation or ""):
        return False
    length = answer.folded.get("content-length", "0")
    is_short = length.isdigit() and int(length) <= MAX_REWRITTEN
    return is_short and "content-encoding" not in answer.folded


async def with_https(host: str, answer: AnswerHead, body: bytes) -> bytes:
    """Returns a whole body with `https://HOST` for `http://HOST`; the head gets its new length.

    Only `host`, as the client sent it, is rewritten. In JSON the slashes may be escaped.
    """
    name = re.escape(host.encode("latin-1", "replace"))
    url = re.compile(rb"http(:\\?/\\?/)(" + name + rb")(?![\w.:-])", re.I)
    changed = url.sub(lambda match: b"https" + match[1] + match[2], body)
    if changed != body:
        _replace(answer, answer.status, _headers_for(changed, answer.headers))
    return changed


def _headers_for(body: bytes, headers: Headers) -> Headers:
    """Returns the headers of an answer that has another body now."""
    return [
        (name, b"%d" % len(body) if name.lower() == b"content-length" else value)
        for name, value in headers
        if name.lower() not in _CHECKSUMS
    ]


def _replace(answer: AnswerHead, status: int, headers: Headers) -> None:
    if status != answer.status:
        answer.status, answer.reason = status, b"OK"
    answer.headers, answer.folded = headers, fold_headers(headers)
