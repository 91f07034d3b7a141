"""One's own API in CloudTrail records: middleware for ASGI and WSGI applications.

    app = AsgiRecorder(app, "orders.example.com", ServerShipper.of_data_dir("opentrail-data"))

A request to `POST /orders/17/items` becomes an event: its name is what `describe` makes of it (by
default method and path, `PostOrdersItems`), its parameters are query and JSON body with secrets
hidden, its error the status of the answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from opentrail.capture.assemble import Assembler
from opentrail.capture.embedded import within
from opentrail.capture.event_ids import new_event_id
from opentrail.capture.exchange import Described, Exchange
from opentrail.capture.redact import by_name
from opentrail.capture.shipping import Shipper
from opentrail.core.errors import UsageError
from opentrail.core.identity import DEFAULT_ACCOUNT, unknown
from opentrail.core.resources import GLOBAL_REGION
from opentrail.wire.message import Request, Response
from opentrail.wire.routing import NOTHING

log = logging.getLogger(__name__)

_ASSEMBLER = Assembler(lambda key: unknown(DEFAULT_ACCOUNT, key))
#: So much of a JSON body is read for parameters.
_BODY_BYTES = 1024 * 1024
_READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_NAME = re.compile(r"[^A-Za-z0-9_]")
_SOURCE = re.compile(r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?\.[a-z0-9-]+$")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(slots=True)
class Seen:
    """A request and its answer, as middleware sees them.

    `body` is the start of the request's body, at most a megabyte; `body_length` its length.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    source_ip: str = ""
    body: bytes = b""
    status: int | None = None
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    body_length: int = 0
    answer_length: int = 0
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def take(self, piece: bytes) -> None:
        """Takes in the next piece of the request's body."""
        self.body_length += len(piece)
        room = _BODY_BYTES - len(self.body)
        if room > 0 and piece:
            self.body += piece[:room]


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

    def record(self, seen: Seen, failure: str | None = None) -> None:
        """Makes the record of a request and ships it.

        `failure` tells why it has no whole answer.
        """
        notes: dict[str, str] = {}
        name, identity = default_name(seen), nobody(seen)
        # The request was served: it is recorded whatever becomes of these.
        try:
            name = _name_of(self.describe(seen))
            identity = _identity_of(self.identify(seen))
        except Exception as error:
            log.exception("a request cannot be described")
            notes["undescribed"] = type(error).__name__
        response = None
        if seen.status is not None:
            response = Response(seen.status, seen.answer_headers, b"", False)
        described = Described(
            event_source=self.event_source,
            event_name=_NO_NAME.sub("_", name)[:128],
            is_read_only=seen.method in _READ_METHODS,
            identity=identity,
            account=self.account,
            region=self.region,
            parameters=parameters_of(seen),
            error=_error_code(seen.status),
        )
        exchange = Exchange(
            event_id=new_event_id(),
            started_at=seen.started_at,
            completed_at=datetime.now(UTC),
            source_ip=seen.source_ip,
            request=Request(seen.method, seen.path, seen.query, seen.headers, b"", False),
            credential=None,
            call=NOTHING,
            response=response,
            failure=failure,
            bytes_in=seen.body_length,
            bytes_out=seen.answer_length,
            origin="hook",
            notes=notes,
            described=described,
        )
        self.shipper.ship(_ASSEMBLER.assemble(exchange).entry.record)


def _name_of(told: Any) -> str:
    """Returns what `describe` told.

    Raises:
        TypeError: it is no text, or an empty one.
    """
    if not isinstance(told, str) or not told:
        raise TypeError(f"describe must return a name, not {told!r}")
    return told


def _identity_of(told: Any) -> dict[str, Any]:
    """Returns what `identify` told.

    Raises:
        TypeError: it is no mapping.
    """
    if not isinstance(told, Mapping):
        raise TypeError(f"identify must return a userIdentity, not {told!r}")
    return dict(told)


def _error_code(status: int | None) -> str | None:
    if status is None:
        return "InternalServerError"
    if status < 400:
        return None
    try:
        return HTTPStatus(status).phrase.replace(" ", "").replace("-", "")
    except ValueError:
        return str(status)


def parameters_of(seen: Seen) -> dict[str, Any]:
    """Returns path, query and JSON or form body, secrets hidden."""
    shown: dict[str, Any] = {"method": seen.method, "path": within(seen.path)}
    if query := _of_pairs(parse_qsl(seen.query, keep_blank_values=True)):
        shown["query"] = query
    body, content_type = None, seen.headers.get("content-type", "")
    if len(seen.body) == seen.body_length:  # what is longer is not understood
        if "json" in content_type:
            body = _of_json(seen.body)
        elif "form-urlencoded" in content_type:
            text = seen.body.decode("utf-8", "replace")
            body = _of_pairs(parse_qsl(text, keep_blank_values=True))
    if body:
        shown["body"] = body
    elif seen.body_length:
        shown["bodyBytes"] = seen.body_length
    return shown


def _of_json(body: bytes) -> Any:
    try:
        return by_name(json.loads(body), str)
    except (ValueError, RecursionError):
        return None


def _of_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Returns names and values, secrets hidden; a name that comes again has a list of values."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    shown = by_name({n: v[0] if len(v) == 1 else v for n, v in values.items()}, str)
    return dict(shown)


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
        await _Serving(self._app, self._recording, seen, receive, send).run(scope)


class _Serving:
    """One request of an ASGI application."""

    def __init__(
        self, app: AsgiApp, recording: Recording, seen: Seen, receive: Receive, send: Send
    ) -> None:
        self._app, self._recording, self._seen = app, recording, seen
        self._receive, self._send = receive, send
        self._recorded = False

    async def run(self, scope: Scope) -> None:
        failure = "the application ended without a whole answer"
        try:
            await self._app(scope, self._received, self._sent)
        except Exception as error:
            failure = f"the application failed: {type(error).__name__}"
            if not self._recorded:
                self._seen.status = None
            raise
        except asyncio.CancelledError:
            failure = "the client went away, or the server stopped"
            raise
        finally:
            if not self._recorded:
                await asyncio.shield(self._record(failure))

    async def _record(self, failure: str | None = None) -> None:
        self._recorded = True
        await asyncio.to_thread(self._recording.record, self._seen, failure)

    async def _received(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen.take(message.get("body", b""))
        return message

    async def _sent(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._seen.status = message["status"]
            self._seen.answer_headers = _folded(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self._seen.answer_length += len(message.get("body", b""))
            if not message.get("more_body"):
                # The end of the answer leaves when the record is where it should be.
                await self._record()
        elif message["type"] == "http.response.pathsend":  # a whole body, by the file's name
            self._seen.answer_length += await asyncio.to_thread(_size_of, message["path"])
            await self._record()
        await self._send(message)


def _size_of(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


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
        seen, held = _seen_of(environ), b""

        def started(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            seen.status = int(status.split(" ", 1)[0])
            seen.answer_headers = {name.lower(): value for name, value in headers}
            write = start_response(status, headers, *rest)

            def written(piece: bytes) -> None:
                nonlocal held
                seen.answer_length += len(piece)
                if held:
                    write(held)
                held = piece

            return written

        failure: str | None = "the client went away"
        recorded = False
        try:
            answer = self._app(environ, started)
            try:
                # One piece behind: the last one leaves when the record is where it should be.
                for piece in answer:
                    seen.answer_length += len(piece)
                    if held:
                        yield held
                    held = piece
            finally:
                close = getattr(answer, "close", None)
                if close is not None:
                    close()
            recorded = True
            self._recording.record(seen)
            yield held
        except Exception as error:
            failure = f"the application failed: {type(error).__name__}"
            if not recorded:
                seen.status = None
            raise
        finally:
            if not recorded:
                self._recording.record(seen, failure)


class _Read:
    """A request's body that a WSGI application reads, and what was read of it."""

    def __init__(self, stream: Any, seen: Seen) -> None:
        self._stream = stream
        self._seen = seen

    def read(self, *size: int) -> bytes:
        """Returns the next bytes."""
        return self._taken(self._stream.read(*size))

    def readline(self, *size: int) -> bytes:
        """Returns the next line, or its start."""
        return self._taken(self._stream.readline(*size))

    def readlines(self, *hint: int) -> list[bytes]:
        """Returns the lines that are left."""
        return [self._taken(line) for line in self._stream.readlines(*hint)]

    def __iter__(self) -> Iterator[bytes]:
        """Yields the lines that are left."""
        return map(self._taken, self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _taken(self, piece: bytes) -> bytes:
        self._seen.take(piece)
        return piece


def _seen_of(environ: dict[str, Any]) -> Seen:
    """Reads a WSGI environment; of the body is seen what the application reads."""
    headers = {
        name[5:].replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    seen = Seen(
        method=environ["REQUEST_METHOD"],
        path=_text_of(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")),
        query=environ.get("QUERY_STRING", ""),
        headers=headers,
        source_ip=environ.get("REMOTE_ADDR", ""),
    )
    environ["wsgi.input"] = _Read(environ["wsgi.input"], seen)
    return seen


def _text_of(latin: str) -> str:
    """Returns a path of a WSGI environment, whose letters stand for bytes (PEP 3333).

    >>> _text_of("/Ã©")
    '/é'
    """
    return latin.encode("latin-1", "replace").decode("utf-8", "replace")


__all__ = ["AsgiRecorder", "Recording", "Seen", "WsgiRecorder", "default_name"]
