"""Bodies that had not come with their heads, on their way to the upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from opentrail.capture.proxy.call import Call
from opentrail.capture.proxy.head import LAST_CHUNK, chunk
from opentrail.capture.proxy.upstream import UpstreamConnection
from opentrail.capture.record.exchange import Failure
from opentrail.wire.signature_errors import SignatureRefused
from opentrail.wire.signed_chunks import ChunkSigner, ChunksRefused

T = TypeVar("T")


def start_upload(call: Call, upstream: UpstreamConnection, chunks: ChunkSigner | None) -> None:
    """Starts the task `call.sending`, which passes on the body of a request as it comes.

    Args:
        call: whose head has been sent.
        upstream: where the body goes.
        chunks: signs the chunks for the upstream, if it checks signatures over its own host name.
    """
    upload = _Upload(call, upstream, chunks)
    call.sending = asyncio.get_running_loop().create_task(upload.run())
    call.sending.add_done_callback(_note_exception)


class _Upload:
    """A body that is passed on as it comes."""

    def __init__(
        self, call: Call, upstream: UpstreamConnection, chunks: ChunkSigner | None
    ) -> None:
        self._call = call
        self._body = call.incoming.body
        self._upstream = upstream
        self._chunks = chunks
        #: The piece that is passed on only once the next is known to be signed.
        self._held = b""

    async def run(self) -> None:
        """Passes the body on.

        Raises:
            SignatureRefused: it is not the body that was signed.
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
            upstream.close()  # it must not wait for the rest, which will not come
            raise
        if call.incoming.chunked:
            upstream.write(LAST_CHUNK)

    async def _next(self) -> bytes:
        """Returns the next piece; the last one only once all of the body is verified."""
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
        """Signs a chunk; a body that is not made of chunks as announced breaks off."""
        try:
            return sign()
        except ChunksRefused as error:
            self._body.break_off(Failure("BadRequest", str(error)))
            raise ConnectionError(str(error)) from error


def _note_exception(task: asyncio.Task[None]) -> None:
    """Keeps asyncio from logging the error of a body that broke off: the record has it."""
    if not task.cancelled():
        task.exception()
