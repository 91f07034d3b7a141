"""Numbered questions and answers between two processes of one server, over a local socket.

A frame is `!IBI` (length of the rest, kind, number), then the payload. A question's payload is the
name of what is asked, a line feed, and a body. Both sides may ask at any time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from enum import IntEnum
from typing import Any

import orjson

log = logging.getLogger(__name__)

_HEAD = struct.Struct("!IBI")
#: Longest frame; a batch of records is cut long before this.
FRAME_BYTES = 128 * 1024 * 1024

Answering = Callable[[str, bytes], Awaitable[bytes]]


def with_records(described: Sequence[Sequence[Any]], records: Sequence[bytes]) -> bytes:
    """Returns one body: a JSON line that describes each record, then the records themselves."""
    sized = [(*one, len(record)) for one, record in zip(described, records, strict=True)]
    return b"".join((orjson.dumps(sized), b"\n", *records))


def records_in(body: bytes) -> Iterator[tuple[list[Any], bytes]]:
    """Yields each description with its record; the inverse of `with_records`."""
    start = body.index(b"\n") + 1
    for *one, size in orjson.loads(body[: start - 1]):
        yield one, body[start : start + size]
        start += size


class LinkError(ConnectionError):
    """The other side is gone, or could not answer."""


class _Kind(IntEnum):
    QUESTION = 0
    ANSWER = 1
    FAILURE = 2
    #: Nobody waits for the answer to a question any more.
    WITHDRAWAL = 3
    #: Answered by the link itself.
    PING = 4


class Link(asyncio.Protocol):
    """One end. `answering` answers what the other side asks."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._number = 0
        #: What the other side asked and is not answered yet.
        self._tasks: dict[int, asyncio.Task[None]] = {}
        #: Done once the other side is gone.
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def over(cls, end: socket.socket, answering: Answering) -> Link:
        """Returns the link over one end of a stream socket pair."""
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: cls(answering), sock=end)
        return link

    async def ask(self, name: str, body: bytes = b"", withdraws: bool = False) -> bytes:
        """Returns the other side's answer.

        Args:
            name: what is asked.
            body: the rest of the question.
            withdraws: if this is cancelled, so is the other side's work on the answer.

        Raises:
            LinkError: there is none, whether or not the question had its effect.
        """
        return await self._asking(_Kind.QUESTION, name.encode() + b"\n", body, withdraws=withdraws)

    async def _asking(self, kind: _Kind, *parts: bytes, withdraws: bool = False) -> bytes:
        if self._transport is None or self.gone.done():
            raise LinkError("the other process is gone")
        self._number = (self._number + 1) & 0xFFFFFFFF
        number = self._number
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._send(kind, number, *parts)
        try:
            return await answer
        except asyncio.CancelledError:
            if withdraws:
                self._send(_Kind.WITHDRAWAL, number)
            raise
        finally:
            self._asked.pop(number, None)

    async def ping(self) -> None:
        """Returns once the other process has answered, whatever else it is at.

        Raises:
            LinkError: it is gone.
        """
        await self._asking(_Kind.PING)

    def close(self) -> None:
        """Ends the link; what is written still arrives."""
        if self._transport is not None:
            self._transport.close()

    def _send(self, kind: _Kind, number: int, *parts: bytes) -> None:
        if self._transport is not None and not self.gone.done():
            length = sum(len(part) for part in parts)
            head = _HEAD.pack(length, kind, number)
            self._transport.write(b"".join((head, *parts)))

    async def _answer(self, number: int, payload: bytes) -> None:
        name, _, body = payload.partition(b"\n")
        try:
            answer = await self.answering(name.decode(), body)
        except Exception as error:  # the asker is told, whatever it was
            log.exception("a question could not be answered", extra={"question": name.decode()})
            self._send(_Kind.FAILURE, number, f"{type(error).__name__}: {error}".encode())
            return
        if len(answer) > FRAME_BYTES:
            self._send(_Kind.FAILURE, number, f"the answer has {len(answer)} bytes".encode())
            return
        self._send(_Kind.ANSWER, number, answer)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Takes frames as they are complete."""
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _HEAD.size:
            length, kind, number = _HEAD.unpack_from(received, start)
            if length > FRAME_BYTES:
                log.error("a frame is too long", extra={"bytes": length})
                self.close()
                return
            end = start + _HEAD.size + length
            if len(received) < end:
                break
            payload = bytes(received[start + _HEAD.size : end])
            start = end
            self._take(kind, number, payload)
        if start:
            del received[:start]

    def _take(self, kind: int, number: int, payload: bytes) -> None:
        if kind == _Kind.QUESTION:
            task = asyncio.get_running_loop().create_task(self._answer(number, payload))
            self._tasks[number] = task
            task.add_done_callback(lambda _: self._tasks.pop(number))
            return
        if kind == _Kind.PING:
            self._send(_Kind.ANSWER, number)
            return
        if kind == _Kind.WITHDRAWAL:
            if (withdrawn := self._tasks.get(number)) is not None:
                withdrawn.cancel()
            return
        asked = self._asked.get(number)
        if asked is None or asked.done():
            return
        if kind == _Kind.ANSWER:
            asked.set_result(payload)
        else:
            asked.set_exception(LinkError(payload.decode()))

    def connection_lost(self, error: Exception | None) -> None:
        """Tells all who wait."""
        del error
        if not self.gone.done():
            self.gone.set_result(None)
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(LinkError("the other process is gone"))
