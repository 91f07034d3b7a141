"""Personal tokens over the API: managing them, and a program's permissions with one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.access.users import ConsoleRole
from opentrail.core.version import __version__
from tests.api.browser import Browser
from tests.api.caller import Answer, send, streamed
from tests.factories import ACCOUNT, a_record, event_id
from tests.fakes import asynchronous


async def with_token(role: ConsoleRole, *accounts: str) -> tuple[Browser, str]:
    """Returns a server with a user ann, and a token of hers."""
    browser = Browser()
    await browser.users.create("ann", role, accounts or None)
    answer = await browser.post("users/tokens", {"user": "ann", "name": "laptop", "days": 30})
    assert answer.status == 200, answer.body
    return browser, answer.json["secret"]


async def ask(browser: Browser, token: str, method: str, path: str, body: Any = None) -> Answer:
    """Asks like a program with a token: from anywhere, without cookies."""
    headers = {"authorization": f"Bearer {token}", "host": "opentrail.example"}
    raw = b"" if body is None else json.dumps(body).encode()
    return await send(browser.app, method, f"/api/v1/{path}", headers, raw)


@asynchronous
async def test_a_token_grants_its_users_view() -> None:
    browser, secret = await with_token(ConsoleRole.VIEWER, ACCOUNT)
    other = a_record(eventID=event_id(2), recipientAccountId="222222222222")
    await browser.api.record([a_record(), other])
    browser.api.world.clock.advance(86_400)
    query = "events?expression=NOT+source%3Dconsole.opentrail.internal"
    events = (await ask(browser, secret, "GET", query)).json["events"]
    assert [event["EventId"] for event in events] == [event_id(1)]
    refused = await ask(browser, secret, "GET", "trails")
    assert (refused.status, "ann is viewer" in refused.json["error"]) == (403, True)
    refused = await ask(browser, secret, "POST", "records", {})
    assert refused.status == 403


@asynchronous
async def test_an_administrators_token_is_not_the_servers() -> None:
    browser, secret = await with_token(ConsoleRole.ADMIN)
    assert (await ask(browser, secret, "GET", "users")).status == 200
    for path in ("access-keys", "policies", "directory", "records", "import", "console-links"):
        answer = await ask(browser, secret, "POST", path, {})
        assert (path, answer.status, answer.json["code"]) == (path, 403, "AccessDenied")


@asynchronous
async def test_question_is_recorded_as_one_of_the_user() -> None:
    browser, secret = await with_token(ConsoleRole.VIEWER)
    body = {"tool": "who", "argumentsSha256": "ab" * 32, "rows": 1}
    assert (await ask(browser, secret, "POST", "questions", body)).status == 200
    _, entry = await browser.api.world.journal.read(0, 10)  # the token's, the question's
    assert json.loads(entry.record)["userIdentity"]["userName"] == "ann"


@asynchronous
async def test_a_programs_change_is_not_the_consoles() -> None:
    browser, secret = await with_token(ConsoleRole.OPERATOR)
    answer = await ask(browser, secret, "POST", "aws/DescribeTrails", {})
    assert answer.status == 200, answer.body
    assert browser.endpoint.callers == {(f"opentrail/{__version__}", "ann")}


@asynchronous
async def test_a_removed_token_is_refused_immediately() -> None:
    browser, secret = await with_token(ConsoleRole.VIEWER)
    assert (await ask(browser, secret, "GET", "events")).status == 200
    listed = (await browser.get("users/tokens")).json["tokens"]
    assert [(token["user"], token["name"]) for token in listed] == [("ann", "laptop")]
    assert secret not in str(listed)
    removal = {"user": "ann", "name": "laptop"}
    assert (await browser.post("users/tokens/remove", removal)).json == {}
    refused = await ask(browser, secret, "GET", "events")
    assert (refused.status, refused.json["code"]) == (401, "InvalidToken")


@asynchronous
async def test_a_long_answer_ends_with_the_token() -> None:
    browser, secret = await with_token(ConsoleRole.VIEWER)
    headers = {"authorization": f"Bearer {secret}"}
    async with streamed(browser.app, "/api/v1/tail", headers) as stream:
        assert await stream.line() == {"position": 1}
        await browser.api.record([a_record()])
        assert await stream.event() == event_id(1)
        await browser.post("users/tokens/remove", {"user": "ann", "name": "laptop"})
        await browser.api.record([a_record(eventID=event_id(2))])
        lines = [await stream.line()]
        while "error" not in lines[-1]:
            lines.append(await stream.line())
    assert lines[-1]["error"] == "the session has ended"


@asynchronous
async def test_a_deleted_user_has_no_tokens() -> None:
    browser, secret = await with_token(ConsoleRole.VIEWER)
    await browser.post("users/change", {"name": "ann", "action": "delete"})
    assert (await browser.get("users/tokens")).json == {"tokens": []}
    assert (await ask(browser, secret, "GET", "events")).status == 401


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "laptop"}, "user must be a string"),
        ({"user": "ann"}, "name must be a string"),
        ({"user": "ann", "name": "laptop", "days": "30"}, "days must be a whole number"),
        ({"user": "ann", "name": "laptop", "days": True}, "days must be a whole number"),
        ({"user": "ann", "name": "laptop"}, "user 'ann' not found"),
    ],
)
@asynchronous
async def test_token_problems_are_named(body: Any, message: str) -> None:
    answer = await Browser().post("users/tokens", body)
    assert (answer.status, answer.json["code"]) == (400, "InvalidParameterException")
    assert message in answer.json["error"]
