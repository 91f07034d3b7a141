"""Raw sockets on both sides of the endpoint."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path

from opentrail.capture.proxy import ClientConnection, Endpoint, Upstream, Upstreams
from opentrail.capture.proxy.endpoint import AnswerApiCall, ApiAnswer
from opentrail.capture.proxy.gate import Gate
from opentrail.capture.record.assemble import Assembler
from opentrail.capture.record.recorder import Recorder
from opentrail.commands.sandbox import ADMIN_KEY_ID
from opentrail.core.identity import Identity
from opentrail.ports.journal import JournalWriter
from opentrail.ports.metrics import Metrics
from opentrail.wire.verification import FindSecret
from tests.factories import an_identity, router
from tests.fakes import SettableClock
from tests.live.processes import Opentrail, opentrail_server

TIMEOUT_SECONDS = 60.0
Script = Callable[["Wire"], object]


def scope(service: str, region: str = "us-east-1", key: str = ADMIN_KEY_ID) -> str:
    """Returns an Authorization header with a false signature for a service."""
    credential = f"{key}/20200101/{region}/{service}/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature={'0' * 64}"


def resigning(folder: Path, url: str, service: str = "default", region: str = "") -> str:
    """Returns the path of a configuration that re-signs a service's calls with `AKIAOURS`."""
    config = folder / "opentrail.toml"
    config.write_text(
        f'[upstream.{service}]\nurl = "{url}"\nresign = true\n'
        'access_key_id = "AKIAOURS"\nsecret_access_key = "our-secret"\n'
        + (f'region = "{region}"\n' if region else "")
    )
    return str(config)


def gate_of(find_secret: FindSecret, moment: datetime, unknown_keys: str = "forward") -> Gate:
    """Returns a gate at a moment that forwards unsigned calls."""
    return Gate(find_secret, lambda: moment, unknown_keys, "forward", router().identify)


class Wire:
    """One connection, read and written byte by byte."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(TIMEOUT_SECONDS)
        self.socket = connection
        self.buffer = b""

    @classmethod
    def to(cls, url: str) -> Wire:
        """Connects to an endpoint."""
        host, _, port = url.removeprefix("http://").rpartition(":")
        return cls(socket.create_connection((host, int(port)), TIMEOUT_SECONDS))

    def send(self, data: bytes | str) -> Wire:
        self.socket.sendall(data.encode() if isinstance(data, str) else data)
        return self

    def until(self, mark: bytes) -> bytes:
        """Reads up to and including a mark."""
        while mark not in self.buffer:
            more = self.socket.recv(65536)
            if not more:
                raise AssertionError(f"closed before {mark!r}: {self.buffer[:300]!r}")
            self.buffer += more
        found, _, self.buffer = self.buffer.partition(mark)
        return found + mark

    def exactly(self, length: int) -> bytes:
        read = bytearray(self.buffer)  # bytes would be copied once for each part of a long body
        while len(read) < length:
            more = self.socket.recv(1 << 20)
            if not more:
                raise AssertionError(f"closed after {len(read)} of {length} bytes")
            read += more
        self.buffer = bytes(read[length:])
        return bytes(read[:length])

    def rest(self) -> bytes:
        """Reads until the other side closes (or cuts) the connection."""
        try:
            while more := self.socket.recv(65536):
                self.buffer += more
        except ConnectionResetError:
            pass
        found, self.buffer = self.buffer, b""
        return found

    def answer(self, head_request: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Reads one answer: status, headers by lower-case name, body."""
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        status = int(lines[0].split(" ")[1])
        if head_request or status in (204, 304) or status < 200:
            return status, headers, b""
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, self.chunks()
        if "content-length" in headers:
            return status, headers, self.exactly(int(headers["content-length"]))
        return status, headers, self.rest()

    def chunks(self) -> bytes:
        body = b""
        while size := int(self.until(b"\r\n"), 16):
            body += self.exactly(size)
            assert self.exactly(2) == b"\r\n"
        assert self.exactly(2) == b"\r\n"
        return body

    def request(self) -> tuple[bytes, bytes]:
        """Reads one request: its head unchanged, its body without framing."""
        head = self.until(b"\r\n\r\n")
        return head, self.body_after(head)

    def body_after(self, head: bytes) -> bytes:
        """Reads the body of a request after its head."""
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            return self.chunks()
        length = 0
        for line in lower.split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return self.exactly(length)

    def close(self) -> None:
        self.socket.close()


def socket_buffers() -> int:
    """Returns the maximum bytes that the system holds between the ends of a connection."""
    limits = [Path(f"/proc/sys/net/ipv4/{name}").read_text() for name in ("tcp_rmem", "tcp_wmem")]
    return sum(int(each.split()[2]) for each in limits)  # minimum, default and maximum


class ScriptedUpstream:
    """Runs a script for each connection, in turn; the last one for all others."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(64)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.connections = 0
        self.problems: list[BaseException] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            threading.Thread(target=self._play, args=(script, connection), daemon=True).start()

    def _play(self, script: Script, connection: socket.socket) -> None:
        wire = Wire(connection)
        try:
            script(wire)
        except (AssertionError, OSError) as error:
            self.problems.append(error)
        finally:
            wire.close()

    def close(self) -> None:
        self._listening.close()


@contextmanager
def scripted(*scripts: Script) -> Iterator[ScriptedUpstream]:
    """Runs a scripted upstream."""
    upstream = ScriptedUpstream(*scripts)
    try:
        yield upstream
    finally:
        upstream.close()


def ok(body: bytes = b"<ok/>", *headers: str) -> bytes:
    """Returns a valid answer with a length."""
    lines = ["HTTP/1.1 200 OK", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def get(target: str = "/bucket/key", *headers: str) -> str:
    """Returns a GET request to S3."""
    lines = [f"GET {target} HTTP/1.1", "Host: h", f"Authorization: {scope('s3')}", *headers]
    return "\r\n".join([*lines, "", ""])


def put(body: bytes, target: str = "/bucket/key", *headers: str) -> bytes:
    """Returns a PUT request to S3."""
    lines = [
        f"PUT {target} HTTP/1.1",
        "Host: h",
        f"Authorization: {scope('s3')}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


HEAD = f"Host: h\r\nAuthorization: {scope('s3')}\r\n"
GET = f"GET /bucket/key HTTP/1.1\r\n{HEAD}\r\n"


@contextmanager
def between(
    tmp_path: Path, *scripts: Script, flags: tuple[str, ...] = ()
) -> Iterator[tuple[Opentrail, ScriptedUpstream]]:
    with (
        scripted(*scripts) as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream.url, *flags) as server,
    ):
        yield server, upstream


async def _no_api(*_: object) -> ApiAnswer:
    raise AssertionError("not a call of opentrail's API")


@asynccontextmanager
async def endpoint(
    journal: JournalWriter,
    upstream: int,
    answer_api_call: AnswerApiCall | None = None,
    gate: Gate | None = None,
    resolve: Callable[[str], Identity] | None = None,
) -> AsyncIterator[tuple[int, Endpoint]]:
    """Runs an endpoint in this loop, before an upstream at a port; yields its own port and it."""
    clock, metrics = SettableClock(), Metrics()
    identity = an_identity()
    assembler = Assembler(resolve or (lambda _key_id: identity))
    served = Endpoint(
        recorder=Recorder(journal, assembler, lambda _record: None, clock, metrics, True),
        router=router(),
        upstreams=Upstreams(Upstream("127.0.0.1", upstream, False), {}),
        answer_api_call=answer_api_call or _no_api,
        clock=clock,
        metrics=metrics,
        gate=gate,
    )
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ClientConnection(served, None), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], served
    finally:
        server.close()
        await served.stop(1.0)
