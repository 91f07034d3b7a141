"""ASGI applications in CloudTrail records."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from opentrail.capture.in_process import AsgiRecorder
from opentrail.core.errors import RecordRefused
from tests.capture.in_process.shop import SOURCE, Collector, ask, orders


def test_answer_and_application_errors_are_recorded() -> None:
    found = Collector()
    app = AsgiRecorder(orders, SOURCE, found)
    ask(app, "GET", "/orders")
    with pytest.raises(ValueError, match="broken"):
        ask(app, "DELETE", "/orders")
    assert [r["errorCode"] for r in found.records] == ["NotFound", "InternalServerError"]
    assert [r["readOnly"] for r in found.records] == [True, False]


def test_an_answer_does_not_end_without_its_record() -> None:
    found = Collector()
    found.broken = True
    with pytest.raises(RecordRefused):
        ask(AsgiRecorder(orders, SOURCE, found), "POST", "/orders")


def test_an_incomplete_answer_is_recorded() -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        if scope["method"] == "POST":
            raise asyncio.CancelledError

    found = Collector()
    ask(AsgiRecorder(half, SOURCE, found), "GET", "/orders")
    with pytest.raises(asyncio.CancelledError):
        ask(AsgiRecorder(half, SOURCE, found), "POST", "/orders")
    assert [r["errorCode"] for r in found.records] == ["InternalServerError", "ClientDisconnected"]
    assert [r["errorMessage"] for r in found.records] == [
        "the application ended without a whole answer",
        "the client went away, or the server stopped",
    ]


@pytest.mark.parametrize(
    ("received", "code"),
    [
        ([{"type": "http.request", "body": b"ab", "more_body": True}], "IncompleteBody"),
        ([{"type": "http.request", "body": b"ab"}], "ClientDisconnected"),
        ([], "IncompleteBody"),
    ],
)
def test_a_client_that_left_made_no_successful_call(received: list[Any], code: str) -> None:
    """Even if the application answers as if it had received the whole body."""

    async def careless(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"stored"})

    messages = [*received, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(_message: Any) -> None:
        return

    found = Collector()
    scope = {"type": "http", "method": "POST", "path": "/orders", "headers": []}
    asyncio.run(AsgiRecorder(careless, SOURCE, found)(scope, receive, send))
    (record,) = found.records
    assert record["errorCode"] == code
    assert record["errorMessage"].startswith("the client")


def test_a_file_as_answer_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "report.pdf"
    file.write_bytes(b"12345")

    async def sends(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": str(file)})

    found = Collector()
    ask(AsgiRecorder(sends, "orders.example.com", found), "GET", "/report")
    (record,) = found.records
    assert "opentrail" not in record.get("additionalEventData", {})


def test_other_scopes_pass() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(AsgiRecorder(app, SOURCE, Collector())({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]
