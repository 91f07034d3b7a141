"""Calls that opentrail's own API answers, from the socket to the record."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.proxy.wires import Wire, scope
from tests.live.processes import opentrail_server

pytestmark = pytest.mark.live


def test_requests_of_our_own_api_may_be_chunked_or_announced(tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", "--upstream", "http://127.0.0.1:9") as server:
        target = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.ListTrails"
        head = f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('cloudtrail')}\r\n"
        head += f"X-Amz-Target: {target}\r\n"
        chunked = Wire.to(server.url).send(
            f"{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
        )
        assert chunked.answer()[2] == b'{"Trails":[]}'
        announced = Wire.to(server.url).send(
            f"{head}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert announced.answer()[0] == 100
        assert announced.send(b"{}").answer()[2] == b'{"Trails":[]}'
        eager = Wire.to(server.url).send(
            f"{head}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{{}}"
        )
        assert eager.answer()[:3:2] == (200, b'{"Trails":[]}')
        large = Wire.to(server.url).send(f"{head}Content-Length: 2000000\r\n\r\n")
        large.send(b" " * 1_100_000)
        assert large.answer()[0] == 413
        assert [r["eventName"] for r in server.records()] == ["ListTrails"] * 4
