"""A tiny HTTP/1.1 upstream that answers every AWS request with an empty success."""

import asyncio
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs

_HEAD_LIMIT = 1 << 20
_START_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One request as it came over the wire: its head unchanged, its body without framing."""

    head: bytes
    body: bytes

    @property
    def method(self) -> str:
        """Returns the request method."""
        return self.head.split(b" ", 1)[0].decode("ascii")

    @property
    def target(self) -> str:
        """Returns the raw request target, path and query still encoded."""
        return self.head.split(b" ", 2)[1].decode("latin-1")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Returns the header fields in order: lower-case name, text decoded as UTF-8."""
        fields = []
        for line in self.head.split(b"\r\n")[1:]:
            name, colon, value = line.partition(b":")
            if colon:
                text = value.strip(b" \t").decode("utf-8", "surrogateescape")
                fields.append((name.decode("latin-1").lower(), text))
        return fields

    def header(self, name: str) -> str:
        """Returns the first header of that lower-case name, or an empty string."""
        return next((value for key, value in self.headers if key == name), "")


class StubUpstream:
    """Serves on a free local port while used as a context manager.

    Args:
        keep: Keep every request in `requests`; otherwise only count them.
        answer: Makes the bytes of an answer; otherwise every answer is an empty success.
    """

    def __init__(
        self, *, keep: bool = False, answer: Callable[[RawRequest], bytes] | None = None
    ) -> None:
        self.requests: list[RawRequest] = []
        self.count = 0
        self._keep = keep
        self._make_answer = answer or _answer
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stub-upstream", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def host(self) -> str:
        """Returns host and port, as a client writes them into the Host header."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """Returns the endpoint URL."""
        return f"http://{self.host}"

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(_START_TIMEOUT_SECONDS):
            raise TimeoutError("stub upstream did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_TIMEOUT_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        start = asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_HEAD_LIMIT, backlog=512)
        server = self._loop.run_until_complete(start)
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._close(server))
        self._loop.close()

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = RawRequest(await reader.readuntil(b"\r\n\r\n"), b"")
        if head.header("expect").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()
        request = RawRequest(head.head, await _body(reader, head))
        self.count += 1
        if self._keep:
            self.requests.append(request)
        writer.write(self._make_answer(request))
        await writer.drain()
        return request.header("connection").lower() != "close"


async def _body(reader: asyncio.StreamReader, head: RawRequest) -> bytes:
    if "chunked" in head.header("transfer-encoding").lower():
        return await _chunked_body(reader)
    return await reader.readexactly(int(head.header("content-length") or "0"))


async def _chunked_body(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while (await reader.readline()).strip():
        pass
    return b"".join(parts)


def _answer(request: RawRequest) -> bytes:
    """Returns an empty success in the form of the protocol the request speaks."""
    request_id = str(uuid.uuid4())
    body, content_type = b"", "application/xml"
    if request.header("x-amz-target"):
        body, content_type = b"{}", "application/x-amz-json-1.0"
    elif request.header("content-type").startswith("application/x-www-form-urlencoded"):
        body, content_type = _query_answer(request.body, request_id), "text/xml"
    lines = [
        "HTTP/1.1 200 OK",
        f"x-amzn-RequestId: {request_id}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    head = "\r\n".join(lines).encode("ascii")
    return head if request.method == "HEAD" else head + body


def _query_answer(form: bytes, request_id: str) -> bytes:
    action = parse_qs(form.decode("utf-8")).get("Action", [""])[0]
    if not action.isidentifier():
        return b""
    return (
        f"<{action}Response><{action}Result/><ResponseMetadata><RequestId>{request_id}"
        f"</RequestId></ResponseMetadata></{action}Response>"
    ).encode()


class PreparedUpstream(StubUpstream):
    """Returns the prepared answer for the next call."""

    def __init__(self) -> None:
        super().__init__(answer=self._prepared)
        self.next = b""

    def _prepared(self, _request: RawRequest) -> bytes:
        return self.next
