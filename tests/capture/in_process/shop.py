"""A custom application, and its clients."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

from opentrail.core.errors import RecordRefused

SOURCE = "orders.example.com"


class Collector:
    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.broken = False

    def ship(self, record: bytes) -> None:
        if self.broken:
            raise RecordRefused("no room")
        self.records.append(json.loads(record))


async def orders(scope: Any, receive: Any, send: Any) -> None:
    """Answers 201 in two pieces, 404 to GET, and fails on DELETE."""
    while (await receive()).get("more_body"):
        pass
    if scope["method"] == "DELETE":
        raise ValueError("broken")
    status = 404 if scope["method"] == "GET" else 201
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"X-Request-Id", b"r1")]}
    )
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"b"})


def ask(app: Any, method: str, path: str, body: bytes = b"", query: bytes = b"") -> list[Any]:
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [(b"content-type", b"application/json"), (b"User-Agent", b"shop/1.0")],
        "client": ("192.0.2.9", 5),
    }
    pieces = [body[:5], body[5:]]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def wsgi(app: Any, method: str, path: str, body: bytes = b"") -> tuple[list[str], bytes]:
    statuses: list[str] = []
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": str(len(body)),
        "REMOTE_ADDR": "192.0.2.9",
        "HTTP_USER_AGENT": "shop/1.0",
        "wsgi.input": io.BytesIO(body),
    }
    written: list[bytes] = []

    def start(status: str, _headers: Any, *_rest: Any) -> Any:
        statuses.append(status)
        return written.append

    answer = b"".join(app(environ, start))
    return statuses, b"".join(written) + answer
