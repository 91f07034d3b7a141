"""The bridge from the endpoint to an ASGI application."""

from __future__ import annotations

import asyncio

from opentrail.capture.proxy.endpoint import SCOPE_KEY, ApiCall, ask
from opentrail.wire.message import Message, Scope


def test_application_gets_the_request_and_returns_its_answer() -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: object, send: object) -> None:
        first: Message = await receive()  # type: ignore[operator]
        then: Message = await receive()  # type: ignore[operator]
        seen.extend([scope["raw_path"], scope["query_string"], scope["headers"], first, then])
        seen.append(scope[SCOPE_KEY].event_id)
        start = {"type": "http.response.start", "status": 201, "headers": [(b"a", b"b")]}
        await send(start)  # type: ignore[operator]
        for body in (b"one ", b"two"):
            await send({"type": "http.response.body", "body": body})  # type: ignore[operator]

    own = ApiCall("id", None, "123456789012", "us-east-1", "10.0.0.1")
    answer = asyncio.run(ask(app, b"POST", b"/a%20b?c=d", [(b"X-Y", b"z")], b"body", own))
    assert (answer.status, answer.headers, answer.body) == (201, [(b"a", b"b")], b"one two")
    assert seen[:3] == [b"/a%20b", b"c=d", [(b"x-y", b"z")]]
    assert seen[3] == {"type": "http.request", "body": b"body", "more_body": False}
    assert seen[4] == {"type": "http.disconnect"}
    assert seen[5] == "id"
