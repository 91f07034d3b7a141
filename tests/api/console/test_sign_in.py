"""Signing in by name and password, and the record of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http.cookies import SimpleCookie
from typing import Any

import pytest

from opentrail.access.users import ConsoleRole
from opentrail.api.console.sessions import MAX_IDLE
from opentrail.core.attributes import attributes_of
from opentrail.core.event import NewEntry, refusal
from opentrail.who.sentence import CONSOLE_AGENT, sentence
from tests.api.browser import AGENT, HOST, Browser
from tests.api.caller import Answer, send
from tests.factories import ACCOUNT
from tests.fakes import asynchronous

OWN = "correct horse battery"
HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"


async def with_user(
    role: ConsoleRole = ConsoleRole.AUDITOR, accounts: list[str] | None = None
) -> Browser:
    """Returns a browser without a session; `ann` has chosen her password."""
    browser = Browser()
    _, once = await browser.users.create("ann", role, accounts)
    await browser.users.sign_in("ann", once, "192.0.2.1", OWN)
    browser.cookie = None
    return browser


async def login(browser: Browser, password: str = OWN, name: str = "ann", **more: Any) -> Answer:
    """Signs in; the browser keeps its new cookie."""
    answer = await browser.post("login", {"name": name, "password": password, **more})
    if "set-cookie" in answer.headers:
        browser.cookie = SimpleCookie(answer.headers["set-cookie"])["ot-session"].value
    return answer


def records(browser: Browser) -> list[dict[str, Any]]:
    return [json.loads(entry.record) for entry in browser.api.world.entries]


@asynchronous
async def test_a_user_signs_in_and_out() -> None:
    browser = await with_user()
    assert (await login(browser)).status == 204
    session = (await browser.get("session")).json
    assert (session["user"], session["role"]) == ("ann", "auditor")
    ended = await browser.send("DELETE", "session")
    assert 'ot-session=""' in ended.headers["set-cookie"]
    assert (await browser.get("session")).status == 401


@asynchronous
async def test_each_sign_in_replaces_the_browsers_session() -> None:
    browser = await with_user()
    await login(browser)
    former = browser.cookie
    await login(browser)
    assert browser.cookie != former
    assert (await browser.get("session")).status == 200
    browser.cookie = former
    assert (await browser.get("session")).status == 401


@asynchronous
async def test_a_session_chosen_by_another_is_refused() -> None:
    browser = await with_user()
    browser.cookie = "chosen-by-an-attacker"
    await login(browser)
    assert browser.cookie != "chosen-by-an-attacker"


@asynchronous
async def test_a_sign_in_is_recorded_like_awss() -> None:
    browser = await with_user()
    await login(browser)
    (record,) = records(browser)
    identity = record.pop("userIdentity")
    assert identity.pop("principalId").startswith("AIDA")
    assert identity == {
        "type": "IAMUser",
        "arn": f"arn:aws:iam::{ACCOUNT}:user/opentrail/ann",
        "accountId": ACCOUNT,
        "userName": "ann",
    }
    del record["eventID"], record["eventTime"]
    assert record == {
        "eventVersion": "1.11",
        "eventSource": "signin.amazonaws.com",
        "eventName": "ConsoleLogin",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "192.0.2.10",
        "userAgent": f"{AGENT} {CONSOLE_AGENT}",
        "requestParameters": None,
        "responseElements": {"ConsoleLogin": "Success"},
        "additionalEventData": {
            "LoginTo": f"http://{HOST}/console/",
            "MobileVersion": "No",
            "MFAUsed": "No",
        },
        "readOnly": False,
        "eventType": "AwsConsoleSignIn",
        "managementEvent": True,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Management",
    }


@asynchronous
async def test_failed_sign_in_is_recorded_without_unknown_names() -> None:
    browser = await with_user()
    wrong = await login(browser, "wrong")
    unknown = await login(browser, "wrong", name="my-secret-password")
    assert (wrong.status, wrong.json["code"]) == (401, "SignInRefused")
    assert wrong.json["error"] == unknown.json["error"]
    assert browser.cookie is None
    known, hidden = records(browser)
    assert known["errorMessage"] == "Failed authentication"
    assert known["responseElements"] == {"ConsoleLogin": "Failure"}
    assert known["userIdentity"]["userName"] == "ann"
    assert hidden["errorMessage"] == "No username found in supplied account"
    assert hidden["userIdentity"] == {
        "type": "IAMUser",
        "accountId": ACCOUNT,
        "userName": HIDDEN,
    }
    assert "my-secret-password" not in json.dumps(hidden)
    assert refusal(known) == "Failed authentication"
    assert attributes_of(known).username == "ann"
    assert "ann" in sentence(known)


@asynchronous
async def test_the_sixth_attempt_in_a_minute_is_refused() -> None:
    browser = await with_user()
    for _ in range(5):
        await login(browser, "wrong")
    refused = await login(browser)
    assert (refused.status, refused.json["code"]) == (429, "TooManyTries")
    assert len(records(browser)) == 5
    browser.api.world.clock.advance(60)
    assert (await login(browser)).status == 204


@asynchronous
async def test_the_first_sign_in_changes_the_password() -> None:
    browser = Browser()
    browser.cookie = None
    _, once = await browser.users.create("ann", ConsoleRole.VIEWER)
    needed = await login(browser, once)
    assert (needed.status, needed.json["code"]) == (403, "PasswordChangeNeeded")
    assert browser.cookie is None
    short = await login(browser, once, newPassword="short")
    assert (short.status, "12 to 1024" in short.json["error"]) == (400, True)
    assert (await login(browser, once, newPassword=OWN)).status == 204
    assert (await browser.get("events/rows")).status == 200
    assert (await login(browser, once)).status == 401


@asynchronous
async def test_no_session_begins_before_it_is_recorded() -> None:
    browser = await with_user()
    browser.api.world.journal.failure = "the disk is full"
    answer = await login(browser)
    assert answer.status == 503
    assert browser.cookie is None


@asynchronous
async def test_a_new_password_signs_other_browsers_out() -> None:
    browser = await with_user()
    await login(browser)
    other = browser.cookie
    browser.cookie = None
    await login(browser)
    given = {"password": "wrong", "newPassword": OWN + "!"}
    assert (await browser.post("password", given)).status == 401
    changed = await browser.post("password", {**given, "password": OWN})
    assert changed.status == 204
    for old in (other, browser.cookie):
        browser.cookie = old
        assert (await browser.get("session")).status == 401
    browser.cookie = SimpleCookie(changed.headers["set-cookie"])["ot-session"].value
    assert (await browser.get("session")).status == 200
    lacking = await browser.post("password", {"password": OWN + "!"})
    assert (lacking.status, lacking.json["error"]) == (400, "newPassword must be a string")
    browser.open_link()
    assert (await browser.post("password", given)).status == 400


@pytest.mark.parametrize("action", ["disable", "reset_password", "delete"])
@asynchronous
async def test_administrators_change_ends_a_sign_in_under_way(
    action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await with_user()
    journal = browser.api.world.journal
    append = journal.append

    async def act_first(entries: Sequence[NewEntry]) -> int:
        await getattr(browser.users, action)("ann")
        return await append(entries)

    monkeypatch.setattr(journal, "append", act_first)
    answer = await login(browser)
    assert (answer.status, answer.json["code"]) == (401, "SignInRefused")
    assert browser.cookie is None


@asynchronous
async def test_an_unrecorded_new_password_still_ends_other_sessions() -> None:
    browser = await with_user()
    await login(browser)
    browser.api.world.journal.failure = "the disk is full"
    given = {"password": OWN, "newPassword": OWN + "!"}
    assert (await browser.post("password", given)).status == 503
    assert (await browser.get("session")).status == 401


@pytest.mark.parametrize("action", ["disable", "reset-password", "delete"])
@asynchronous
async def test_an_administrator_ends_the_sessions_of_a_user(action: str) -> None:
    browser = await with_user()
    await login(browser)
    anns = browser.cookie
    browser.become(ConsoleRole.ADMIN, name="root")
    if action == "delete":
        answer = await browser.post("users/change", {"name": "ann", "action": "delete"})
    else:
        answer = await browser.post("users/change", {"name": "ann", "action": action})
    assert answer.status == 200, answer.body
    assert (await browser.get("users")).status == 200, "others go on"
    browser.cookie = anns
    assert (await browser.get("session")).status == 401


@asynchronous
async def test_administrators_create_users() -> None:
    browser = Browser()
    made = await browser.post("users", {"name": "bob", "role": "viewer", "accounts": [ACCOUNT]})
    assert made.status == 200, made.body
    (user,) = (await browser.get("users")).json["users"]
    assert (user["name"], user["accounts"]) == ("bob", [ACCOUNT])
    browser.cookie = None
    assert (await login(browser, made.json["password"], "bob", newPassword=OWN)).status == 204
    assert (await browser.get("session")).json["accounts"] == [ACCOUNT]


@pytest.mark.parametrize(
    ("body", "member"),
    [
        ({}, "name"),
        ({"name": 1, "password": "x"}, "name"),
        ({"name": "", "password": "x"}, "name"),
        ({"name": "ann", "password": None}, "password"),
        ({"name": "ann", "password": "x", "newPassword": []}, "newPassword"),
    ],
)
@asynchronous
async def test_missing_parts_are_named(body: Any, member: str) -> None:
    answer = await (await with_user()).post("login", body)
    assert (answer.status, answer.json["error"]) == (400, f"{member} must be a string")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"x_ot_csrf": None}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"host": "evil.example"}, 421),
    ],
)
@asynchronous
async def test_another_page_cannot_sign_a_browser_in(
    changes: dict[str, str | None], status: int
) -> None:
    browser = await with_user()
    answer = await browser.post("login", {"name": "ann", "password": OWN}, **changes)
    assert answer.status == status
    assert "set-cookie" not in answer.headers


@asynchronous
async def test_tls_binds_the_cookie_to_the_host() -> None:
    browser = await with_user()
    headers = browser.headers(origin=f"https://{HOST}")
    body = json.dumps({"name": "ann", "password": OWN}).encode()
    path = "/api/v1/login"
    answer = await send(browser.app, "POST", path, headers, body, scheme="https")
    cookie = SimpleCookie(answer.headers["set-cookie"])["__Host-ot"]
    assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
    assert (cookie["httponly"], cookie["samesite"]) == (True, "strict")
    headers = browser.headers(cookie=f"__Host-ot={cookie.value}")
    found = await send(browser.app, "GET", "/api/v1/session", headers, scheme="https")
    assert found.status == 200
    plain = browser.headers(cookie=f"ot-session={cookie.value}")
    found = await send(browser.app, "GET", "/api/v1/session", plain, scheme="https")
    assert found.status == 401
    mixed = browser.headers(origin=f"http://{HOST}")
    assert (await send(browser.app, "POST", path, mixed, body, scheme="https")).status == 403


@asynchronous
async def test_session_of_a_user_ends_as_others_do() -> None:
    browser = await with_user()
    await login(browser)
    browser.api.world.clock.advance(MAX_IDLE.total_seconds() + 1)
    assert (await browser.get("session")).status == 401
