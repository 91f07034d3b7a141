"""A webhook over HTTP: the requests, and the meaning of its answers."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from opentrail.adapters.outgoing_http import HttpWebhook, _reached
from opentrail.core.errors import ServiceError
from tests.adapters.test_deadline import STARTS, never_ending
from tests.fakes import asynchronous
from tests.live.processes import free_port
from tests.serving import serving

LOOPBACK = ("127.0.0.0/8",)


class Stub:
    """The received requests, and the statuses of the next answers; 204 follows."""

    def __init__(self) -> None:
        self.url = ""
        self.statuses: list[int] = []
        self.came: list[tuple[str, dict[str, str], bytes]] = []


@contextmanager
def stub_webhook() -> Iterator[Stub]:
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            stub.came.append((self.path, dict(self.headers), body))
            self.send_response(stub.statuses.pop(0) if stub.statuses else 204)
            self.send_header("Location", stub.url)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield stub


@asynchronous
async def test_event_is_sent_with_id_and_signature() -> None:
    with stub_webhook() as stub:
        webhook = HttpWebhook(f"{stub.url}/hook?a=b", "s3cret", LOOPBACK)
        assert await webhook.send("an-id", b'{"a":1}')
    [(path, headers, body)] = stub.came
    assert (path, body) == ("/hook?a=b", b'{"a":1}')
    assert headers["Host"] == stub.url.removeprefix("http://")
    assert headers["X-Opentrail-Event-Id"] == "an-id"
    signed = headers["X-Opentrail-Timestamp"].encode() + b"." + body
    digest = hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
    assert headers["X-Opentrail-Signature"] == f"sha256={digest}"


@asynchronous
async def test_without_a_secret_requests_are_unsigned() -> None:
    with stub_webhook() as stub:
        assert await HttpWebhook(stub.url, None, LOOPBACK).send("an-id", b"{}")
    assert "X-Opentrail-Signature" not in stub.came[0][1]


@pytest.mark.parametrize("status", [302, 401, 404, 408, 429, 500, 503])
@asynchronous
async def test_temporary_refusals_are_retried(status: int) -> None:
    with stub_webhook() as stub:
        stub.statuses = [status]
        webhook = HttpWebhook(stub.url, None, LOOPBACK)
        with pytest.raises(ServiceError, match=f"answers with status {status}"):
            await webhook.send("an-id", b"{}")
        assert len(stub.came) == 1, "a redirect is not followed"
        assert await webhook.send("an-id", b"{}")


@pytest.mark.parametrize("status", [400, 413, 415, 422])
@asynchronous
async def test_refused_content_is_not_resent(status: int) -> None:
    with stub_webhook() as stub:
        stub.statuses = [status]
        assert not await HttpWebhook(stub.url, None, LOOPBACK).send("an-id", b"{}")


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.1.2.3", "169.254.169.254"),
        *("[fd00::1]", "0.0.0.0", "100.64.0.1", "224.0.0.1", "[64:ff9b::a9fe:a9fe]"),  # noqa: S104
        *("2130706433", "[64:ff9b:1::a00:1]", "[fec0::1]", "[::a00:1]", "192.0.0.8"),
        *("198.18.0.1", "203.0.113.9", "255.255.255.255", "[2001:db8::1]", "[3fff::1]"),
        *("[2002:a00:1::]", "[2001:2::1]"),
    ],
)
@asynchronous
async def test_private_addresses_get_no_requests(host: str) -> None:
    with pytest.raises(ServiceError, match="which is not an address of the internet"):
        await HttpWebhook(f"http://{host}:9/", None, ("192.168.0.0/16",)).send("an-id", b"{}")


@asynchronous
async def test_a_silent_webhook_times_out() -> None:
    closed = HttpWebhook(f"http://127.0.0.1:{free_port()}", None, LOOPBACK)
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1 does not answer"):
        await closed.send("an-id", b"{}")
    with stub_webhook() as stub:
        webhook = HttpWebhook(stub.url.replace("http", "https"), None, LOOPBACK)
        with pytest.raises(ServiceError, match="does not answer: SSL"):
            await webhook.send("an-id", b"{}")


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "start"), STARTS)
@asynchronous
async def test_a_webhook_with_an_endless_answer_times_out(
    scheme: str, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with never_ending(monkeypatch, start) as address:
        webhook = HttpWebhook(f"{scheme}://{address}", None, LOOPBACK)
        with pytest.raises(ServiceError, match="does not answer"):
            await webhook.send("an-id", b"{}")


def test_an_address_that_leads_to_another_is_that() -> None:
    for text, reached in (
        ("2002:0a00:0001::", "10.0.0.1"),
        ("64:ff9b::10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::1"),
    ):
        assert _reached(ipaddress.ip_address(text)) == ipaddress.ip_address(reached)
