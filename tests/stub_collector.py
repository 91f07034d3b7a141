"""A collector of logs (OTLP/HTTP) in this process."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.serving import serving


class StubCollector:
    """The received requests, and the answers."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        #: Statuses of the next answers; 200 follows.
        self.statuses: list[int] = []
        self.more_headers: dict[str, str] = {}
        self.body = b"{}"

    def records(self) -> list[dict[str, Any]]:
        """Returns the received log records, in order."""
        return [
            record
            for request in self.requests
            for resource in request["resourceLogs"]
            for scope in resource["scopeLogs"]
            for record in scope["logRecords"]
        ]


@contextmanager
def stub_collector(port: int = 0) -> Iterator[StubCollector]:
    """Runs a collector on a free port, unless one is given."""
    stub = StubCollector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = stub.statuses.pop(0) if stub.statuses else 200
            stub.paths.append(self.path)
            stub.headers.append(dict(self.headers))
            if status == 200:
                stub.requests.append(json.loads(gzip.decompress(body)))
            self.send_response(status)
            for name, value in stub.more_headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(stub.body)))
            self.end_headers()
            self.wfile.write(stub.body)

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield stub
