"""Progress of long calls, for clients that accept NDJSON.

Lines with the number `read`, and with the `total` if it is known, come before the line with the
answer, or with an `error`, its `code` and HTTP `status`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import StreamingResponse

from opentrail.api.v1.answers import describe_error
from opentrail.api.v1.callers import is_by_token
from opentrail.core.errors import OpentrailError
from opentrail.core.event import Json

_NDJSON = "application/x-ndjson"


def is_followed(request: Request) -> bool:
    """Returns whether the client reads the progress of its call."""
    return hasattr(request.state, "reports")


def report(request: Request, read: int, total: int | None = None) -> None:
    """Sends the client the progress of its call, if it reads it."""
    if is_followed(request):
        known = {} if total is None else {"total": total}
        request.state.reports.put_nowait({"read": read, **known})


class FollowedCalls:
    """Runs calls whose progress clients may read; each ends even if its client is gone."""

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
