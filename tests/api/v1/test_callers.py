"""Valid callers: bearers of the token, and sessions."""

from __future__ import annotations

import pytest

from tests.api.browser import Browser
from tests.api.caller import TOKEN, filled, send
from tests.factories import (
    a_record,
)
from tests.fakes import asynchronous

EVENTS = "/api/v1/events"
WHO = "/api/v1/who"
FLUSH = "/api/v1/trails/flush"


@pytest.mark.parametrize("path", [EVENTS, WHO, FLUSH])
@pytest.mark.parametrize("token", [None, "", "wrong", "the-toke", "the-token2", "THE-TOKEN", "ö"])
@asynchronous
async def test_other_routes_need_the_token(path: str, token: str | None) -> None:
    api = await filled(a_record())
    answer = await api.ask(path, token, "POST" if path == FLUSH else "GET", resource="Mary")
    assert answer.status == 401
    assert set(answer.json) == {"error", "code", "requestId"}
    assert "Mary" not in answer.body.decode()


@asynchronous
async def test_a_proxys_password_is_not_a_token() -> None:
    """Browsers behind a proxy send it in the header of the token."""
    browser = Browser()
    basic = {"authorization": "Basic YW5uOnNlY3JldA=="}
    answer = await send(browser.app, "GET", "/api/v1/session", browser.headers() | basic)
    assert answer.status == 200
    browser.cookie = None
    answer = await send(browser.app, "GET", "/api/v1/session", browser.headers() | basic)
    assert (answer.status, answer.json["code"]) == (401, "NoSession")
    for scheme, status in (("Bearer", 200), ("bearer", 200), ("Basic", 401), ("", 401)):
        header = {"authorization": f"{scheme} {TOKEN}".strip()}
        answer = await send(browser.app, "GET", "/api/v1/trails", header)
        assert answer.status in (status, 421), scheme


@asynchronous
async def test_a_proxys_token_leaves_browsers_their_sessions() -> None:
    browser = Browser()
    foreign = {"authorization": "Bearer of-the-proxy"}
    answer = await send(browser.app, "GET", "/api/v1/session", browser.headers() | foreign)
    assert answer.status == 200
    # Then all checks of a page apply.
    answer = await send(
        browser.app, "POST", "/api/v1/aws/DescribeTrails", browser.headers(x_ot_csrf=None) | foreign
    )
    assert (answer.status, answer.json["code"]) == (403, "CrossOrigin")
    answer = await send(browser.app, "GET", "/api/v1/trails", foreign)
    assert (answer.status, answer.json["code"]) == (401, "InvalidToken")
