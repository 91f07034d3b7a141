"""One's own API in CloudTrail records: middleware for ASGI and WSGI applications.

    app = AsgiRecorder(app, "orders.example.com", ServerShipper.of_data_dir("opentrail-data"))

A request to `POST /orders/17/items` becomes an event: its name is what `describe` makes of it (by
default method and path, `PostOrdersItems`), its parameters are query and JSON body with secrets
hidden, its error the status of the answer.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from opentrail.capture.event_ids import new_event_id
from opentrail.capture.redact import by_name
from opentrail.capture.safe_json import to_bytes
from opentrail.capture.secret_names import looks_secret
from opentrail.capture.shipping import Shipper
from opentrail.core.errors import UsageError
from opentrail.core.event import EVENT_VERSION, MANAGEMENT, format_time
from opentrail.core.identity import DEFAULT_ACCOUNT
from opentrail.core.resources import GLOBAL_REGION

#: So much of a JSON body is read for parameters.
_BODY_BYTES = 1024 * 1024
_READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SOURCE = re.compile(r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?\.[a-z0-9-]+$")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(slots=True)
class Seen:
    """A request and its answer, as middleware sees them."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    source_ip: str = ""
    body: bytes = b""
    status: int | None = None
    answer_headers: Mapping[str, str] = field(default_factory=dict)


def default_name(seen: Seen) -> str:
    """Returns an event name of method and path, without parts that look like ids.

    >>> default_name(Seen("POST", "/orders/17/items"))
    'PostOrdersItems'
    """
    words = [w for w in re.split(r"[^A-Za-z0-9]+", seen.path) if w and not re.search(r"\d", w)]
    return seen.method.capitalize() + "".join(w[:1].upper() + w[1:] for w in words[:8])


def nobody(_seen: Seen) -> dict[str, Any]:
    """Returns the identity of a caller that nothing is known of."""
    return {"type": "Unknown", "accountId": DEFAULT_ACCOUNT}


@dataclass(frozen=True, slots=True)
class Recording:
    """How requests become records.

    Args:
        event_source: a domain of one's own, such as `orders.example.com`.
        shipper: where records go.
        describe: the event's name for a request.
        identify: the record's `userIdentity` for a request.
        account: the account that records belong to.
        region: their Region.
    """

    event_source: str
    shipper: Shipper
    describe: Callable[[Seen], str] = default_name
    identify: Callable[[Seen], dict[str, Any]] = nobody
    account: str = DEFAULT_ACCOUNT
    region: str = GLOBAL_REGION

    def __post_init__(self) -> None:
        if not _SOURCE.match(self.event_source) or self.event_source.endswith(".amazonaws.com"):
            raise UsageError(
                f"event_source must be a domain of one's own like orders.example.com, "
                f"not {self.event_source!r}"
            )

    def record(self, seen: Seen) -> None:
        """Makes the record of a request and ships it."""
        record: dict[str, Any] = {
            "eventVersion": EVENT_VERSION,
            "userIdentity": self.identify(seen),
            "eventTime": format_time(datetime.now(UTC)),
            "eventSource": self.event_source,
            "eventName": re.sub(r"[^A-Za-z0-9_]", "_", self.describe(seen))[:128],
            "awsRegion": self.region,
            "sourceIPAddress": seen.source_ip,
        }
        if seen.headers.get("user-agent"):
            record["userAgent"] = seen.headers["user-agent"][:1024]
        if seen.status is None or seen.status >= 400:
            record["errorCode"] = _error_code(seen.status)
        record["requestParameters"] = parameters_of(seen) or None
        record["responseElements"] = None
        record["requestID"] = seen.answer_headers.get("x-request-id") or new_event_id()
        record["eventID"] = new_event_id()
        record["readOnly"] = seen.method in _READ_METHODS
        record["eventType"] = "AwsApiCall"
        record["managementEvent"] = True
        record["recipientAccountId"] = self.account
        record["eventCategory"] = MANAGEMENT
        self.shipper.ship(to_bytes(record))


def _error_code(status: int | None) -> str:
    if status is None:
        return "InternalServerError"
    try:
        return HTTPStatus(status).phrase.replace(" ", "").replace("-", "")
    except ValueError:
        return str(status)


def parameters_of(seen: Seen) -> dict[str, Any]:
    """Returns path, query and JSON or form body, secrets hidden by name."""
    shown: dict[str, Any] = {"method": seen.method, "path": seen.path}
    query = {name: _hidden(name, value) for name, value in parse_qsl(seen.query, True)}
    if query:
        shown["query"] = query
    content_type = seen.headers.get("content-type", "")
    if "json" in content_type and seen.body:
        try:
            shown["body"] = by_name(json.loads(seen.body), str)
        except (ValueError, RecursionError):
            shown["bodyBytes"] = len(seen.body)
    elif "form-urlencoded" in content_type and seen.body:
        pairs = parse_qsl(seen.body.decode("utf-8", "replace"), True)
        shown["body"] = {name: _hidden(name, value) for name, value in pairs}
    elif seen.body:
        shown["bodyBytes"] = len(seen.body)
    return shown


def _hidden(name: str, value: str) -> str:
    return "HIDDEN_DUE_TO_SECURITY_REASONS" if looks_secret(name) else value


class AsgiRecorder:
    """Wraps an ASGI application; its requests are recorded when their answers are complete."""

    def __init__(self, app: AsgiApp, event_source: str, shipper: Shipper, **options: Any) -> None:
        self._app = app
        self._recording = Recording(event_source, shipper, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request (or passes on what is no HTTP request)."""
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

        async def received() -> Message:
            message = await receive()
            room = _BODY_BYTES - len(seen.body)
            if message["type"] == "http.request" and room > 0:
                seen.body += message.get("body", b"")[:room]
            return message

        recorded = False

        async def sent(message: Message) -> None:
            nonlocal recorded
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                seen.answer_headers = _folded(message.get("headers", ()))
            last = message["type"] == "http.response.body" and not message.get("more_body")
            if last:
                # The end of the answer leaves when the record is where it should be.
                recorded = True
                await asyncio.to_thread(self._recording.record, seen)
            await send(message)

        try:
            await self._app(scope, received, sent)
        except Exception:
            if not recorded:
                seen.status = None
                await asyncio.to_thread(self._recording.record, seen)
            raise


def _folded(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in pairs}


class WsgiRecorder:
    """Wraps a WSGI application; its requests are recorded when their answers are complete."""

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        event_source: str,
        shipper: Shipper,
        **options: Any,
    ) -> None:
        self._app = app
        self._recording = Recording(event_source, shipper, **options)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answers one request."""
        seen = _seen_of(environ)

        def started(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            seen.status = int(status.split(" ", 1)[0])
            seen.answer_headers = {name.lower(): value for name, value in headers}
            return start_response(status, headers, *rest)

        try:
            answer = self._app(environ, started)
            # One piece behind: the last one leaves when the record is where it should be.
            yield from self._passed_on(answer, seen)
        except Exception:
            seen.status = None
            self._recording.record(seen)
            raise

    def _passed_on(self, answer: Iterable[bytes], seen: Seen) -> Iterable[bytes]:
        held: bytes | None = None
        try:
            for piece in answer:
                if held is not None:
                    yield held
                held = piece
        finally:
            close = getattr(answer, "close", None)
            if close is not None:
                close()
        self._recording.record(seen)
        if held is not None:
            yield held


def _seen_of(environ: dict[str, Any]) -> Seen:
    """Reads a WSGI environment; the body is read ahead and put back."""
    headers = {
        name[5:].replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    length = environ.get("CONTENT_LENGTH") or "0"
    body = b""
    if length.isdigit() and 0 < int(length) <= _BODY_BYTES:
        body = environ["wsgi.input"].read(int(length))
        environ["wsgi.input"] = io.BytesIO(body)
    return Seen(
        method=environ["REQUEST_METHOD"],
        path=environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""),
        query=environ.get("QUERY_STRING", ""),
        headers=headers,
        source_ip=environ.get("REMOTE_ADDR", ""),
        body=body,
    )


__all__ = ["AsgiRecorder", "Recording", "Seen", "WsgiRecorder", "default_name"]
