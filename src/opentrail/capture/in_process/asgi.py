"""Middleware for ASGI applications."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from opentrail.capture.in_process.recording import Recording, Seen, failed
from opentrail.capture.in_process.shipping import Shipper
from opentrail.capture.proxy.asgi import AsgiApp, Message, Scope
from opentrail.capture.record.exchange import GONE, INCOMPLETE, Failure

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiRecorder:
    """Wraps an ASGI application; its requests are recorded when their answers are complete."""

    def __init__(self, app: AsgiApp, event_source: str, shipper: Shipper, **options: Any) -> None:
        self._app = app
        self._recording = Recording(event_source, shipper, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; other events are passed on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = Seen(
            method=scope["method"],
            path=scope["path"],
            query=scope.get("query_string", b"").decode("latin-1"),
            headers=_folded(scope["headers"]),
            source_ip=(scope.get("client") or ("",))[0],
        )
        await _Serving(self._app, self._recording, seen, receive, send).run(scope)


class _Serving:
    """One request of an ASGI application."""

    def __init__(
        self, app: AsgiApp, recording: Recording, seen: Seen, receive: Receive, send: Send
    ) -> None:
        self._app, self._recording, self._seen = app, recording, seen
        self._receive, self._send = receive, send
        self._recorded = self._has_request = False
        self._left: Failure | None = None

    async def run(self, scope: Scope) -> None:
        failure = Failure("InternalServerError", "the application ended without a whole answer")
        try:
            await self._app(scope, self._receive_request, self._send_answer)
        except Exception as error:
            failure = failed(error)
            if not self._recorded:
                self._seen.status = None
            raise
        except asyncio.CancelledError:
            failure = Failure(GONE.code, "the client went away, or the server stopped")
            raise
        finally:
            if not self._recorded:
                await asyncio.shield(self._record(self._left or failure))

    async def _record(self, failure: Failure | None) -> None:
        self._recorded = True
        await asyncio.to_thread(self._recording.record, self._seen, failure)

    async def _receive_request(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen.take(message.get("body", b""))
            self._has_request = not message.get("more_body")
        elif message["type"] == "http.disconnect" and self._left is None:
            self._left = GONE if self._has_request else INCOMPLETE
        return message

    async def _send_answer(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._seen.status = message["status"]
            self._seen.answer_headers = _folded(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self._seen.answer_length += len(message.get("body", b""))
            if not message.get("more_body"):
                # The end of the answer is sent when the record is stored.
                await self._record(self._left)
        elif message["type"] == "http.response.pathsend":  # a whole body, by the file's name
            self._seen.answer_length += await asyncio.to_thread(_size_of, message["path"])
            await self._record(self._left)
        await self._send(message)


def _size_of(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _folded(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in pairs}
