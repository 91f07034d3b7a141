"""Calls of opentrail's own API that reach a recorder process: the server's process answers them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from opentrail.adapters.ipc.link import IpcRequest, Link
from opentrail.capture.proxy.endpoint import ApiAnswer, ApiCall, Headers, ask
from opentrail.core.identity import Identity
from opentrail.wire.message import AsgiApp


class ProxiedAnswer(msgspec.Struct, frozen=True):
    """The answer to a call."""

    status: int
    headers: Headers
    body: bytes
    #: Whether the server waits for `CallRecorded`.
    awaits_record: bool


class ProxyCall(IpcRequest[ProxiedAnswer], frozen=True):
    """Answer a call."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes
    event_id: str
    access_key_id: str | None
    account: str
    region: str
    source_ip: str
    flaw: str | None
    signature: str | None
    valid_until: datetime | None
    secure: bool


class CallRecorded(IpcRequest[None], frozen=True):
    """The record of a call is durable at a position, or is lost."""

    event_id: str
    position: int | None


class ApiProxy:
    """In a recorder process: passes calls to the server."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def ask(
        self, method: bytes, target: bytes, headers: Headers, body: bytes, own: ApiCall
    ) -> ApiAnswer:
        """Returns the server's answer; adds to `own` the actions after the call is recorded."""
        key = own.identity.access_key_id if own.identity else None
        call = (own.event_id, key, own.account, own.region, own.source_ip, own.flaw)
        context = (*call, own.signature, own.valid_until, own.secure)
        answer = await self._link.ask(ProxyCall(method, target, headers, body, *context))
        if answer.awaits_record:

            async def recorded(position: int) -> None:
                known = None if own.is_lost else position
                await self._link.ask(CallRecorded(own.event_id, known))

            own.when_recorded.append(recorded)
        return ApiAnswer(answer.status, answer.headers, answer.body)


class ProxiedCalls:
    """In the server: answers the calls passed on by recorder processes."""

    def __init__(
        self, app: AsgiApp, resolve: Callable[[str], Identity], head: Callable[[], int]
    ) -> None:
        self._app = app
        self._head = head
        self._resolve = resolve
        #: Calls whose record is pending, and the recorder process that makes it.
        self._waiting: dict[str, tuple[object, ApiCall]] = {}

    async def answer(self, call: ProxyCall, owner: object) -> ProxiedAnswer:
        """Runs the application for a call that `owner` passed on."""
        own = ApiCall(
            call.event_id,
            self._resolve(call.access_key_id) if call.access_key_id else None,
            call.account,
            call.region,
            call.source_ip,
            call.flaw,
            call.signature,
            call.valid_until,
            secure=call.secure,
        )
        answer = await ask(self._app, call.method, call.target, call.headers, call.body, own)
        if own.when_recorded:
            self._waiting[own.event_id] = (owner, own)
        return ProxiedAnswer(answer.status, answer.headers, answer.body, bool(own.when_recorded))

    async def run_actions(self, message: CallRecorded) -> None:
        """Runs the actions that waited for the call's record.

        If it is lost, their effect starts after the last recorded event: a recorder process knows
        only the positions of its records.
        """
        position = self._head() if message.position is None else message.position
        await self._run_actions(message.event_id, position)

    async def complete_orphaned(self, owner: object, position: int) -> None:
        """Completes the calls of a process that has ended; their effect starts at `position`."""
        event_ids = [event_id for event_id, (by, _) in self._waiting.items() if by is owner]
        for event_id in event_ids:
            await self._run_actions(event_id, position)

    async def _run_actions(self, event_id: str, position: int) -> None:
        _, own = self._waiting.pop(event_id, (None, None))
        for action in own.when_recorded if own else ():
            await action(position)
