"""A collector over HTTP: the requests, and the meaning of its answers."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.adapters.outgoing_http import OtlpCollector
from opentrail.core.errors import ServiceError
from opentrail.trails.otlp import logs_of
from tests.adapters.test_deadline import STARTS, never_ending
from tests.factories import a_record, an_entry
from tests.fakes import asynchronous
from tests.live.processes import free_port
from tests.stub_collector import stub_collector

LOGS = logs_of([an_entry(1, a_record()), an_entry(2, a_record())])


@asynchronous
async def test_logs_are_sent_as_json_with_headers() -> None:
    with stub_collector() as stub:
        assert await OtlpCollector(stub.url, {"X-Scope-OrgID": "one"}).send(LOGS) == 0
        assert await OtlpCollector(f"{stub.url}/otlp/v1/logs", {}).send(LOGS) == 0
    assert stub.requests == [LOGS, LOGS]
    assert stub.paths == ["/v1/logs", "/otlp/v1/logs"]
    assert stub.headers[0]["X-Scope-OrgID"] == "one"
    assert stub.headers[0]["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@asynchronous
async def test_a_busy_collector_is_called_later(status: int) -> None:
    with stub_collector() as stub:
        stub.statuses, stub.more_headers = [status], {"Retry-After": "0"}
        collector = OtlpCollector(stub.url, {})
        with pytest.raises(ServiceError, match=f"answers with status {status}"):
            await collector.send(LOGS)
        assert await collector.send(LOGS) == 0


@pytest.mark.parametrize("status", [400, 401, 413, 500, 307])
@asynchronous
async def test_permanent_refusals_are_counted(status: int) -> None:
    with stub_collector() as stub:
        stub.statuses = [status]
        assert await OtlpCollector(stub.url, {}).send(LOGS) == 2


@pytest.mark.parametrize(
    ("body", "rejected"),
    [
        (b"", 0),
        (b"{}", 0),
        (b"no JSON", 0),
        (b"[]", 0),
        (b'{"partialSuccess": {}}', 0),
        (b'{"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "too old"}}', 1),
        (b'{"partialSuccess": {"rejectedLogRecords": 999}}', 2),
        (b'{"partialSuccess": {"rejectedLogRecords": -1}}', 0),
    ],
)
@asynchronous
async def test_some_records_may_be_rejected(body: bytes, rejected: int) -> None:
    with stub_collector() as stub:
        stub.body = body
        assert await OtlpCollector(stub.url, {}).send(LOGS) == rejected


@asynchronous
async def test_a_silent_collector_is_called_later() -> None:
    collector: Any = OtlpCollector(f"http://127.0.0.1:{free_port()}", {})
    with pytest.raises(ServiceError, match="does not answer"):
        await collector.send(LOGS)


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "start"), STARTS)
@asynchronous
async def test_collector_with_an_endless_answer_is_called_later(
    scheme: str, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with never_ending(monkeypatch, start) as address:
        collector = OtlpCollector(f"{scheme}://{address}", {})
        with pytest.raises(ServiceError, match="does not answer"):
            await collector.send(LOGS)
