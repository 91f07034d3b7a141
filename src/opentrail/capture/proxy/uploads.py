"""Bytes after the head of a call: bodies to the upstream, and WebSockets.

Only the handshake of a WebSocket is a call, and recorded. Other protocols are refused: HTTP/2 over
an upgraded connection would carry calls past the recorder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from opentrail.capture.proxy.bodies import Flow
from opentrail.capture.proxy.call import Call
from opentrail.capture.proxy.head import LAST_CHUNK, UPGRADE, chunk, response_head
from opentrail.capture.proxy.refusals import unrecorded
from opentrail.capture.proxy.upstream import AnswerHead, UpstreamConnection
from opentrail.capture.record.exchange import Failure
from opentrail.wire.signature_errors import SignatureRefused
from opentrail.wire.signed_chunks import ChunkSigner, ChunksRefused

T = TypeVar("T")


def start_upload(call: Call, upstream: UpstreamConnection, chunks: ChunkSigner | None) -> None:
    """Starts the task `call.sending`, which passes on the body of a request as it arrives.

    Args:
        call: the call, whose head has been sent.
        upstream: receives the body.
        chunks: signs the chunks for the upstream, if it checks signatures over its own host name.
    """
    upload = _Upload(call, upstream, chunks)
    call.sending = asyncio.get_running_loop().create_task(upload.run())
    call.sending.add_done_callback(_consume_exception)


class _Upload:
    """A body passed on as it arrives."""

    def __init__(
        self, call: Call, upstream: UpstreamConnection, chunks: ChunkSigner | None
    ) -> None:
        self._call = call
        self._body = call.incoming.body
        self._upstream = upstream
        self._chunks = chunks
        #: The piece held until the next is known to be signed.
        self._held = b""

    async def run(self) -> None:
        """Passes the body on.

        Raises:
            SignatureRefused: it differs from the signed body.
            ConnectionError: it broke off.
        """
        call, upstream = self._call, self._upstream
        try:
            while piece := await self._next():
                if self._chunks is not None:
                    piece = self._signed(partial(self._chunks.resign, piece))
                if piece:
                    upstream.write(chunk(piece) if call.incoming.chunked else piece)
                await upstream.drain()
                call.client.extend_answer_deadline()
            if self._chunks is not None:
                self._signed(self._chunks.finish)
        except BaseException as error:
            if isinstance(error, SignatureRefused):
                call.refused = error
            upstream.close()  # it must not wait for the rest, which will not arrive
            raise
        if call.incoming.chunked:
            upstream.write(LAST_CHUNK)

    async def _next(self) -> bytes:
        """Returns the next piece; the last one only once the whole body is verified."""
        admission = self._call.admission
        if admission is not None and admission.is_done:
            admission = None
        while piece := await self._body.next():
            self._call.sent.add(piece)
            if admission is None:
                return piece
            await self._call.verify_piece(admission, piece)
            previous, self._held = self._held, piece
            if previous:
                return previous
        if admission is not None:
            admission.finish()
        previous, self._held = self._held, b""
        return previous

    def _signed(self, sign: Callable[[], T]) -> T:
        """Signs a chunk; breaks off a body whose chunks differ from the announced ones."""
        try:
            return sign()
        except ChunksRefused as error:
            self._body.break_off(Failure("BadRequest", str(error)))
            raise ConnectionError(str(error)) from error


def _consume_exception(task: asyncio.Task[None]) -> None:
    """Keeps asyncio from logging the error of a broken body: the record has it."""
    if not task.cancelled():
        task.exception()


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
