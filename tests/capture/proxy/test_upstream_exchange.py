"""Where a call is sent, and as whom, before any byte of it leaves."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.capture.proxy.wires import PATIENCE, Wire, ok, scope, scripted
from tests.live.processes import opentrail_server

pytestmark = pytest.mark.live


def test_service_and_region_may_stand_in_the_upstreams_name(tmp_path: Path) -> None:
    reached = threading.Event()

    def upstream(wire: Wire) -> None:
        reached.set()
        wire.request()
        wire.send(ok(b"x"))

    with scripted(upstream) as stub:
        port = stub.url.rpartition(":")[2]
        # Every name under .localhost is this machine (RFC 6761).
        address = f"http://{{service}}.{{region}}.localhost:{port}"
        with opentrail_server(tmp_path / "data", "--upstream", address) as server:
            odd = scope("monitoring", region="eu_west;1")
            call = "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: {}\r\n\r\n"
            assert Wire.to(server.url).send(call.format(odd)).answer()[0] == 400
            assert not reached.is_set()
            usual = scope("monitoring", region="eu-west-1")
            status, _, body = Wire.to(server.url).send(call.format(usual)).answer()
            if status == 502:
                assert b"monitoring.eu-west-1.localhost" in body, "named, where not resolved"
            else:
                assert reached.wait(PATIENCE)
            assert len(server.records()) == 2
