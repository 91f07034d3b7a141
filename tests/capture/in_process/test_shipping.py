"""Sending records to a server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from opentrail.capture.in_process import shipping
from opentrail.capture.in_process.shipping import ServerShipper, ship_together
from opentrail.core.errors import OpentrailError, RecordRefused, UsageError


class Server:
    """Stores the lines it receives; answers with the given statuses, repeating the last one."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.tokens: set[str | None] = set()
        self.statuses = [200]
        self.token: str | None = None
        self.paths: list[str] = []
        self.bad: bytes | None = None
        self.known: dict[str, Any] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = outer.statuses[0]
                if len(outer.statuses) > 1:
                    outer.statuses.pop(0)
                if outer.bad is not None and outer.bad in body:
                    status = 400
                if outer.token not in (None, str(self.headers["Authorization"])[7:]):
                    status = 401
                outer.paths.append(self.path)
                if status == 200:
                    outer.lines.extend(body.split(b"\n"))
                outer.tokens.add(self.headers["Authorization"])
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                outer.paths.append(self.path)
                body = json.dumps(outer.known).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        pace = {"poll_interval": 0.01}
        threading.Thread(target=self.http.serve_forever, kwargs=pace, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


def test_a_waiting_shipper_has_sent_on_return(server: Server) -> None:
    shipper = ServerShipper(server.url, "token")
    shipper.ship(b'{"a":1}')
    assert server.lines == [b'{"a":1}']
    assert server.tokens == {"Bearer token"}


@pytest.mark.parametrize("wait", [True, False])
def test_the_records_of_one_call_go_together(server: Server, wait: bool) -> None:
    records = [json.dumps({"n": number}).encode() for number in range(1_001)]
    with ServerShipper(server.url, "token", wait) as shipper:
        ship_together(shipper, records)
    assert server.lines == records
    if wait:
        assert len(server.paths) == 1


def test_a_shipper_of_single_records_gets_all() -> None:
    class Plain:
        def __init__(self) -> None:
            self.taken: list[bytes] = []

        def ship(self, record: bytes) -> None:
            self.taken.append(record)

    shipper = Plain()
    ship_together(shipper, [b"1", b"2"])
    assert shipper.taken == [b"1", b"2"]


def test_unstorable_values_are_refused(server: Server) -> None:
    shipper = ServerShipper(server.url, "token")
    server.statuses = [503]
    with pytest.raises(RecordRefused):
        shipper.ship(b"{}")
    server.statuses = [400]
    with pytest.raises(OpentrailError, match="refused the record"):
        shipper.ship(b"{}")


def test_an_absent_server_is_a_refusal() -> None:
    with pytest.raises(RecordRefused, match="no server answers"):
        ServerShipper("http://127.0.0.1:9", "token").ship(b"{}")


def test_without_waiting_everything_arrives_in_order(server: Server) -> None:
    sent = [json.dumps({"n": number}).encode() for number in range(1_000)]
    with ServerShipper(server.url, "token", wait=False) as shipper:
        for record in sent:
            shipper.ship(record)
    assert server.lines == sent
    assert shipper.lost == 0


@pytest.mark.slow
def test_passing_failure_is_retried_a_lasting_one_counted(server: Server) -> None:
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


@pytest.mark.parametrize("wait", [True, False])
def test_restarted_server_is_found_by_its_new_token(
    server: Server, tmp_path: Path, wait: bool
) -> None:
    described = {"console": server.url, "token": "before"}
    (tmp_path / "server.json").write_text(json.dumps(described))
    with ServerShipper.of_data_dir(tmp_path, wait) as shipper:
        shipper.ship(b"1")
        server.token = "after"
        (tmp_path / "server.json").write_text(json.dumps({**described, "token": "after"}))
        shipper.ship(b"2")
        shipper.ship(b"3")
    assert (server.lines, shipper.lost) == ([b"1", b"2", b"3"], 0)


def test_a_wrong_token_is_refused_with_the_reason(server: Server) -> None:
    server.token = "another"
    with pytest.raises(RecordRefused, match="another token"):
        ServerShipper(server.url, "token").ship(b"{}")


def test_a_wrong_record_loses_no_other(server: Server) -> None:
    server.bad = b"wrong"
    with ServerShipper(server.url, "token", wait=False) as shipper:
        for record in (b"1", b"wrong", b"2", b"3"):
            shipper.ship(record)
    assert sorted(server.lines) == [b"1", b"2", b"3"]
    assert shipper.lost == 1


def test_resent_messages_are_marked(server: Server) -> None:
    server.statuses = [503, 200]
    with ServerShipper(server.url, "token", wait=False) as shipper:
        shipper.ship(b"{}")
    assert server.paths == ["/api/v1/records", "/api/v1/records?again=true"]


def test_shipper_returns_the_identity_that_the_server_knows(server: Server) -> None:
    server.known = {"account": "222222222222", "userIdentity": {"type": "Root"}, "deletedBy": "e"}
    known = ServerShipper(server.url, "token").identity("AKIA/1")
    assert known is not None
    assert (known.account, known.user_identity, known.deleted_by) == (
        "222222222222",
        {"type": "Root"},
        "e",
    )
    assert server.paths == ["/api/v1/identities/AKIA%2F1"]


def test_without_waiting_each_caller_is_requested_once(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The server is in this process, which may pause.
    for seconds in ("_IDENTITY_SECONDS", "_CACHE_SECONDS", "_SILENT_SECONDS"):
        monkeypatch.setattr(shipping, seconds, 60.0)
    server.known = {"account": "222222222222", "userIdentity": {"type": "Root"}}
    shipper = ServerShipper(server.url, "token", wait=False)
    assert shipper.identity("A") == shipper.identity("A") is not None
    assert len(server.paths) == 1
    server.known = {}
    assert shipper.identity("B") is shipper.identity("C") is None
    assert len(server.paths) == 2


def test_an_invalid_address_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="url"):
        ServerShipper("localhost:4748", "token")
