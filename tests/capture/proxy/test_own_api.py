"""Calls to opentrail's own API, from the socket to the record."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from opentrail.capture.proxy.endpoint import ApiAnswer
from opentrail.core.event import Entry
from tests.capture.proxy.wires import Wire, endpoint, gate_of, scope
from tests.factories import MOMENT
from tests.fakes import TIMEOUT_SECONDS, MemoryJournal, run
from tests.live.processes import opentrail_server


@pytest.mark.live
def test_own_api_requests_may_be_chunked_or_announced(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("ending", "failure"),
    [
        ("forged", b'"errorCode":"IncompleteSignatureException"'),
        ("internal error", b'"errorCode":"InternalFailure"'),
        ("cut off", b'"failure":"cut off by the end of the server"'),
    ],
)
def test_a_call_keeps_its_parameters_however_it_ends(ending: str, failure: bytes) -> None:
    """The API may have done the work, with only its answer missing."""

    async def check() -> list[Entry]:
        is_asked = asyncio.Event()

        async def unanswered(*_request: object) -> ApiAnswer:
            if ending == "internal error":
                raise KeyError("a bug")
            is_asked.set()
            await asyncio.Event().wait()
            raise AssertionError("nothing ends this but the end of the server")

        journal = MemoryJournal()
        gate = gate_of(lambda _key_id: None, MOMENT, "refuse") if ending == "forged" else None
        async with endpoint(journal, 9, unanswered, gate) as (port, served):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            target = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.StopLogging"
            head = f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('cloudtrail')}\r\n"
            body = '{"Name": "audit"}'
            head += f"X-Amz-Target: {target}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            writer.write(head.encode())
            if ending == "cut off":
                await asyncio.wait_for(is_asked.wait(), TIMEOUT_SECONDS)
                (connection,) = served.connections
                connection.abort()
                await connection.done
            else:
                await reader.readuntil(b"\r\n\r\n")
            await served.recorder.drain()
            writer.close()
        return journal.disk

    (entry,) = run(check())
    assert b'"eventName":"StopLogging"' in entry.record
    assert b'"requestParameters":{"name":"audit"}' in entry.record
    assert failure in entry.record
    assert entry.origin == "api"
