"""Calls of our own API between two processes."""

from __future__ import annotations

from typing import Any

from opentrail.adapters.ipc.link import IpcRequest
from opentrail.app.api_proxy import ApiProxy, CallRecorded, ProxiedCalls, ProxyCall
from opentrail.capture.proxy.endpoint import SCOPE_KEY, ApiCall
from opentrail.core.identity import Identity
from opentrail.wire.message import Message, Scope
from tests.factories import an_identity
from tests.fakes import asynchronous

KNOWN = an_identity()
#: A stand-in for the recorder process.
PROCESS = object()


def resolve(key: str) -> Identity:
    assert key == KNOWN.access_key_id
    return KNOWN


class App:
    """Echoes the request; keeps `when_recorded`."""

    def __init__(self, awaits_record: bool = False) -> None:
        self.awaits_record = awaits_record
        self.scope: Scope = {}
        self.body = b""
        self.positions: list[int] = []

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        async def settle(position: int) -> None:
            self.positions.append(position)

        self.scope = scope
        self.body = (await receive())["body"]
        if self.awaits_record:
            scope[SCOPE_KEY].when_recorded.append(settle)
        headers = [(b"x-odd", b"\xe9\n"[:1]), (b"content-type", b"application/json")]
        start: Message = {"type": "http.response.start", "status": 418, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": b"line\n\n\xff"})


class ServerLink:
    """A link of a recorder process to the server, without processes."""

    def __init__(self, server: ProxiedCalls) -> None:
        self._server = server

    async def ask(self, request: IpcRequest[Any]) -> Any:
        if isinstance(request, ProxyCall):
            return await self._server.answer(request, PROCESS)
        assert isinstance(request, CallRecorded)
        return await self._server.run_actions(request)


def joined(app: App) -> tuple[ApiProxy, ProxiedCalls]:
    """Returns both sides, without processes between them."""
    server = ProxiedCalls(app, resolve, lambda: 70)
    return ApiProxy(ServerLink(server)), server  # type: ignore[arg-type]


def own_call(identity: Identity | None = KNOWN) -> ApiCall:
    return ApiCall("an-event-id", identity, "210987654321", "eu-west-1", "10.0.0.7", "a flaw")


@asynchronous
async def test_request_and_answer_pass_unchanged() -> None:
    app = App()
    recorder, _ = joined(app)
    headers = [(b"X-Amz-Target", b"a.B"), (b"x-bytes", b"\xff")]
    answer = await recorder.ask(b"POST", b"/p%20q?a=b", headers, b"{\n}\xff", own_call())
    assert (answer.status, answer.body) == (418, b"line\n\n\xff")
    assert answer.headers == [(b"x-odd", b"\xe9"), (b"content-type", b"application/json")]
    assert app.body == b"{\n}\xff"
    assert (app.scope["method"], app.scope["raw_path"]) == ("POST", b"/p%20q")
    assert app.scope["query_string"] == b"a=b"
    assert app.scope["headers"] == [(b"x-amz-target", b"a.B"), (b"x-bytes", b"\xff")]


@asynchronous
async def test_the_server_learns_who_called_from_where() -> None:
    for identity in (KNOWN, None):
        app = App()
        recorder, _ = joined(app)
        await recorder.ask(b"POST", b"/", [], b"", own_call(identity))
        assert app.scope[SCOPE_KEY] == own_call(identity)


@asynchronous
async def test_follow_up_runs_once_after_the_record() -> None:
    app = App(awaits_record=True)
    recorder, _ = joined(app)
    own = own_call()
    await recorder.ask(b"POST", b"/", [], b"", own)
    assert app.positions == []
    (recorded,) = own.when_recorded
    await recorded(41)
    await recorded(42)
    assert app.positions == [41]


@asynchronous
async def test_follow_up_of_lost_record_runs_last() -> None:
    """A recorder process knows only the positions of its records, at first no position."""
    app = App(awaits_record=True)
    recorder, _ = joined(app)
    own = own_call()
    await recorder.ask(b"POST", b"/", [], b"", own)
    own.is_lost = True
    await own.when_recorded[0](0)
    assert app.positions == [70]


@asynchronous
async def test_reads_have_no_follow_up_work() -> None:
    recorder, _ = joined(App())
    own = own_call()
    await recorder.ask(b"POST", b"/", [], b"", own)
    assert own.when_recorded == []


@asynchronous
async def test_open_work_of_ended_process_is_closed_once() -> None:
    app = App(awaits_record=True)
    recorder, server = joined(app)
    own = own_call()
    await recorder.ask(b"POST", b"/", [], b"", own)
    await server.complete_orphaned(object(), 6)
    assert app.positions == [], "another process has ended"
    await server.complete_orphaned(PROCESS, 7)
    await server.complete_orphaned(PROCESS, 8)
    await own.when_recorded[0](9)
    assert app.positions == [7]
