"""A console port with the answers of a test, for commands that need a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.serving import serving

TOKEN = "token-of-the-stub"


@dataclass
class Asked:
    """A received request."""

    method: str
    path: str
    authorization: str | None
    body: bytes


@dataclass
class StubConsole:
    """The received requests and the answers; `data_dir` names the stub like a server's folder."""

    url: str
    data_dir: Path
    status: int = 200
    body: bytes = b"{}"
    #: Bytes to send instead of HTTP.
    raw: bytes | None = None
    #: Returns status and JSON for each request, if set.
    react: Callable[[Asked], tuple[int, Any]] | None = None
    asked: list[Asked] = field(default_factory=list)

    def answers(self, document: Any, status: int = 200) -> None:
        """Makes the stub answer JSON."""
        self.status, self.body = status, json.dumps(document).encode()


def describe_server(data_dir: Path, url: str) -> None:
    """Writes the file by which commands find a server."""
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "server.json").write_text(json.dumps({"console": url, "token": TOKEN}))


@contextmanager
def stub_console(data_dir: Path) -> Iterator[StubConsole]:
    """Runs a stub on a free port, and publishes it in `data_dir`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = self.rfile.read(length)
            authorization = self.headers.get("authorization")
            stub.asked.append(Asked(self.command, self.path, authorization, body))
            if stub.raw is not None:
                self.wfile.write(stub.raw)
                self.close_connection = True
                return
            status, answer = stub.status, stub.body
            if stub.react is not None:
                status, document = stub.react(stub.asked[-1])
                answer = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET  # noqa: N815 - named by http.server

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = StubConsole(f"http://127.0.0.1:{server.server_port}", data_dir)
    describe_server(data_dir, stub.url)
    with serving(server):
        yield stub
