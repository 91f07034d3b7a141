"""Event history without scripts: what text browsers get, and what they may send."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.api.browser import HOST, Browser
from tests.api.caller import Answer, send
from tests.factories import a_record, an_iam_user
from tests.fakes import asynchronous

HOSTILE = '"><script>alert(1)</script>\u202e\x1b[31m'


def plain(browser: Browser) -> dict[str, str]:
    """Returns the headers of a browser without scripts."""
    sent = {"host": HOST, "accept": "text/html"}
    return sent | ({"cookie": f"ot-session={browser.cookie}"} if browser.cookie else {})


async def get(browser: Browser, path: str = "", **query: str) -> Answer:
    target = f"/console/plain{path}?{urlencode(query)}"
    return await send(browser.app, "GET", target, plain(browser))


async def open_link(browser: Browser, link: str, **headers: str) -> Answer:
    sent = {**plain(browser), "content-type": "application/x-www-form-urlencoded"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    body = urlencode({"link": link}).encode()
    return await send(browser.app, "POST", "/console/plain/session", sent, body)


def text(answer: Answer) -> str:
    """Returns the words of a page."""
    return unescape(re.sub(r"<[^>]+>", " ", answer.body.decode()))


async def with_events(count: int = 1, **changes: Any) -> Browser:
    browser = Browser()
    made = [
        a_record(
            eventID=f"event-{number}",
            eventTime=f"2020-01-01T09:{number // 60:02}:{number % 60:02}Z",
            **{
                "eventName": "CreateUser",
                "userIdentity": an_iam_user("John"),
                "requestParameters": {"userName": f"Mary{number}"},
                **changes,
            },
        )
        for number in range(count)
    ]
    await browser.api.record(made)
    return browser


@asynchronous
async def test_event_history_is_a_form_and_a_table() -> None:
    browser = await with_events()
    answer = await get(browser, q="eventName=CreateUser", since="2020-01-01")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    page = answer.body.decode()
    assert 'name=q value="eventName=CreateUser"' in page
    assert "2020-01-01 09:00:00" in text(answer)
    assert "IAM user John created IAM user Mary0" in text(answer)
    assert "✔ Success" in text(answer)
    none = await get(browser, q="eventName=DeleteUser")
    assert "No events." in text(none)


@asynchronous
async def test_a_page_has_no_script_and_its_policy_allows_none() -> None:
    browser = await with_events()
    for path in ("", "/events/event-0", "/events/none"):
        answer = await get(browser, path)
        policy = answer.headers["content-security-policy"]
        assert "script-src" not in policy
        assert policy.startswith("default-src 'none'; style-src 'self'")
        assert "form-action 'self'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        page = answer.body.decode()
        assert "<script" not in page
        assert not re.search(r"\s(style|on\w+)=", page)


@asynchronous
async def test_older_pages_follow_by_their_links_until_all_was_shown_once() -> None:
    browser = await with_events(120)
    seen: list[str] = []
    link: str | None = "/console/plain?q=is%3Awrite&since=2020-01-01"
    while link:
        answer = await send(browser.app, "GET", link, plain(browser))
        seen += re.findall(r"Mary(\d+)", text(answer))
        found = re.search(r'href="([^"]+)">Older', answer.body.decode())
        link = unescape(found[1]) if found else None
        if link:
            assert "since=2020-01-01" in link
    assert seen == [str(number) for number in reversed(range(120))]
    assert ">Newest<" in answer.body.decode()


@asynchronous
async def test_an_event_s_page_has_its_sentence_and_its_record() -> None:
    large = 12345678901234567890123
    parameters = {"userName": "Mary", "number": large}
    browser = await with_events(requestParameters=parameters, userAgent="console.amazonaws.com")
    answer = await get(browser, "/events/event-0")
    words = text(answer)
    assert "On January 1, 2020 at 9:00 AM UTC, IAM user John created IAM user Mary" in words
    assert f'"number": {large}' in words
    assert "AWS::IAM::User" in words
    missing = await get(browser, "/events/none")
    assert (missing.status, "event none not found" in text(missing)) == (404, True)


@asynchronous
async def test_texts_of_records_are_texts() -> None:
    browser = await with_events(
        userIdentity=an_iam_user(HOSTILE),
        requestParameters={"userName": HOSTILE, HOSTILE: HOSTILE},
        sourceIPAddress=HOSTILE,
        userAgent=HOSTILE,
        errorCode=HOSTILE,
    )
    for path in ("", "/events/event-0"):
        answer = await get(browser, path)
        page = answer.body.decode()
        assert "<script>" not in page
        assert "\u202e" not in page
        assert "\x1b" not in page
        assert "\\u202e" in page
    hostile = await get(browser, q=f'name="{HOSTILE}"', since='"><script>', account='"><script>')
    assert "<script>" not in hostile.body.decode()


@asynchronous
async def test_a_search_that_is_not_valid_keeps_its_form() -> None:
    answer = await get(await with_events(), q="user=(", until="2020-02-01")
    assert answer.status == 400
    assert 'value="user=("' in answer.body.decode()
    assert 'value="2020-02-01"' in answer.body.decode()
    assert "role=alert" in answer.body.decode()


@asynchronous
async def test_reads_are_hidden_until_the_field_is_emptied() -> None:
    browser = await with_events(readOnly=True, eventName="ListUsers")
    assert "No events." in text(await get(browser))
    assert "John" in text(await get(browser, q=""))


@pytest.mark.parametrize("form", ["{}", "http://127.0.0.1:4748/console/#t={}"])
@asynchronous
async def test_a_pasted_link_opens_a_session(form: str) -> None:
    browser = await with_events()
    browser.cookie = None
    refused = await get(browser)
    assert refused.status == 401
    assert "opentrail console" in text(refused)
    assert 'action="/console/plain/session"' in refused.body.decode()
    link = form.format(browser.sessions.new_link())
    answer = await open_link(browser, link, sec_fetch_site="same-origin", origin="null")
    assert (answer.status, answer.headers["location"]) == (303, "/console/plain")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    browser.cookie = cookie.partition(";")[0].removeprefix("ot-session=")
    assert (await get(browser)).status == 200
    again = await open_link(browser, link)
    assert (again.status, "was used or is too old" in text(again)) == (401, True)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        ({"origin": f"http://{HOST}"}, 303),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null", "sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/json"}, 415),
        ({"host": "evil.example"}, 421),
    ],
)
@asynchronous
async def test_a_form_of_another_page_is_refused_and_its_link_stays_good(
    headers: dict[str, str], status: int
) -> None:
    browser = Browser()
    link = browser.sessions.new_link()
    answer = await open_link(browser, link, **headers)
    assert answer.status == status
    assert (await browser.sessions.begin(link) is None) == (status == 303)


@asynchronous
async def test_a_form_that_is_too_large_is_refused() -> None:
    assert (await open_link(Browser(), "x" * 10_001)).status == 413
