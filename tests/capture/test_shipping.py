"""Sending records to a server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from opentrail.capture.shipping import ServerShipper
from opentrail.core.errors import OpentrailError, RecordRefused, UsageError


class Server:
    """Keeps the lines it is sent; answers with the statuses it is told, the last one for ever."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.tokens: set[str | None] = set()
        self.statuses = [200]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = outer.statuses[0]
                if len(outer.statuses) > 1:
                    outer.statuses.pop(0)
                if status == 200:
                    outer.lines.extend(body.split(b"\n"))
                outer.tokens.add(self.headers["Authorization"])
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


def test_a_shipper_that_waits_has_sent_when_it_returns(server: Server) -> None:
    shipper = ServerShipper(server.url, "token")
    shipper.ship(b'{"a":1}')
    assert server.lines == [b'{"a":1}']
    assert server.tokens == {"Bearer token"}


def test_what_cannot_be_stored_is_refused_and_what_is_wrong_is_an_error(server: Server) -> None:
    shipper = ServerShipper(server.url, "token")
    server.statuses = [503]
    with pytest.raises(RecordRefused):
        shipper.ship(b"{}")
    server.statuses = [400]
    with pytest.raises(OpentrailError, match="does not take"):
        shipper.ship(b"{}")


def test_nobody_there_is_a_refusal() -> None:
    with pytest.raises(RecordRefused, match="no server answers"):
        ServerShipper("http://127.0.0.1:9", "token").ship(b"{}")


def test_without_waiting_everything_arrives_in_order_before_the_end(server: Server) -> None:
    sent = [json.dumps({"n": number}).encode() for number in range(1_000)]
    with ServerShipper(server.url, "token", wait=False) as shipper:
        for record in sent:
            shipper.ship(record)
    assert server.lines == sent
    assert shipper.lost == 0


@pytest.mark.slow
def test_a_passing_failure_is_tried_again_and_a_lasting_one_counted(server: Server) -> None:
    server.statuses = [503, 200]
    with ServerShipper(server.url, "token", wait=False) as shipper:
        shipper.ship(b"{}")
    assert server.lines == [b"{}"]
    server.statuses = [503]
    with ServerShipper(server.url, "token", wait=False) as shipper:
        shipper.ship(b"{}")
    assert shipper.lost == 1


def test_a_server_is_found_by_its_data_directory(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no server runs"):
        ServerShipper.of_data_dir(tmp_path)
    described = {"console": server.url, "token": "t"}
    (tmp_path / "server.json").write_text(json.dumps(described))
    ServerShipper.of_data_dir(tmp_path).ship(b"{}")
    assert server.lines == [b"{}"]


def test_an_address_that_is_none_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="url"):
        ServerShipper("localhost:4748", "token")
