"""Bodies that come after their heads: passed on as they come, and what becomes of broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.proxy.wires import HEAD, Wire, between

pytestmark = pytest.mark.live


def test_an_early_refusal_reaches_a_client_that_still_sends(tmp_path: Path) -> None:
    def early(wire: Wire) -> None:
        wire.until(b"\r\n\r\n")
        wire.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")

    with between(tmp_path, early) as (server, _):
        wire = Wire.to(server.url)
        wire.send(f"PUT /b/k HTTP/1.1\r\n{HEAD}Content-Length: 1000000\r\n\r\nstart")
        status, headers, body = wire.answer()
        assert (status, body, headers["connection"]) == (403, b"no", "close")
        wire.rest()
        assert server.records()[0]["errorCode"] == "AccessDenied"


def test_a_client_that_leaves_in_mid_request_is_recorded(tmp_path: Path) -> None:
    def patient(wire: Wire) -> None:
        wire.rest()

    with between(tmp_path, patient) as (server, _):
        wire = Wire.to(server.url)
        wire.send(f"PUT /b/k HTTP/1.1\r\n{HEAD}Content-Length: 1000000\r\n\r\nstart")
        wire.close()
        records: list[object] = []
        while not records:
            records = list(server.records())
        failure = records[0]["additionalEventData"]["opentrail"]["failure"]  # type: ignore[index]
        assert failure == "the client closed before its request was complete"
