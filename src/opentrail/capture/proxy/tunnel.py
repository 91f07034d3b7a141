"""A connection that has become a WebSocket: bytes pass both ways until one side ends it.

Only the handshake is a call, and recorded. No other protocol is switched to: HTTP/2 over an
upgraded connection would carry calls past the recorder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from opentrail.capture.proxy.bodies import Flow
from opentrail.capture.proxy.call import Call
from opentrail.capture.proxy.head import UPGRADE, response_head
from opentrail.capture.proxy.refusals import unrecorded
from opentrail.capture.proxy.upstream import AnswerHead, UpstreamConnection


async def tunnel(call: Call, upstream: UpstreamConnection, answer: AnswerHead) -> None:
    """Records the handshake, then passes bytes both ways until one side ends."""
    client = call.client
    if not call.endpoint.recorder.refuse:
        call.record_later(answer)
    elif reason := await call.record(lambda: call.answered(answer)):
        call.write_refusal(unrecorded(reason))
        return
    client.write(response_head(answer.status, answer.reason, answer.headers, UPGRADE))

    async def to_upstream(piece: bytes) -> None:
        upstream.write(piece)
        await upstream.drain()

    async def to_client(piece: bytes) -> None:
        client.write(piece)
        await client.drain()

    client.tunnelling = True
    if client.raw is not None and upstream.raw is not None:
        await join(client.raw, upstream.raw, to_upstream, to_client)


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
