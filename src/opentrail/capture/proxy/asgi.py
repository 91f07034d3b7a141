"""Calls of opentrail's API: runs an ASGI application for one request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from opentrail.core.identity import Identity
from opentrail.wire.message import AsgiApp, Message, Scope

Headers = list[tuple[bytes, bytes]]
#: Where the application finds the `ApiCall` in its scope.
SCOPE_KEY = "opentrail.call"


@dataclass(slots=True)
class ApiCall:
    """What the application needs of a call beside its HTTP request.

    `flaw` says why the credential's scope is invalid. `when_recorded` are run with the record's
    position before the answer is sent.
    """

    event_id: str
    identity: Identity | None
    account: str
    region: str
    source_ip: str
    flaw: str | None = None
    #: The verified signature, and until when it is valid; None while signatures are not verified.
    signature: str | None = None
    valid_until: datetime | None = None
    when_recorded: list[Callable[[int], Awaitable[None]]] = field(default_factory=list)
    #: Whether the call came over TLS.
    secure: bool = False
    #: Whether its record was lost; `when_recorded` then get a position that replaces its own.
    is_lost: bool = False


@dataclass(slots=True)
class ApiAnswer:
    status: int
    headers: Headers
    body: bytes


#: Answers a request of opentrail's API.
AnswerApiCall = Callable[[bytes, bytes, Headers, bytes, ApiCall], Awaitable[ApiAnswer]]


async def ask(
    app: AsgiApp, method: bytes, target: bytes, headers: Headers, body: bytes, api_call: ApiCall
) -> ApiAnswer:
    path, _, query = target.partition(b"?")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method.decode("latin-1"),
        "scheme": "http",
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in headers],
        "client": (api_call.source_ip, 0),
        "server": None,
        "state": {},
        SCOPE_KEY: api_call,
    }
    answer = ApiAnswer(500, [], b"")
    is_body_read = False

    async def receive() -> Message:
        nonlocal is_body_read
        if is_body_read:
            return {"type": "http.disconnect"}
        is_body_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = [(bytes(n), bytes(v)) for n, v in message.get("headers", [])]
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")

    await app(scope, receive, send)
    return answer
