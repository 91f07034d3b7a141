"""Calls of opentrail's own API that reach a recorder process: answered by the server's process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson

from opentrail.capture.proxy.asgi import AsgiApp, Headers, OwnAnswer, OwnCall, ask
from opentrail.core.identity import Identity

#: Asks the other process something, by name.
Asking = Callable[[str, bytes], Awaitable[bytes]]
OWN_CALL, RECORDED = "own-call", "recorded"


class LinkedOwnCalls:
    """In a recorder process: has the server answer."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def ask(
        self, method: bytes, target: bytes, headers: Headers, body: bytes, own: OwnCall
    ) -> OwnAnswer:
        """Returns the server's answer; `own` learns what must be done once it is recorded."""
        described = {
            "method": method.decode("latin-1"),
            "target": target.decode("latin-1"),
            "headers": _texts(headers),
            "event_id": own.event_id,
            "key": own.identity.access_key_id if own.identity else None,
            "account": own.account,
            "region": own.region,
            "source_ip": own.source_ip,
            "flaw": own.flaw,
        }
        answer = await self._asking(OWN_CALL, orjson.dumps(described) + b"\n" + body)
        head, _, content = answer.partition(b"\n")
        told = orjson.loads(head)
        if told["awaits_record"]:

            async def recorded(position: int) -> None:
                await self._asking(RECORDED, orjson.dumps([own.event_id, position]))

            own.when_recorded.append(recorded)
        return OwnAnswer(told["status"], _bytes(told["headers"]), content)


class OwnCallsForRecorders:
    """In the server: answers what recorder processes pass on."""

    def __init__(self, app: AsgiApp, resolve: Callable[[str], Identity]) -> None:
        self._app = app
        self._resolve = resolve
        #: Calls whose record is awaited, and the process that makes it.
        self._waiting: dict[str, tuple[object, OwnCall]] = {}

    async def answer(self, packed: bytes, owner: object) -> bytes:
        """Runs the application for one call that `owner` passed on."""
        head, _, body = packed.partition(b"\n")
        told = orjson.loads(head)
        own = OwnCall(
            told["event_id"],
            self._resolve(told["key"]) if told["key"] else None,
            told["account"],
            told["region"],
            told["source_ip"],
            told["flaw"],
        )
        method, target = told["method"].encode("latin-1"), told["target"].encode("latin-1")
        answer = await ask(self._app, method, target, _bytes(told["headers"]), body, own)
        if own.when_recorded:
            self._waiting[own.event_id] = (owner, own)
        described = {
            "status": answer.status,
            "headers": _texts(answer.headers),
            "awaits_record": bool(own.when_recorded),
        }
        return orjson.dumps(described) + b"\n" + answer.body

    async def recorded(self, packed: bytes) -> bytes:
        """Does what had to wait for the call's record."""
        event_id, position = orjson.loads(packed)
        await self._settle(event_id, position)
        return b""

    async def orphaned(self, owner: object, position: int) -> None:
        """Settles what a process that has ended left open: its effect stands, from now on."""
        left = [event_id for event_id, (by, _) in self._waiting.items() if by is owner]
        for event_id in left:
            await self._settle(event_id, position)

    async def _settle(self, event_id: str, position: int) -> None:
        _, own = self._waiting.pop(event_id, (None, None))
        for action in own.when_recorded if own else ():
            await action(position)


def _texts(headers: Headers) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _bytes(headers: list[tuple[str, str]]) -> Headers:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
