"""The session of a browser, and the calls that pass on what other parts answer."""

from __future__ import annotations

from http.cookies import SimpleCookie

import pytest

from opentrail.access.users import ConsoleRole
from opentrail.version import __version__
from tests.api.browser import Browser
from tests.api.caller import send
from tests.factories import ACCOUNT, REGION, a_record
from tests.fakes import asynchronous


@asynchronous
async def test_a_link_opens_a_session_once_until_it_is_ended() -> None:
    browser = Browser()
    link = {"token": browser.sessions.new_link()}
    browser.cookie = None
    answer = await browser.post("session", link)
    assert answer.status == 204
    paths = []
    for line in answer.cookies.split("; ot="):
        cookie = SimpleCookie(line if line.startswith("ot=") else f"ot={line}")["ot"]
        assert (cookie["httponly"], cookie["samesite"]) == (True, "strict")
        paths.append(cookie["path"])
    assert paths == ["/api/v1", "/console/plain"], "other ports of this host do not get it"
    again = await browser.post("session", link)
    assert (again.status, again.json["code"]) == (401, "InvalidToken")
    browser.cookie = cookie.value
    session = (await browser.get("session")).json
    assert (session["account"], session["region"]) == (ACCOUNT, REGION)
    assert session["version"] == __version__
    await send(browser.app, "DELETE", "/api/v1/session", browser.headers())
    assert (await browser.get("session")).status == 401


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"token": 5}', b'{"token": "\\ud800"}'])
@asynchronous
async def test_a_malformed_link_is_refused(body: bytes) -> None:
    assert (await Browser().post("session", body)).status in (400, 401)


@asynchronous
async def test_operations_of_the_cloudtrail_api_are_answered_and_recorded() -> None:
    browser = Browser()
    answer = await browser.post("aws/DescribeTrails", {})
    assert (answer.status, answer.json) == (200, {"trailList": []})
    (event,) = (await browser.get("events/rows")).json["events"]
    assert event["eventName"] == "DescribeTrails"


@asynchronous
async def test_errors_of_the_cloudtrail_api_keep_their_codes() -> None:
    answer = await Browser().post("aws/GetTrailStatus", {"Name": "none"})
    assert answer.status == 400
    assert answer.json["code"] == "TrailNotFoundException"
    assert "Unknown trail" in answer.json["error"]
    odd = await Browser().post("aws/Get%2FTrail", {})
    assert odd.status in (400, 404)


@asynchronous
async def test_health_says_what_is_recorded_and_how_soon_it_is_visible() -> None:
    browser = Browser()
    found = (await browser.get("health")).json
    assert (found["status"], found["degradations"]) == ("ok", [])
    assert (found["recorded"], found["visible"], found["events"]) == (7, 6, 16)
    assert found["freshness"] == {"p50Ms": None, "p99Ms": None}
    await browser.api.record([a_record()])
    assert (await browser.get("health")).json["freshness"]["p99Ms"] >= 0


@asynchronous
async def test_health_names_all_that_is_wrong() -> None:
    browser = Browser()
    browser.health["missing"] = ["position 3"]
    browser.health["journal"]["failure"] = "the disk is full"
    browser.health["history"]["responding"] = False
    browser.health["controlStore"]["failure"] = "the control store does not answer"
    assert (await browser.get("health")).json["degradations"] == [
        "event history lacks position 3",
        "calls are not recorded: the disk is full",
        "event history does not answer",
        "trails, keys and policies are not known: the control store does not answer",
    ]


@asynchronous
async def test_health_tells_a_user_of_some_accounts_nothing_of_others() -> None:
    browser = Browser()
    await browser.api.record([a_record(), a_record(recipientAccountId="1" * 12)])
    browser.health["missing"] = ["positions 3 to 4"]
    browser.become(ConsoleRole.VIEWER, "1" * 12)
    found = (await browser.get("health")).json
    assert (found["recorded"], found["visible"], found["events"]) == (1, 1, 1)
    assert found["degradations"] == ["event history lacks events"]


@asynchronous
async def test_a_session_offers_the_accounts_and_regions_of_events() -> None:
    browser = Browser()
    await browser.api.record([a_record(awsRegion="eu-west-3", recipientAccountId="1" * 12)])
    session = (await browser.get("session")).json
    assert session["accounts"] == ["1" * 12, ACCOUNT]
    assert session["regions"] == ["eu-west-3", REGION]


@pytest.mark.parametrize("path", ["/", "/console"])
@asynchronous
async def test_the_addresses_that_people_type_lead_to_the_console(path: str) -> None:
    browser = Browser()
    answer = await send(browser.app, "GET", path, browser.headers(accept="text/html"))
    assert (answer.status, answer.headers["location"]) == (307, "/console/")


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
