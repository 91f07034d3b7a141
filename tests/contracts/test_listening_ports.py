"""The limits of every listening port: endpoint, console and MCP, with and without TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from opentrail.app.console_server import serve_console
from opentrail.app.http_server import HttpServer
from opentrail.capture.proxy import ClientConnection
from opentrail.capture.proxy.connections import Acceptor, Connections, Handshake
from opentrail.capture.proxy.head import MAX_UNFINISHED
from opentrail.mcp.http import PATH, PersonalTokenVerifier, http_app
from opentrail.mcp.server import OpentrailMcpServer
from tests.capture.proxy.wires import endpoint, scope
from tests.certificates import issue, write
from tests.fakes import TIMEOUT_SECONDS, MemoryJournal, asynchronous

#: Far more than a port accepts of a head.
ENDLESS = 8 * MAX_UNFINISHED
PORTS = ("endpoint", "console", "mcp")
SECURED = ("plain", "tls")


async def nothing(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def mcp_app() -> Starlette:
    def ask(*_: Any) -> Any:
        raise AssertionError("no question is asked")

    return http_app(OpentrailMcpServer(ask, PersonalTokenVerifier(lambda _: None)), "127.0.0.1")


@asynccontextmanager
async def listening(
    port: str, tls: ssl.SSLContext | None
) -> AsyncIterator[tuple[tuple[str, int], Connections]]:
    """Serves a port; yields its address and its limits."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        opened.setblocking(False)
        address = opened.getsockname()
        async with AsyncExitStack() as stack:
            if port == "endpoint":
                _, served = await stack.enter_async_context(endpoint(MemoryJournal(), 9))

                def made(handshake: Handshake | None) -> asyncio.Protocol:
                    return ClientConnection(served, handshake)

                acceptor = Acceptor(opened, lambda client: served.take(client, tls, made))
                stack.callback(acceptor.close)
                acceptor.accept()
                yield address, served
            elif port == "console":
                limits = Connections()
                await serve_console(stack, nothing, opened, limits, tls)
                yield address, limits
            else:
                limits = Connections()
                server = HttpServer(mcp_app(), opened, tls, limits, has_lifespan=True)
                task = asyncio.create_task(server.serve())
                await server.is_accepting.wait()
                yield address, limits
                server.should_exit = server.force_exit = True
                await task


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    write(issue("localhost", "127.0.0.1"), folder / "server.pem", folder / "server.key")
    return folder / "server.pem"


@pytest.fixture(params=SECURED)
def contexts(
    request: pytest.FixtureRequest, certificate: Path
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Returns the server's and the client's side of TLS."""
    if request.param == "plain":
        return None, None
    return of_server(certificate), of_client()


def of_server(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


def of_client() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


Contexts = tuple[ssl.SSLContext | None, ssl.SSLContext | None]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(
    address: tuple[str, int], tls: ssl.SSLContext | None, source: str = "127.0.0.1"
) -> Streams:
    return await asyncio.open_connection(*address, ssl=tls, local_addr=(source, 0))


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Reads until the connection ends."""
    read = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while piece := await reader.read(65536):
                read += piece
    return read


def head(port: str) -> bytes:
    path = PATH if port == "mcp" else "/bucket"
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {scope('s3')}\r\n".encode()


@pytest.mark.parametrize("port", PORTS)
@asynchronous
async def test_endless_head_is_cut_off(port: str, contexts: Contexts) -> None:
    async with listening(port, contexts[0]) as (address, _):
        reader, writer = await connect(address, contexts[1])
        sent = 0
        with contextlib.suppress(ConnectionError):
            writer.write(head(port) + b"A: ")
            while sent < ENDLESS and not reader.at_eof():
                writer.write(b"a" * 65536)
                await writer.drain()
                sent += 65536
                await asyncio.sleep(0)
        answer = await rest(reader)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))
        writer.close()


@pytest.mark.parametrize("port", PORTS)
@asynchronous
async def test_many_headers_are_refused(port: str, contexts: Contexts) -> None:
    async with listening(port, contexts[0]) as (address, _):
        reader, writer = await connect(address, contexts[1])
        writer.write(head(port) + b"".join(b"A%d: a\r\n" % n for n in range(300)) + b"\r\n")
        assert (await rest(reader)).startswith(b"HTTP/1.1 431")
        writer.close()


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("said", [b"", b"GET / HT"])
@asynchronous
async def test_silent_connection_is_closed(port: str, contexts: Contexts, said: bytes) -> None:
    async with listening(port, contexts[0]) as (address, limits):
        limits.head_seconds = limits.idle_seconds = 0.1
        reader, writer = await connect(address, contexts[1])
        writer.write(said)
        answer = await rest(reader)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
        writer.close()


@pytest.mark.parametrize("port", PORTS)
@asynchronous
async def test_full_port_closes_connections_of_the_busiest_address(
    port: str, contexts: Contexts
) -> None:
    async with listening(port, contexts[0]) as (address, limits):
        limits.max_connections = 4
        first = await connect(address, contexts[1], "127.0.0.2")
        while len(limits.connections) < 1:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)
        others = [await connect(address, contexts[1]) for _ in range(8)]
        ended = await asyncio.gather(*(rest(reader) for reader, _ in others[:5]))
        assert ended == [b""] * 5
        assert len(limits.connections) == limits.max_connections
        assert "127.0.0.2" in {one.address for one in limits.connections}
        for _, writer in (first, *others):
            writer.close()


@pytest.mark.parametrize("port", PORTS)
@asynchronous
async def test_a_closed_connection_ends_without_close_notify(port: str, certificate: Path) -> None:
    """A client that ignores the end of TLS keeps no descriptor of the server."""
    async with listening(port, of_server(certificate)) as (address, limits):
        limits.head_seconds = 0.1
        client = await asyncio.to_thread(socket.create_connection, address)
        with await asyncio.to_thread(of_client().wrap_socket, client) as secured:
            raw = socket.socket(fileno=os.dup(secured.fileno()))
            with raw:
                raw.setblocking(False)
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(10):  # a third of asyncio's own timeout
                    with contextlib.suppress(ConnectionError):
                        while await loop.sock_recv(raw, 65536):
                            pass
