"""One's own API in CloudTrail records."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.capture.middleware import AsgiRecorder, Seen, WsgiRecorder, default_name
from opentrail.core.errors import RecordRefused, UsageError

SOURCE = "orders.example.com"


class Collector:
    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.broken = False

    def ship(self, record: bytes) -> None:
        if self.broken:
            raise RecordRefused("no room")
        self.records.append(json.loads(record))


async def orders(scope: Any, receive: Any, send: Any) -> None:
    """Answers 201 in two pieces, 404 to GET, and fails on DELETE."""
    while (await receive()).get("more_body"):
        pass
    if scope["method"] == "DELETE":
        raise ValueError("broken")
    status = 404 if scope["method"] == "GET" else 201
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"X-Request-Id", b"r1")]}
    )
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"b"})


def ask(app: Any, method: str, path: str, body: bytes = b"", query: bytes = b"") -> list[Any]:
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [(b"content-type", b"application/json"), (b"User-Agent", b"shop/1.0")],
        "client": ("192.0.2.9", 5),
    }
    pieces = [body[:5], body[5:]]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def test_a_request_becomes_a_record_of_its_own_source() -> None:
    found = Collector()
    app = AsgiRecorder(
        orders,
        SOURCE,
        found,
        identify=lambda seen: {"type": "IAMUser", "userName": seen.headers["user-agent"]},
    )
    body = json.dumps({"item": "book", "cardPassword": "hunter22", "n": [1, {"authToken": "t"}]})
    sent = ask(app, "POST", "/orders/17/items", body.encode(), b"dry=1&access_token=zzz")
    assert [m["type"] for m in sent] == ["http.response.start", *["http.response.body"] * 2]
    (record,) = found.records
    assert record["eventSource"] == SOURCE
    assert record["eventName"] == "PostOrdersItems"
    assert record["userIdentity"]["userName"] == "shop/1.0"
    assert record["sourceIPAddress"] == "192.0.2.9"
    assert record["readOnly"] is False
    assert record["requestID"] == "r1"
    parameters = record["requestParameters"]
    assert parameters["path"] == "/orders/17/items"
    assert parameters["body"]["item"] == "book"
    assert parameters["query"]["dry"] == "1"
    for secret in ("hunter22", "zzz", '"t"'):
        assert secret not in json.dumps(record)


def test_errors_of_answers_and_of_the_application_are_told() -> None:
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


def test_an_answer_that_is_never_complete_is_recorded() -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        if scope["method"] == "POST":
            raise asyncio.CancelledError

    found = Collector()
    ask(AsgiRecorder(half, SOURCE, found), "GET", "/orders")
    with pytest.raises(asyncio.CancelledError):
        ask(AsgiRecorder(half, SOURCE, found), "POST", "/orders")
    failures = [r["additionalEventData"]["opentrail"]["failure"] for r in found.records]
    assert failures == [
        "the application ended without a whole answer",
        "the client went away, or the server stopped",
    ]


def test_what_is_too_large_is_marked_as_in_any_record() -> None:
    found = Collector()
    app = AsgiRecorder(orders, SOURCE, found)
    ask(app, "POST", "/orders", json.dumps({"note": "x" * 200_000}).encode())
    ask(app, "POST", "/orders", json.dumps({"note": "x" * 2_000_000}).encode())
    long, longer = (record["requestParameters"] for record in found.records)
    assert long["omitted"] is True
    assert long["originalSize"] > 200_000
    assert "body" not in longer
    assert longer["bodyBytes"] > 2_000_000


def test_a_request_that_cannot_be_described_is_recorded() -> None:
    def identify(_seen: Seen) -> dict[str, Any]:
        raise KeyError("no session")

    found = Collector()
    ask(AsgiRecorder(orders, SOURCE, found, identify=identify), "POST", "/orders")
    (record,) = found.records
    assert record["userIdentity"]["type"] == "Unknown"
    assert record["additionalEventData"]["opentrail"] == {"undescribed": "KeyError"}


@pytest.mark.parametrize("told", [None, "", 5, b"Name"])
@pytest.mark.parametrize("option", ["describe", "identify"])
def test_a_request_that_is_described_by_nonsense_is_recorded(option: str, told: Any) -> None:
    found = Collector()
    app = AsgiRecorder(orders, "orders.example.com", found, **{option: lambda _seen: told})
    ask(app, "POST", "/orders/17", b"{}")
    (record,) = found.records
    assert record["eventName"] == "PostOrders"
    assert record["userIdentity"]["type"] == "Unknown"
    assert record["additionalEventData"]["opentrail"]["undescribed"] == "TypeError"


def test_secrets_of_ones_own_api_are_hidden() -> None:
    found = Collector()
    app = AsgiRecorder(orders, "orders.example.com", found)
    names = ("token", "secret", "api_key", "apiKey", "pwd", "passwd", "pin", "otp", "authorization")
    body = json.dumps(dict.fromkeys(names, "CANARY-1")).encode()
    query = "&".join(f"{name}=CANARY-1" for name in names).encode()
    ask(app, "POST", "/reset;password=CANARY-1", body, query)
    assert "CANARY-1" not in json.dumps(found.records)


def test_an_answer_that_is_a_file_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "report.pdf"
    file.write_bytes(b"12345")

    async def sends(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": str(file)})

    found = Collector()
    ask(AsgiRecorder(sends, "orders.example.com", found), "GET", "/report")
    (record,) = found.records
    assert "opentrail" not in record.get("additionalEventData", {})


def test_a_path_is_text_in_wsgi_too() -> None:
    found = Collector()

    def shop(environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [])
        return [b""]

    wsgi(WsgiRecorder(shop, "orders.example.com", found), "POST", "/orders/Ã©")
    assert found.records[0]["requestParameters"]["path"] == "/orders/é"


def test_an_answer_that_is_written_ends_with_its_record() -> None:
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


def test_a_name_of_awss_teaches_nothing() -> None:
    """An operation of one's own may be called as STS's are."""
    found = Collector()
    app = AsgiRecorder(orders, SOURCE, found, describe=lambda _: "AssumeRoleWithWebIdentity")
    ask(app, "POST", "/", json.dumps({"webIdentityToken": "a.b.c"}).encode())
    assert found.records[0]["userIdentity"]["type"] == "Unknown"
    assert found.records[0]["eventName"] == "AssumeRoleWithWebIdentity"


def test_other_scopes_pass() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(AsgiRecorder(app, SOURCE, Collector())({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]


def wsgi(app: Any, method: str, path: str, body: bytes = b"") -> tuple[list[str], bytes]:
    statuses: list[str] = []
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": str(len(body)),
        "REMOTE_ADDR": "192.0.2.9",
        "HTTP_USER_AGENT": "shop/1.0",
        "wsgi.input": io.BytesIO(body),
    }
    written: list[bytes] = []

    def start(status: str, _headers: Any, *_rest: Any) -> Any:
        statuses.append(status)
        return written.append

    answer = b"".join(app(environ, start))
    return statuses, b"".join(written) + answer


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


def test_a_wsgi_answer_that_nobody_reads_to_its_end_is_recorded() -> None:
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
    assert record["additionalEventData"]["opentrail"]["failure"] == "the client went away"
    assert record["requestParameters"]["bodyBytes"] == 7
    assert closed


@pytest.mark.parametrize("source", ["iam.amazonaws.com", "orders", "", "a b.c", "x.amazonaws.com"])
def test_a_source_must_be_a_domain_of_ones_own(source: str) -> None:
    with pytest.raises(UsageError, match="event_source"):
        AsgiRecorder(orders, source, Collector())


@pytest.mark.hypothesis
@given(st.text(max_size=60))
def test_any_path_has_a_name(path: str) -> None:
    name = default_name(Seen("GET", path))
    assert name.startswith("Get")
    assert len(name.split()) == 1
