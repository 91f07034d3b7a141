"""Requests and responses between two processes of one server, over a local socket.

A frame is `!IBI` (payload length, kind, request number) and a msgpack payload. Either side may send
any number of concurrent requests.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from enum import IntEnum
from functools import cache, wraps
from pathlib import PurePath
from typing import (
    Any,
    ClassVar,
    Generic,
    Protocol,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_type_hints,
)

import msgspec
from msgspec import structs

from opentrail.core.batching import batches
from opentrail.core.errors import OpentrailError
from opentrail.core.event import Entry

log = logging.getLogger(__name__)

T = TypeVar("T")

_HEADER = struct.Struct("!IBI")
#: Maximum payload, in bytes.
MAX_FRAME_BYTES = 128 * 1024 * 1024


def _encode_other(value: Any) -> str:
    """Encodes types unknown to msgpack."""
    if isinstance(value, PurePath):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} cannot be sent")


def _decode_other(kind: type, value: Any) -> Any:
    """The inverse of `_encode_other`."""
    if issubclass(kind, PurePath):
        return kind(value)
    raise NotImplementedError(f"{kind.__name__} cannot be received")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_other)


class IpcRequest(msgspec.Struct, Generic[T], frozen=True, tag=True):
    """A request; `T` is the type of its response."""

    #: Whether cancelling the wait for the response also cancels the work.
    is_cancellable: ClassVar[bool] = False
    #: The type of the response, if `T` is not named.
    response: ClassVar[Any] = None


#: Handlers by the class of request.
Handlers: TypeAlias = Mapping[type[IpcRequest[Any]], Callable[[Any], Awaitable[Any]]]


class LinkError(ConnectionError):
    """The other process has ended, or could not handle the request."""


class _Kind(IntEnum):
    REQUEST = 0
    RESPONSE = 1
    FAILURE = 2
    CANCEL = 3
    PING = 4


class Link(asyncio.Protocol):
    """One end of a connection to another process."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        # A subscript, because `|` takes no tuple of types.
        self._requests = msgspec.msgpack.Decoder(
            Union[tuple(handlers) or (None,)],  # noqa: UP007
            dec_hook=_decode_other,
        )
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._number = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._handling: dict[int, asyncio.Task[None]] = {}
        #: Done once the other process has ended.
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def over(cls, end: socket.socket, handlers: Handlers) -> Link:
        """Returns a link over one end of a stream socket pair."""
        end.setblocking(False)
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: cls(handlers), sock=end)
        return link

    async def ask(self, request: IpcRequest[T]) -> T:
        """Sends a request and returns its response.

        Raises:
            LinkError: there is no response. The request may have taken effect.
        """
        payload = await self._exchange(
            _Kind.REQUEST, _encoder.encode(request), request.is_cancellable
        )
        response: T = _response_decoder(type(request)).decode(payload)
        return response

    async def ping(self) -> None:
        """Returns once the other process has answered, even if it is busy.

        Raises:
            LinkError: it has ended.
        """
        await self._exchange(_Kind.PING, b"")

    def close(self) -> None:
        """Closes the link; written messages still arrive."""
        if self._transport is not None:
            self._transport.close()

    async def _exchange(self, kind: _Kind, payload: bytes, is_cancellable: bool = False) -> bytes:
        if self._transport is None or self.gone.done():
            raise LinkError("the other process is gone")
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = response
        self._send(kind, number, payload)
        try:
            return await response
        except asyncio.CancelledError:
            if is_cancellable:
                self._send(_Kind.CANCEL, number)
            raise
        finally:
            self._waiting.pop(number, None)

    def _send(self, kind: _Kind, number: int, payload: bytes = b"") -> None:
        if self._transport is not None and not self.gone.done():
            self._transport.write(_HEADER.pack(len(payload), kind, number) + payload)

    async def _handle(self, number: int, payload: bytes) -> None:
        try:
            request = self._requests.decode(payload)
            response = _encoder.encode(await self._handlers[type(request)](request))
            if len(response) > MAX_FRAME_BYTES:
                raise LinkError(f"a response of {len(response)} bytes is too long")
        except Exception as error:  # the other side must always get an answer
            if not isinstance(error, OpentrailError):  # the other side logs why its work failed
                log.exception("a request of another process failed")
            text = f"{type(error).__name__}: {error}"
            self._send(_Kind.FAILURE, number, text.encode(errors="backslashreplace"))
        else:
            self._send(_Kind.RESPONSE, number, response)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _HEADER.size:
            length, kind, number = _HEADER.unpack_from(received, start)
            if length > MAX_FRAME_BYTES:
                log.error("a frame is too long", extra={"bytes": length})
                self.close()
                return
            end = start + _HEADER.size + length
            if len(received) < end:
                break
            payload = bytes(received[start + _HEADER.size : end])
            start = end
            self._dispatch(kind, number, payload)
        if start:
            del received[:start]

    def _dispatch(self, kind: int, number: int, payload: bytes) -> None:
        if kind == _Kind.REQUEST:
            task = asyncio.get_running_loop().create_task(self._handle(number, payload))
            self._handling[number] = task
            task.add_done_callback(lambda _: self._handling.pop(number))
        elif kind == _Kind.PING:
            self._send(_Kind.RESPONSE, number)
        elif kind == _Kind.CANCEL:
            if (handling := self._handling.get(number)) is not None:
                handling.cancel()
        elif (waiting := self._waiting.get(number)) is not None and not waiting.done():
            if kind == _Kind.RESPONSE:
                waiting.set_result(payload)
            else:
                waiting.set_exception(LinkError(payload.decode()))

    def connection_lost(self, error: Exception | None) -> None:
        del error
        if not self.gone.done():
            self.gone.set_result(None)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(LinkError("the other process is gone"))


@cache
def _response_decoder(request: type[IpcRequest[Any]]) -> msgspec.msgpack.Decoder[Any]:
    """Returns a decoder of the response: of the `T` in `class …(IpcRequest[T])`, if present."""
    response = request.response
    if response is None:
        (response,) = get_args(request.__orig_bases__[0])  # type: ignore[attr-defined]
    return msgspec.msgpack.Decoder(response, dec_hook=_decode_other)


Method = Callable[..., Awaitable[Any]]
M = TypeVar("M", bound=Method)

#: Maximum bytes of records in one request.
_MAX_PART_BYTES = 16 * 1024 * 1024


class HasProcess(Protocol):
    """The owner of the remote methods."""

    async def _ask(self, request: IpcRequest[Any], seconds: float, resend: bool) -> Any:
        """Return the response of the other process within the deadline.

        `resend` asks the next process once if this one ends before it responds.
        """
        ...


@cache
def request_of(method: Method, is_cancellable: bool = False) -> type[IpcRequest[Any]]:
    """Returns the request for a call of a method; its members are the parameters."""
    hints = get_type_hints(method)
    parameters = list(inspect.signature(method).parameters)[1:]
    request = msgspec.defstruct(
        method.__qualname__,
        [(name, hints[name]) for name in parameters],
        bases=(IpcRequest,),
        namespace={"is_cancellable": is_cancellable, "response": hints["return"]},
        frozen=True,
        tag=method.__qualname__,
    )
    return cast("type[IpcRequest[Any]]", request)


def remote(method: M, seconds: float, *, resend: bool = True, is_cancellable: bool = False) -> M:
    """Returns a method of the same signature that runs in another process.

    Args:
        method: a method of a port.
        seconds: deadline for its response.
        resend: whether to ask the next process once if this one ends before it responds.
        is_cancellable: whether cancelling the wait for the response also cancels the work.
    """
    request, signature = request_of(method, is_cancellable), inspect.signature(method)

    @wraps(method)
    async def call(self: HasProcess, *arguments: Any, **options: Any) -> Any:
        bound = signature.bind(self, *arguments, **options)
        bound.apply_defaults()
        _, *values = bound.arguments.values()
        return await self._ask(request(*values), seconds, resend)

    return cast("M", call)


def handlers_of(target: object, methods: Iterable[Method]) -> Handlers:
    """Returns handlers that call these methods of an object."""

    def handler_of(method: Method) -> Callable[[Any], Awaitable[Any]]:
        bound = getattr(target, method.__name__)

        async def handle(request: Any) -> Any:
            return await bound(**structs.asdict(request))

        return handle

    return {request_of(method): handler_of(method) for method in methods}


def parts(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Splits entries into parts that requests can carry."""
    return batches(entries, lambda entry: len(entry.record), _MAX_PART_BYTES)
