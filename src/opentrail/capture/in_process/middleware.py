"""Middleware for ASGI and WSGI applications: their requests, and the records of these."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from opentrail.capture.in_process.shipping import Shipper
from opentrail.capture.record.assemble import Assembler
from opentrail.capture.record.exchange import GONE, INCOMPLETE, Described, Exchange, Failure
from opentrail.core.errors import UsageError
from opentrail.core.event import Json, is_account, is_region, new_event_id
from opentrail.core.identity import DEFAULT_ACCOUNT, unknown
from opentrail.core.secrets.embedded import by_name, redact, search_limit
from opentrail.core.trail import GLOBAL_REGION
from opentrail.wire.message import AsgiApp, Message, Request, Response, Scope
from opentrail.wire.routing import NOTHING

log = logging.getLogger(__name__)

_ASSEMBLER = Assembler(lambda key: unknown(DEFAULT_ACCOUNT, key))
#: Maximum bytes of a request's body to read for parameters.
_BODY_BYTES = 1024 * 1024
_READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_NAME = re.compile(r"[^A-Za-z0-9_]")
_SOURCE = re.compile(r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?\.[a-z0-9-]+\Z")


@dataclass(slots=True)
class Seen:
    """A request and its answer as middleware sees them.

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
        """Adds the next piece of the request's body."""
        self.body_length += len(piece)
        room = _BODY_BYTES - len(self.body)
        if room > 0 and piece:
            self.body += piece[:room]


def default_name(seen: Seen) -> str:
    """Returns an event name from method and path, without parts that look like ids.

    >>> default_name(Seen("POST", "/orders/17/items"))
    'PostOrdersItems'
    """
    words = [w for w in re.split(r"[^A-Za-z0-9]+", seen.path) if w and not re.search(r"\d", w)]
    return seen.method.capitalize() + "".join(w[:1].upper() + w[1:] for w in words[:8])


def unknown_caller(_seen: Seen) -> Json:
    """Returns the identity of an unknown caller."""
    return {"type": "Unknown", "accountId": DEFAULT_ACCOUNT}


@dataclass(frozen=True, slots=True)
class Recording:
    """How requests become records.

    Args:
        event_source: the application's domain, such as `orders.example.com`.
        shipper: sends the records.
        describe: returns the event name of a request.
        identify: returns the `userIdentity` of a request.
        account: the account of the records.
        region: the Region of the records.
    """

    event_source: str
    shipper: Shipper
    describe: Callable[[Seen], str] = default_name
    identify: Callable[[Seen], Json] = unknown_caller
    account: str = DEFAULT_ACCOUNT
    region: str = GLOBAL_REGION

    def __post_init__(self) -> None:
        if not _SOURCE.match(self.event_source) or self.event_source.endswith(".amazonaws.com"):
            raise UsageError(
                f"event_source must be your own domain, like orders.example.com, "
                f"not {self.event_source!r}"
            )
        if not is_region(self.region):
            raise UsageError(f"region must be like us-east-1, not {self.region!r}")
        if not is_account(self.account):
            raise UsageError(f"account must be 12 digits, not {self.account!r}")

    def record(self, seen: Seen, failure: Failure | None = None) -> None:
        """Makes the record of a request and ships it; `failure` is why the request broke off."""
        notes: dict[str, str] = {}
        name, identity = default_name(seen), unknown_caller(seen)
        # Record the served request even if these functions fail.
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
            route=NOTHING,
            response=response,
            failure=failure,
            bytes_in=seen.body_length,
            bytes_out=seen.answer_length,
            origin="hook",
            notes=notes,
            described=described,
        )
        self.shipper.ship(_ASSEMBLER.assemble(exchange).entry.record)


def failed(error: Exception) -> Failure:
    """Returns the failure of a call whose application raised an exception."""
    return Failure("InternalServerError", f"the application failed: {type(error).__name__}")


def _name_of(described: Any) -> str:
    if not isinstance(described, str) or not described:
        raise TypeError(f"describe must return a name, not {described!r}")
    return described


def _identity_of(identified: Any) -> Json:
    if not isinstance(identified, Mapping):
        raise TypeError(f"identify must return a userIdentity, not {identified!r}")
    return dict(identified)


def _error_code(status: int | None) -> str | None:
    if status is None:
        return "InternalServerError"
    if status < 400:
        return None
    try:
        return HTTPStatus(status).phrase.replace(" ", "").replace("-", "")
    except ValueError:
        return str(status)


@search_limit()
def parameters_of(seen: Seen) -> Json:
    """Returns path, query and JSON or form body, secrets hidden."""
    parameters: Json = {"method": seen.method, "path": redact(seen.path)}
    if query := _of_pairs(parse_qsl(seen.query, keep_blank_values=True)):
        parameters["query"] = query
    body, content_type = None, seen.headers.get("content-type", "")
    if len(seen.body) == seen.body_length:  # a cut body cannot be parsed
        if "json" in content_type:
            body = _of_json(seen.body)
        elif "form-urlencoded" in content_type:
            text = seen.body.decode("utf-8", "replace")
            body = _of_pairs(parse_qsl(text, keep_blank_values=True))
    if body:
        parameters["body"] = body
    elif seen.body_length:
        parameters["bodyBytes"] = seen.body_length
    return parameters


def _of_json(body: bytes) -> Any:
    try:
        return by_name(json.loads(body), str)
    except (ValueError, RecursionError):
        return None


def _of_pairs(pairs: Iterable[tuple[str, str]]) -> Json:
    """Returns names and values, secrets hidden; a repeated name has a list of values."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    redacted = by_name({n: v[0] if len(v) == 1 else v for n, v in values.items()}, str)
    return dict(redacted)


Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiRecorder:
    """Wraps an ASGI application; its requests are recorded when their answers are complete."""

    def __init__(self, app: AsgiApp, event_source: str, shipper: Shipper, **options: Any) -> None:
        self._app = app
        self._recording = Recording(event_source, shipper, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; passes other events on."""
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
                # Sends the end of the answer once the record is stored.
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

    def __call__(self, environ: Json, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answers one request."""
        seen, pending = _seen_of(environ), b""
        input_stream = environ["wsgi.input"] = _Read(
            environ["wsgi.input"], seen, environ.get("CONTENT_LENGTH", "")
        )

        def start_answer(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            seen.status = int(status.split(" ", 1)[0])
            seen.answer_headers = {name.lower(): value for name, value in headers}
            write = start_response(status, headers, *rest)

            def write_piece(piece: bytes) -> None:
                nonlocal pending
                seen.answer_length += len(piece)
                if pending:
                    write(pending)
                pending = piece

            return write_piece

        failure: Failure | None = GONE
        recorded = False
        try:
            answer = self._app(environ, start_answer)
            try:
                # One piece behind: the last piece leaves once the record is stored.
                for piece in answer:
                    seen.answer_length += len(piece)
                    if pending:
                        yield pending
                    pending = piece
            finally:
                close = getattr(answer, "close", None)
                if close is not None:
                    close()
            recorded = True
            self._recording.record(seen, input_stream.failure)
            yield pending
        except Exception as error:
            failure = failed(error)
            if not recorded:
                seen.status = None
            raise
        finally:
            if not recorded:
                self._recording.record(seen, input_stream.failure or failure)


class _Read:
    """A request body that records the bytes read by a WSGI application."""

    def __init__(self, stream: Any, seen: Seen, announced: str) -> None:
        self._stream = stream
        self._seen = seen
        self._announced = int(announced) if announced.isdigit() else 0
        self._at_end = False

    @property
    def failure(self) -> Failure | None:
        """The failure of a request whose body ended before its announced length."""
        is_short = self._seen.body_length < self._announced
        return INCOMPLETE if self._at_end and is_short else None

    def read(self, *size: int) -> bytes:
        """Returns the next bytes; a short read is the last one (PEP 3333)."""
        piece: bytes = self._stream.read(*size)
        size_wanted = size[0] if size else -1
        return self._record_piece(piece, size_wanted < 0 or len(piece) < size_wanted)

    def readline(self, *size: int) -> bytes:
        """Returns the next line, or its start."""
        line: bytes = self._stream.readline(*size)
        return self._record_piece(line, not line and size != (0,))

    def readlines(self, *hint: int) -> list[bytes]:
        """Returns the remaining lines."""
        lines = [self._record_piece(line, False) for line in self._stream.readlines(*hint)]
        self._at_end = self._at_end or not hint or not lines
        return lines

    def __iter__(self) -> Iterator[bytes]:
        """Yields the remaining lines."""
        for line in self._stream:
            yield self._record_piece(line, False)
        self._at_end = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _record_piece(self, piece: bytes, is_last: bool) -> bytes:
        self._at_end = self._at_end or is_last
        self._seen.take(piece)
        return piece


def _seen_of(environ: Json) -> Seen:
    """Returns a request from a WSGI environment; records its body as the application reads it."""
    headers = {
        name[5:].replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    return Seen(
        method=environ["REQUEST_METHOD"],
        path=_text_of(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")),
        query=environ.get("QUERY_STRING", ""),
        headers=headers,
        source_ip=environ.get("REMOTE_ADDR", ""),
    )


def _text_of(latin: str) -> str:
    """Returns a path of a WSGI environment, whose characters are bytes (PEP 3333).

    >>> _text_of("/Ã©")
    '/é'
    """
    return latin.encode("latin-1", "replace").decode("utf-8", "replace")
