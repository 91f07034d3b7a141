"""An S3 endpoint with a script of faults, before a real one."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

#: Upper limit of every delay.
SLOW_SECONDS = 3.0
_KEPT = ("content-type", "etag", "x-amz-", "last-modified", "content-encoding")


class BadStore:
    """Forwards every request; each PUT of a gzip file meets the next fault of its script.

    Faults: `down` (503, nothing stored), `denied` (403), `reset` (the connection breaks before
    anything is stored), `lost` (stored, then the connection breaks), `etag` (stored, the answer has
    another ETag), `slow` (stored, the answer comes late), `fine`.
    """

    def __init__(self, upstream: str, script: Iterable[str]) -> None:
        self.script = deque(script)
        self.met: Counter[str] = Counter()
        parts = urlsplit(upstream)
        self.host, self.port = str(parts.hostname), int(parts.port or 80)
        store = self

        class Handler(_Handler):
            bad_store = store

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> BadStore:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def next_fault(self) -> str:
        """Returns the fault of the next PUT."""
        fault = self.script.popleft() if self.script else "fine"
        self.met[fault] += 1
        return fault


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    bad_store: BadStore

    def do_GET(self) -> None:
        """Forwards a request, unless a fault prevents it."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = "fine"
        if self.command == "PUT" and urlsplit(self.path).path.endswith(".gz"):
            fault = self.bad_store.next_fault()
        if fault == "reset":
            self._break()
        elif fault == "down":
            self._refuse(503, "SlowDown")
        elif fault == "denied":
            self._refuse(403, "AccessDenied")
        else:
            self._pass_on(body, fault)

    do_PUT = do_HEAD = do_POST = do_DELETE = do_GET  # noqa: N815 - the names of the base class

    def _pass_on(self, body: bytes, fault: str) -> None:
        upstream = http.client.HTTPConnection(self.bad_store.host, self.bad_store.port, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name != "Expect"}
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        if fault == "lost":
            self._break()
            return
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() == "etag" and fault == "etag":
                self.send_header(name, '"00000000000000000000000000000000"')
            elif name.lower().startswith(_KEPT):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: int, code: str) -> None:
        content = f"<Error><Code>{code}</Code><Message>scripted</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _break(self) -> None:
        self.close_connection = True
        self.connection.close()

    def log_message(self, *arguments: Any) -> None:
        """Logs nothing."""
