"""Only pages of the console itself may call, and only with a session."""

from __future__ import annotations

import pytest

from tests.api.browser import HOST, Browser
from tests.api.caller import send
from tests.fakes import asynchronous


@asynchronous
async def test_every_answer_has_the_security_headers() -> None:
    browser = Browser()
    for path in ("/console/", "/api/v1/session", "/api/v1/nothing", "/"):
        answer = await send(browser.app, "GET", path, browser.headers())
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'")
        assert "require-trusted-types-for 'script'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-request-id"]


@asynchronous
async def test_without_a_session_calls_are_refused_with_advice() -> None:
    browser = Browser()
    browser.cookie = None
    answer = await browser.get("events/rows")
    assert answer.status == 401
    assert answer.json["code"] == "NoSession"
    assert "opentrail console" in answer.json["error"]
    assert answer.json["requestId"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"x_ot_csrf": None}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": None}, 415),
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1:1"}, 421),
        ({"cookie": "ot-session=guessed"}, 401),
    ],
)
@asynchronous
async def test_cross_site_requests_are_refused(changes: dict[str, str | None], status: int) -> None:
    browser = Browser()
    answer = await browser.post("aws/DescribeTrails", {}, **changes)
    assert answer.status == status
    assert browser.api.calls == 0
    assert (await browser.post("aws/DescribeTrails", {})).status == 200


@asynchronous
async def test_a_page_of_another_host_is_not_served() -> None:
    browser = Browser()
    answer = await send(browser.app, "GET", "/console/", {"host": "rebound.example"})
    assert answer.status == 421
    assert (await send(browser.app, "GET", "/", {"host": HOST.upper()})).status == 307


@asynchronous
async def test_an_open_console_accepts_every_name() -> None:
    browser = Browser(is_own_name=None)
    for host in (HOST, "console.example", "console.example:443"):
        answer = await send(browser.app, "GET", "/", {"host": host}, scheme="https")
        assert answer.status == 307
