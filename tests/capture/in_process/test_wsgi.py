"""WSGI applications in CloudTrail records."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from opentrail.capture.in_process import WsgiRecorder
from tests.capture.in_process.shop import SOURCE, Collector, wsgi


def test_a_wsgi_path_is_also_text() -> None:
    found = Collector()

    def shop(environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [])
        return [b""]

    wsgi(WsgiRecorder(shop, "orders.example.com", found), "POST", "/orders/Ã©")
    assert found.records[0]["requestParameters"]["path"] == "/orders/é"


def test_a_written_answer_ends_with_its_record() -> None:
    found = Collector()
    before: list[int] = []

    def shop(environ: Any, start: Any) -> list[bytes]:
        write = start("200 OK", [])
        write(b"one ")
        write(b"two ")
        before.append(len(found.records))
        return [b"three"]

    _, body = wsgi(WsgiRecorder(shop, "orders.example.com", found), "GET", "/orders")
    assert body == b"one two three"
    assert before == [0]
    assert len(found.records) == 1


def test_wsgi_applications_are_recorded_alike() -> None:
    found = Collector()

    def shop(environ: Any, start: Any) -> list[bytes]:
        assert environ["wsgi.input"].read() == b"item=book&password=hunter22"
        start("201 Created", [("X-Request-Id", "r2")])
        return [b"one", b"two"]

    app = WsgiRecorder(shop, SOURCE, found)
    statuses, body = wsgi(app, "POST", "/orders", b"item=book&password=hunter22")
    assert (statuses, body) == (["201 Created"], b"onetwo")
    (record,) = found.records
    assert record["eventName"] == "PostOrders"
    assert record["requestParameters"]["body"]["item"] == "book"
    assert "hunter22" not in json.dumps(record)
    assert "errorCode" not in record


def test_a_wsgi_application_that_fails_is_recorded() -> None:
    found = Collector()

    def broken(environ: Any, start: Any) -> list[bytes]:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        wsgi(WsgiRecorder(broken, SOURCE, found), "GET", "/orders")
    assert found.records[0]["errorCode"] == "InternalServerError"


def test_a_partly_read_wsgi_answer_is_recorded() -> None:
    closed = []

    class Pieces(list[bytes]):
        def close(self) -> None:
            closed.append(True)

    def shop(environ: Any, start: Any) -> list[bytes]:
        assert list(environ["wsgi.input"]) == [b"a=1\n", b"b=2"]
        start("200 OK", [])
        return Pieces([b"one", b"two", b"three"])

    found = Collector()
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/orders",
        "CONTENT_TYPE": "text/plain",
        "wsgi.input": io.BytesIO(b"a=1\nb=2"),
    }
    answer = iter(WsgiRecorder(shop, SOURCE, found)(environ, lambda *_: None))
    assert next(answer) == b"one"
    answer.close()  # type: ignore[attr-defined]
    (record,) = found.records
    assert record["errorCode"] == "ClientDisconnected"
    assert record["errorMessage"] == "the client went away before its answer was complete"
    assert record["requestParameters"]["bodyBytes"] == 7
    assert closed


def read_all(body: Any) -> bytes:
    return bytes(body.read())


def read_some(body: Any) -> bytes:
    return bytes(body.read(100))


def read_lines(body: Any) -> bytes:
    return b"".join(body)


def read_lines_at_once(body: Any) -> bytes:
    return b"".join(body.readlines())


def read_line_by_line(body: Any) -> bytes:
    return b"".join(iter(body.readline, b""))


@pytest.mark.parametrize(
    "read", [read_all, read_some, read_lines, read_lines_at_once, read_line_by_line]
)
@pytest.mark.parametrize(("announced", "code"), [(7, None), (8, "IncompleteBody")])
def test_an_interrupted_wsgi_request_is_no_success(
    read: Callable[[Any], bytes], announced: int, code: str | None
) -> None:
    """Even if the application answers as if it had received the whole body."""

    def careless(environ: Any, start: Any) -> list[bytes]:
        assert read(environ["wsgi.input"]) == b"a=1\nb=2"
        start("201 Created", [])
        return [b"stored"]

    found = Collector()
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/orders",
        "CONTENT_LENGTH": str(announced),
        "wsgi.input": io.BytesIO(b"a=1\nb=2"),
    }
    assert b"".join(WsgiRecorder(careless, SOURCE, found)(environ, lambda *_: None)) == b"stored"
    (record,) = found.records
    assert record.get("errorCode") == code


def test_an_unread_wsgi_body_is_no_disconnect() -> None:
    def hasty(environ: Any, start: Any) -> list[bytes]:
        assert environ["wsgi.input"].read(3) == b"a=1"
        start("201 Created", [])
        return [b"stored"]

    found = Collector()
    statuses, _ = wsgi(WsgiRecorder(hasty, SOURCE, found), "POST", "/orders", b"a=1&b=2")
    assert statuses == ["201 Created"]
    assert "errorCode" not in found.records[0]
