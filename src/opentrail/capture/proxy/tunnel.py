"""A connection that has become a WebSocket: bytes pass both ways until one side ends it.

Only the handshake is a call, and recorded. No other protocol is switched to: HTTP/2 over an
upgraded connection would carry calls past the recorder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from opentrail.capture.proxy.bodies import Flow
from opentrail.capture.proxy.head import Head

WEBSOCKET = b"websocket"


def wants_websocket(head: Head) -> bool:
    """Returns whether a request is a WebSocket handshake (RFC 6455, 4.1)."""
    if head.method != b"GET" or head.has_body:
        return False
    upgrade = (head.get(b"upgrade") or b"").strip().lower()
    tokens = (head.get(b"connection") or b"").lower().split(b",")
    asked = b"upgrade" in (token.strip() for token in tokens)
    return asked and upgrade == WEBSOCKET and head.version == "1.1"


async def join(
    to_upstream: Flow,
    to_client: Flow,
    write_upstream: Callable[[bytes], Awaitable[None]],
    write_client: Callable[[bytes], Awaitable[None]],
) -> None:
    """Passes bytes both ways; returns when one side has ended."""
    ways = (
        asyncio.ensure_future(_pump(to_upstream, write_upstream)),
        asyncio.ensure_future(_pump(to_client, write_client)),
    )
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pump(flow: Flow, write: Callable[[bytes], Awaitable[None]]) -> None:
    try:
        while piece := await flow.next():
            await write(piece)
    except ConnectionError:
        return
