"""How long recorded calls take while 2,000 connections that are of no use are open.

Each kind of connection (idle, half a head, half a TLS handshake, a slow body) is opened on the
endpoint and on the console's port, and opened again whenever it is closed. The reference are calls
of the same server before them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import ipaddress
import json
import multiprocessing
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.processes import stop
from benchmarks.servers import create_user, machine
from benchmarks.wire import percentile

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 4\r\n\r\n<a/>"
#: What each kind of connection sends at once, and what it sends each second after that.
KINDS: dict[str, tuple[bytes, bytes]] = {
    "idle": (b"", b""),
    "half head": (b"POST / HTTP/1.1\r\nHost: x\r\nX-Filler: ", b"a"),
    "half handshake": (b"\x16\x03\x01\x02\x00\x01", b""),
    "slow body": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", b"a"),
}
_CALLS, _WARM_UP = 1_500, 300


def main() -> None:
    """Prints the figures, and writes them to a file if one is named."""
    options = _options()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    results: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        for port in ("endpoint", "console"):
            name = f"{options.connections} x {kind}, {port}"
            results[name] = _measured(kind, port, options.connections, options.descriptors)
            shown = ", ".join(f"{label} {value:g}" for label, value in results[name].items())
            print(f"{name}: {shown}", flush=True)
    if options.json:
        about = {**machine(), "descriptors of the server": options.descriptors}
        options.json.write_text(json.dumps({**about, "results": results}, indent=2) + "\n")


def _measured(kind: str, port: str, count: int, descriptors: int) -> dict[str, float]:
    with _upstream() as upstream, _server(upstream, descriptors, kind == "half handshake") as found:
        caller = _Caller(found["endpoint"])
        for _ in range(_WARM_UP):
            caller.timed()
        before = [caller.timed() for _ in range(_CALLS)]
        address = found[port].rpartition(":")[2]
        ready, opened = multiprocessing.Event(), multiprocessing.Value("q", 0)
        crowd = multiprocessing.Process(
            target=_crowd, args=(kind, int(address), count, ready, opened), daemon=True
        )
        crowd.start()
        try:
            ready.wait(60)
            during = [caller.timed() for _ in range(_CALLS)]
        finally:
            crowd.kill()
            crowd.join()
        figures = {
            "p50 ms before": percentile(before, 0.5),
            "p50 ms during": percentile(during, 0.5),
            "p99 ms before": percentile(before, 0.99),
            "p99 ms during": percentile(during, 0.99),
            "connections opened": float(opened.value),
            "connections of the calls": float(caller.connected),
        }
        figures["ratio of p50"] = figures["p50 ms during"] / figures["p50 ms before"]
        figures["ratio of p99"] = figures["p99 ms during"] / figures["p99 ms before"]
        return {label: round(value, 2) for label, value in figures.items()}


class _Caller:
    """Makes calls on a kept connection; as SDKs do, it connects again if that was closed."""

    def __init__(self, url: str) -> None:
        host, _, port = url.rpartition("//")[2].rpartition(":")
        self._address = host, int(port)
        self._tls: ssl.SSLContext | None = None
        if url.startswith("https"):
            self._tls = ssl.create_default_context()
            self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE
        self._request = create_user("bench")
        self._connection: socket.socket | None = None
        self.connected = 0

    def timed(self) -> float:
        """Returns the milliseconds that a call took."""
        started = time.perf_counter()
        while not self._call():
            self._connection = None
        return (time.perf_counter() - started) * 1000

    def _call(self) -> bool:
        """Returns whether there was an answer."""
        try:
            connection = self._connection or self._connect()
            connection.sendall(self._request)
            received = b""
            while b"\r\n\r\n" not in received:
                more = connection.recv(65_536)
                if not more:
                    return False
                received += more
        except OSError:
            return False
        if not received.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(received[:200].decode("latin-1"))
        return True

    def _connect(self) -> socket.socket:
        self.connected += 1
        connection = socket.create_connection(self._address, 10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection)
        self._connection = connection
        return connection


def _crowd(kind: str, port: int, count: int, ready: Any, opened: Any) -> None:
    """Keeps connections open, and replaces those that are closed."""
    first, more = KINDS[kind]

    async def one() -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(first)
                opened.value += 1
                if opened.value == count:
                    ready.set()
                while True:
                    try:
                        if not await asyncio.wait_for(reader.read(1_024), 1):
                            break
                    except TimeoutError:
                        writer.write(more)
                writer.close()
            await asyncio.sleep(1)  # as a client that tries again

    async def all_of_them() -> None:
        await asyncio.gather(*(one() for _ in range(count)))

    asyncio.run(all_of_them())


@contextlib.contextmanager
def _upstream() -> Iterator[int]:
    """Runs an upstream that answers every call at once."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1_024)
    process = multiprocessing.Process(target=_answer, args=(listening,), daemon=True)
    process.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        process.kill()
        process.join()
        listening.close()


def _answer(listening: socket.socket) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                start = head.find(b"content-length:")
                length = int(head[start + 15 :].partition(b"\r\n")[0]) if start >= 0 else 0
                await reader.readexactly(length)
                writer.write(_ANSWER)

    async def serve() -> None:
        server = await asyncio.start_server(answer, sock=listening)
        await server.serve_forever()

    asyncio.run(serve())


@contextlib.contextmanager
def _server(upstream: int, descriptors: int, uses_tls: bool) -> Iterator[dict[str, Any]]:
    """Runs a server with a limit of descriptors; yields what it says of itself."""
    with tempfile.TemporaryDirectory() as folder:
        data, flags = f"{folder}/data", []
        if uses_tls:
            pem, key = _certificate(Path(folder))
            flags = ["--tls-certificate", pem, "--tls-key", key]
        process = subprocess.Popen(
            [
                *("sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"),
                *(sys.executable, "-m", "opentrail", "serve", "--data-dir", data),
                *("--upstream", f"http://127.0.0.1:{upstream}"),
                *("--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0", *flags),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("  data "):
                    break
            yield json.loads(Path(data, "server.json").read_text())
        finally:
            stop(process)


def _certificate(folder: Path) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / "certificate.pem", folder / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(pem), str(private)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crowd", description=__doc__)
    parser.add_argument("--connections", type=int, default=2_000, help="default: 2000")
    parser.add_argument("--descriptors", type=int, default=1_024, help="default: 1024")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    return parser.parse_args()


if __name__ == "__main__":
    main()
