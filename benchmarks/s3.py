"""An S3 endpoint that costs little: objects in memory, and when each came."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import httptools

_EMPTY = b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "0"\r\n\r\n'
_TAKEN = b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n"
_MISSING_BODY = b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"
_MISSING = (
    b"HTTP/1.1 404 Not Found\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%b"
)


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, objects: dict[str, tuple[float, bytes]]) -> None:
        self._objects = objects
        self._parser = httptools.HttpRequestParser(self)
        self._begin()

    def _begin(self) -> None:
        self._body: list[bytes] = []
        self._conditional = self._expects = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins a connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Takes a part of a request."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Takes the target."""
        self._path = urllib.parse.unquote(url.decode().partition("?")[0])

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header."""
        self._conditional |= name.lower() == b"if-none-match"
        self._expects |= name.lower() == b"expect"

    def on_headers_complete(self) -> None:
        """Lets the body come."""
        if self._expects:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Takes a part of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answers."""
        method = self._parser.get_method()
        is_object = self._path.count("/") > 1
        if method == b"PUT" and is_object:
            self._put()
        elif method == b"GET" and is_object:
            self._get()
        else:
            self._transport.write(_EMPTY)
        self._begin()

    def _put(self) -> None:
        if self._conditional and self._path in self._objects:
            self._transport.write(_TAKEN)
            return
        self._objects[self._path] = (time.time(), b"".join(self._body))
        self._transport.write(_EMPTY)

    def _get(self) -> None:
        found = self._objects.get(self._path)
        if found is None:
            self._transport.write(_MISSING % (len(_MISSING_BODY), _MISSING_BODY))
            return
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(found[1])}\r\n\r\n".encode()
        self._transport.write(head + found[1])


def _serve(told: Connection) -> None:
    """Serves until it is asked for the objects, then tells them and ends."""
    objects: dict[str, tuple[float, bytes]] = {}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Client(objects), "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await loop.run_in_executor(None, told.recv)

    asyncio.run(main())
    told.send(objects)


class Store:
    """A running store."""

    def __init__(self, port: int, pipe: Connection) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._pipe = pipe

    def objects(self) -> dict[str, tuple[float, bytes]]:
        """Ends the store; returns when each object came, and its bytes."""
        self._pipe.send("end")
        found: dict[str, tuple[float, bytes]] = self._pipe.recv()
        return found


@contextmanager
def store() -> Iterator[Store]:
    """Runs a store in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield Store(int(ours.recv()), ours)
    finally:
        process.terminate()
        process.join()
