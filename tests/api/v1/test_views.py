"""Saved views: every user of the console sees them, and they survive a restart."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.api.browser import Browser
from tests.api.caller import Answer, Api, send
from tests.fakes import asynchronous

STATE = {"expression": "eventName=CreateUser", "last": "7d", "columns": "time,what"}


async def save(browser: Browser, name: str, state: Any, expected: Any = 0) -> Answer:
    return await browser.send("PUT", f"views/{quote(name)}", {"state": state, "expected": expected})


async def names(browser: Browser) -> list[str]:
    return [view["name"] for view in (await browser.get("views")).json["views"]]


@asynchronous
async def test_a_saved_view_survives_a_restart() -> None:
    first = Browser()
    saved = await save(first, "New users/2026 ünïcode", STATE)
    assert saved.status == 200, saved.body
    assert saved.json == {"name": "New users/2026 ünïcode", "version": 1, "state": STATE}
    second = Browser(Api(first.api.world.restarted()))
    assert (await second.get("views")).json == {"views": [saved.json]}


@asynchronous
async def test_statements_are_views() -> None:
    browser = Browser()
    state = {"statement": "SELECT 'é'\n" * 900}
    assert (await save(browser, "accents", state)).json["state"] == state
    assert (await browser.get("views")).json["views"][0]["state"] == state


@asynchronous
async def test_replacing_a_view_needs_its_current_version() -> None:
    browser = Browser()
    await save(browser, "mine", STATE)
    twice = await save(browser, "mine", STATE)
    assert (twice.status, twice.json["code"]) == (409, "ViewChanged")
    assert "already" in twice.json["error"]
    changed = {"expression": "is:failure"}
    assert (await save(browser, "mine", changed, 1)).json["version"] == 2
    late = await save(browser, "mine", STATE, 1)
    assert (late.status, late.json["code"]) == (409, "ViewChanged")
    (view,) = (await browser.get("views")).json["views"]
    assert (view["version"], view["state"]) == (2, changed)


@asynchronous
async def test_a_deleted_view_frees_its_name() -> None:
    browser = Browser()
    await save(browser, "a", STATE)
    await save(browser, "b", STATE)
    assert (await browser.send("DELETE", "views/a")).status == 200
    assert await names(browser) == ["b"]
    assert (await save(browser, "a", STATE, 1)).status == 409
    assert (await save(browser, "a", STATE)).status == 200
    assert (await browser.send("DELETE", "views/not-there")).status == 200


@pytest.mark.parametrize(
    "name", ["", " ", "a\u200bb", "tab\tin it", "x" * 129, " padded", "\x1b", ".."]
)
@asynchronous
async def test_a_name_must_be_visible(name: str) -> None:
    answer = await save(Browser(), name, STATE)
    assert answer.status == 400
    assert "name must have 1 to 128 visible characters" in answer.json["error"]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"expression": "user=("}, "state.expression: "),
        ({"since": "soon"}, "state.since: "),
        ({"until": "2020-13-01"}, "state.until: "),
        ({"last": "a week"}, "state.last must be a length such as 15m"),
        ({"last": "7d", "since": "2020-01-01"}, "state.last excludes state.since"),
        ({"columns": "time;drop"}, "state.columns must be"),
        ({"categories": "some"}, "state.categories must be all"),
        ({"expression": 7}, "state.expression must be a string, not 7"),
        ({"expression": json.loads("[" * 300 + "]" * 300)}, "state.expression must be a string"),
        ({"theme": "dark"}, "there is no member state.theme"),
        ({"expression": "x" * 4_000}, "state must have at most 4000 bytes"),
        ([], "state must be a JSON object"),
        ({"statement": " "}, "state.statement must have 1 to 10000 characters"),
        ({"statement": "x" * 10_001}, "state.statement must have 1 to 10000 characters"),
        ({"statement": "SELECT 1", "last": "7d"}, "state.statement excludes state.last"),
    ],
)
@asynchronous
async def test_state_problems_are_named(state: Any, message: str) -> None:
    browser = Browser()
    answer = await save(browser, "mine", state)
    assert answer.status == 400
    assert message in answer.json["error"]
    assert await names(browser) == []


@pytest.mark.parametrize("expected", [None, -1, "1", True, 1.5])
@asynchronous
async def test_a_replacement_needs_the_replaced_version(expected: Any) -> None:
    answer = await save(Browser(), "mine", STATE, expected)
    assert "expected must be the version that is replaced" in answer.json["error"]


@asynchronous
async def test_a_hundred_views_can_still_be_replaced() -> None:
    browser = Browser()
    for number in range(100):
        assert (await save(browser, f"view {number}", STATE)).status == 200
    one_more = await save(browser, "one more", STATE)
    assert (one_more.status, one_more.json["code"]) == (400, "TooManyViews")
    assert (await save(browser, "view 7", {}, 1)).status == 200


@asynchronous
async def test_views_need_a_session_and_the_consoles_page() -> None:
    browser = Browser()
    refused = await send(
        browser.app, "PUT", "/api/v1/views/x", browser.headers(x_ot_csrf=None), b"{}"
    )
    assert refused.status == 403
    browser.cookie = None
    assert (await browser.get("views")).status == 401
    assert (await save(browser, "mine", STATE)).status == 401
