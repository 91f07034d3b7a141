"""More clients than descriptors."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.capture.proxy.wires import TIMEOUT_SECONDS, Wire, get
from tests.live.processes import Opentrail, eventually

pytestmark = [pytest.mark.live, pytest.mark.campaign]

#: The server's limit of descriptors.
FEW = 400


@pytest.mark.parametrize("recorders", [1, 2])
def test_idle_connections_block_no_client_and_are_counted(tmp_path: Path, recorders: int) -> None:
    flags = ("--upstream", "http://127.0.0.1:9", "--recorders", str(recorders))
    server = Opentrail(tmp_path / "data", *flags)
    server.prefix = ("sh", "-c", f'ulimit -n {FEW}; exec "$@"', "sh")
    server.start()
    try:
        limit = (FEW - 256 - (FEW - 256) // 8) // 2 * recorders
        assert connections(server) == {"open": 0, "limit": limit, "idleClosed": 0, "refused": 0}
        idle = [raw(server) for _ in range(limit + 50)]
        assert Wire.to(server.url).send(get()).answer()[0] == 502
        # A late process keeps its previous count.
        found = eventually(
            lambda: (now := connections(server))["idleClosed"] >= 50 and now, "closed connections"
        )
        # The asking connection has closed.
        assert limit - 2 <= found["open"] <= limit
        assert found["refused"] == 0
        assert 50 <= found["idleClosed"] <= 52
        metrics = asked(server, "/metrics")
        assert f"opentrail_connection_limit {float(limit)}" in metrics
        assert "opentrail_idle_connections_closed_total 5" in metrics
        for one in idle:
            one.close()
    finally:
        server.close()


def raw(server: Opentrail) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), TIMEOUT_SECONDS)


def connections(server: Opentrail) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asked(server, "/health"))["connections"]
    return found


def asked(server: Opentrail, path: str) -> str:
    request = f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    return Wire.to(server.console).send(request).answer()[2].decode()
