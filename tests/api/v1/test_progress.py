"""Progress of calls over HTTP: lines for clients that follow it, otherwise one document."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from opentrail.api.v1.answers import FollowedCalls, is_followed, report
from opentrail.core.errors import StorageFailed
from tests.fakes import asynchronous


async def answered(
    call: Callable[[Request], Coroutine[Any, Any, Any]], accept: str = "application/x-ndjson"
) -> Any:
    """Returns the lines of a response, or the document."""
    scope = {"type": "http", "headers": [(b"accept", accept.encode())], "path": "/", "state": {}}
    request = Request(scope)
    request.state.is_by_token = True
    answer = await FollowedCalls().answer(request, call(request), "request-1")
    if not isinstance(answer, Response):
        return answer
    assert isinstance(answer, StreamingResponse)
    return [
        json.loads(line if isinstance(line, str) else bytes(line))
        async for line in answer.body_iterator
    ]


async def reading(request: Request) -> dict[str, bool]:
    report(request, 1)
    await asyncio.sleep(0)
    report(request, 2, 3)
    return {"followed": is_followed(request)}


async def failing(request: Request) -> dict[str, bool]:
    report(request, 1)
    raise StorageFailed("the disk is full")


async def refused(_request: Request) -> dict[str, bool]:
    raise StorageFailed("the disk is full")


@asynchronous
async def test_reports_precede_the_answer() -> None:
    assert await answered(reading) == [{"read": 1}, {"read": 2, "total": 3}, {"followed": True}]
    assert await answered(reading, "*/*") == {"followed": False}


@asynchronous
async def test_error_after_a_report_is_the_last_line() -> None:
    first, last = await answered(failing)
    assert (first, last["status"]) == ({"read": 1}, 500)
    assert "the disk is full" in last["error"]


@asynchronous
async def test_an_error_without_a_report_is_raised() -> None:
    with pytest.raises(StorageFailed):
        await answered(refused)
