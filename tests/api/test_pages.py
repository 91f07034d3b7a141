"""Answers where there is no page."""

from __future__ import annotations

import pytest

from tests.api.browser import Browser
from tests.api.caller import send
from tests.fakes import asynchronous


@pytest.mark.parametrize("path", ["/nothing", "/consoles/", "/favicon.ico/<b>"])
@asynchronous
async def test_an_unknown_page_links_to_the_console(path: str) -> None:
    browser = Browser()
    accept = "text/html,application/xhtml+xml,*/*;q=0.8"
    answer = await send(browser.app, "GET", path, browser.headers(accept=accept))
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src" not in answer.headers["content-security-policy"]
    assert b'<a href="/console/">' in answer.body
    assert b"<b>" not in answer.body


@pytest.mark.parametrize(
    ("method", "path", "accept", "status"),
    [
        ("GET", "/nothing", "*/*", 404),
        ("GET", "/api/v1/nothing", "text/html", 404),
        ("DELETE", "/console", "application/json", 405),
    ],
)
@asynchronous
async def test_other_clients_get_json_for_an_unknown_path(
    method: str, path: str, accept: str, status: int
) -> None:
    browser = Browser()
    answer = await send(browser.app, method, path, browser.headers(accept=accept))
    assert answer.status == status
    assert answer.json["error"].startswith(f"there is no {method} {path}")
