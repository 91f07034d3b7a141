"""The session of a browser, and the calls that forward other parts' answers."""

from __future__ import annotations

from http.cookies import SimpleCookie

import pytest

from opentrail.core.version import __version__
from tests.api.browser import Browser
from tests.api.caller import send
from tests.factories import ACCOUNT, REGION, a_record
from tests.fakes import asynchronous


@asynchronous
async def test_a_link_opens_one_session_until_its_end() -> None:
    browser = Browser()
    link = {"token": browser.sessions.new_link()}
    browser.cookie = None
    answer = await browser.post("session", link)
    assert answer.status == 204
    cookie = SimpleCookie(answer.cookies)["ot-session"]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "strict")
    assert cookie["path"] == "/api/v1", "other ports of this host do not get it"
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
async def test_cloudtrail_operations_return_and_are_recorded() -> None:
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
async def test_session_offers_the_accounts_and_regions_of_events() -> None:
    browser = Browser()
    await browser.api.record([a_record(awsRegion="eu-west-3", recipientAccountId="1" * 12)])
    session = (await browser.get("session")).json
    assert session["accounts"] == ["1" * 12, ACCOUNT]
    assert session["regions"] == ["eu-west-3", REGION]


@pytest.mark.parametrize("path", ["/", "/console"])
@asynchronous
async def test_addresses_that_people_type_lead_to_the_console(path: str) -> None:
    browser = Browser()
    answer = await send(browser.app, "GET", path, browser.headers(accept="text/html"))
    assert (answer.status, answer.headers["location"]) == (307, "/console/")
