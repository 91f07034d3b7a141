"""Answers of the JSON API: documents, errors, and the headers of both; progress of long calls.

Clients that accept NDJSON see progress: lines with the number `read`, and the `total` if it is
known, precede the line with the answer, or with an `error`, its `code` and HTTP `status`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Literal, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from opentrail.access.users import ConsoleRole
from opentrail.api.pages import POLICY, SECURITY_HEADERS, json_response
from opentrail.api.v1.callers import is_by_token
from opentrail.core.errors import (
    INTERNAL_FAILURE,
    CloudTrailError,
    ObjectStoreError,
    OpentrailError,
    RecordRefused,
    StoreUnreachable,
    Throttled,
    UsageError,
)
from opentrail.core.event import Json

log = logging.getLogger(__name__)

Role = Literal["viewer", "auditor", "operator", "admin"]


def role_name(role: ConsoleRole) -> Role:
    """Returns a role as documents have it."""
    return cast(Role, str(role))


def error_response(code: str, message: str, status: int, request_id: str) -> Response:
    """Returns the response to a request that failed."""
    return json_response({"error": message, "code": code, "requestId": request_id}, status)


def with_headers(response: Response, request_id: str, policy: str = POLICY) -> Response:
    """Returns a response with the headers that every answer of the console's port has."""
    response.headers.update({**SECURITY_HEADERS, "Content-Security-Policy": policy})
    response.headers["X-Request-Id"] = request_id
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def invalid_parameter(message: str) -> CloudTrailError:
    """Returns the error of a request whose body is wrong."""
    return CloudTrailError("InvalidParameterException", message)


def describe_error(
    error: TimeoutError | OpentrailError, request_id: str, shows_cause: bool = False
) -> tuple[str, str, int]:
    """Returns code, message and status of an error.

    Args:
        error: the exception from a handler.
        request_id: names the request in the log.
        shows_cause: whether the caller may read messages from the server's log.
    """
    if isinstance(error, CloudTrailError):
        return error.code, error.message, 429 if isinstance(error, Throttled) else error.status
    if isinstance(error, UsageError):
        return "InvalidParameterException", str(error), 400
    if isinstance(error, ObjectStoreError):
        return error.code, f"the bucket failed: {error}", 502
    if isinstance(error, RecordRefused):
        return "ServiceUnavailable", f"Not done, because it cannot be recorded now: {error}", 503
    if isinstance(error, TimeoutError):
        return "TimedOut", "This took too long; narrow the search.", 504
    log.error("a request failed", extra={"error": str(error), "request": request_id})
    if isinstance(error, StoreUnreachable):
        return "ServiceUnavailable", error.public_text, 503
    return "InternalFailure", str(error) if shows_cause else INTERNAL_FAILURE, 500


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Returns the body of a request.

    Raises:
        CloudTrailError: `RequestTooLarge`.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            message = f"the body must have at most {max_bytes} bytes"
            raise CloudTrailError("RequestTooLarge", message, 413)
    return body


async def read_object(request: Request, max_bytes: int, example: str) -> Json:
    """Returns the JSON object in a request's body; an empty body is an empty object.

    Raises:
        CloudTrailError: the body is too large, or not a JSON object; the error shows an example.
    """
    body = await read_body(request, max_bytes)
    try:
        document = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise CloudTrailError(
            "InvalidParameterException", f"the body must be a JSON object such as {example}"
        )
    return document


def text_in(body: Json, member: str) -> str:
    """Returns a required string of a request.

    Raises:
        CloudTrailError: `InvalidParameterException`.
    """
    value = body.get(member)
    if not isinstance(value, str) or not value:
        raise invalid_parameter(f"{member} must be a string")
    return value


# Progress

_NDJSON = "application/x-ndjson"


def is_followed(request: Request) -> bool:
    """Returns whether the client accepts progress lines."""
    return hasattr(request.state, "reports")


def report(request: Request, read: int, total: int | None = None) -> None:
    """Sends the progress of a call to a client that accepts progress lines."""
    if is_followed(request):
        known = {} if total is None else {"total": total}
        request.state.reports.put_nowait({"read": read, **known})


class FollowedCalls:
    """Runs calls whose progress clients may read; each finishes even if its client disconnects."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Future[Any]] = set()

    async def answer(self, request: Request, call: Coroutine[Any, Any, Any], name: str) -> Any:
        """Returns the answer to a call, or a response with its progress and its answer.

        Args:
            request: the request; handlers call `report` with it.
            call: its handler.
            name: names the request in the log.
        """
        if _NDJSON not in request.headers.get("accept", ""):
            return await call
        reports = request.state.reports = asyncio.Queue[Json | None]()
        answer = asyncio.ensure_future(call)
        self._under_way.add(answer)
        answer.add_done_callback(self._under_way.discard)
        answer.add_done_callback(lambda _: reports.put_nowait(None))
        if (first := await reports.get()) is None:
            return await answer
        return StreamingResponse(_lines(request, first, answer, name), media_type=_NDJSON)


async def _lines(
    request: Request, first: Json, answer: asyncio.Future[Any], name: str
) -> AsyncIterator[bytes]:
    line: Json | None = first
    while line is not None:
        yield _line(line)
        line = await request.state.reports.get()
    try:
        yield _line(await answer)
    except (TimeoutError, OpentrailError) as error:
        code, message, status = describe_error(error, name, shows_cause=is_by_token(request))
        yield _line({"error": message, "code": code, "status": status})


def _line(document: Json) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
