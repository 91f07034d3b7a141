"""Every route of the console, for every role; and nothing of another account is ever answered."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.routing import Route

from opentrail.access.users import ConsoleRole
from opentrail.api.console import roles
from opentrail.api.console.roles import API, ROUTES, role_of_operation
from tests.api.caller import Answer, Api, send, streamed
from tests.api.console.browser import Browser
from tests.cases import case
from tests.factories import ACCOUNT, a_record, an_iam_user, an_insight_record, event_id
from tests.fakes import asynchronous
from tests.trails.world import BUCKET

MINE, THEIRS = "111111111111", "222222222222"
CANARY = "canary-7d1f"
#: What stands for the parts of a path.
PARTS = {"id": "x", "name": "x", "name:path": "x", "arn:path": "x", "action": "x", "path:path": ""}
#: Bodies that calls accept or refuse for their content, but not for their form.
BODY = {"token": "x"}


def path_of(pattern: str, **parts: str) -> str:
    named = {**PARTS, "operation": "DescribeTrails", **parts}
    return re.sub(r"\{([^}]+)\}", lambda found: named[found[1]], pattern)


async def ask(browser: Browser, method: str, path: str, body: object = BODY) -> Answer:
    """Sends what the console's own pages would send."""
    if path == f"{API}/events/tail":
        async with streamed(browser.app, path, browser.headers()) as stream:
            while not stream.status:
                await stream.part()
            return Answer(stream.status, stream.headers, b"{}")
    form = "application/x-www-form-urlencoded" if "/plain/" in path else "application/json"
    headers = browser.headers(content_type=form)
    return await send(browser.app, method, path, headers, json.dumps(body).encode())


@pytest.mark.parametrize("role", [None, *ConsoleRole], ids=str)
@asynchronous
async def test_a_route_is_open_to_its_role_and_greater_ones(role: ConsoleRole | None) -> None:
    for method, pattern in ROUTES:
        with case(f"{method} {pattern}"):
            await ask_as(role, method, pattern)


async def ask_as(role: ConsoleRole | None, method: str, pattern: str) -> None:
    browser = Browser()
    browser.cookie = None
    if role is not None:
        browser.become(role)
    least = ROUTES[method, pattern].least
    answer = await ask(browser, method, path_of(pattern))
    if least is not None and role is None:
        assert answer.status == 401
    elif least is not None and role is not None and role < least:
        assert (answer.status, answer.json["code"]) == (403, "AccessDenied")
        assert f"needs the role {least}; ann is {role}" in answer.json["message"]
        assert browser.api.calls == 0
    else:
        # Whatever else is wrong with it, it is not who asks.
        assert answer.status != 403
        assert answer.status != 401 or b"link" in answer.body or b"password" in answer.body
        assert b"NoSession" not in answer.body


def test_every_route_is_in_the_table() -> None:
    routes = {
        (method, route.path)
        for route in Browser().app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    unknown = {(method, f"{API}/{{path:path}}") for method in ("GET", "POST", "PUT", "DELETE")}
    assert routes == ROUTES.keys() | unknown


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@asynchronous
async def test_a_call_that_does_not_exist_is_not_found_with_a_session_only(method: str) -> None:
    browser = Browser()
    browser.become(ConsoleRole.VIEWER)
    assert (await ask(browser, method, f"{API}/nothing")).status == 404
    browser.cookie = None
    assert (await ask(browser, method, f"{API}/nothing")).status == 401


@pytest.mark.parametrize(
    ("operation", "role"),
    [
        ("GetTrail", ConsoleRole.AUDITOR),
        ("ListTrails", ConsoleRole.AUDITOR),
        ("LookupEvents", ConsoleRole.AUDITOR),
        ("DescribeTrails", ConsoleRole.AUDITOR),
        ("CreateTrail", ConsoleRole.OPERATOR),
        ("StopLogging", ConsoleRole.OPERATOR),
        ("StartQuery", ConsoleRole.OPERATOR),
        ("getTrail", ConsoleRole.OPERATOR),
    ],
)
@asynchronous
async def test_operations_that_change_something_need_an_operator(
    operation: str, role: ConsoleRole
) -> None:
    assert role_of_operation(operation) is role
    browser = Browser()
    for each in (ConsoleRole.AUDITOR, ConsoleRole.OPERATOR):
        browser.become(each)
        answer = await browser.post(f"aws/{operation}", {})
        assert (answer.status == 403) == (each < role)


async def two_accounts() -> Browser:
    """Returns a browser on a server with events, incidents, trails and views of two accounts.

    What is of the other account has the canary in it, but for what a call may name.
    """
    browser = Browser(Api())
    records = []
    for first, (account, word) in enumerate(((MINE, "mine"), (THEIRS, CANARY))):
        for number in range(3):
            record = a_record(
                eventID=event_id(10 * first + number),
                eventName=f"{word}Call",
                userIdentity=an_iam_user("ann", account, f"{word}-key"),
                recipientAccountId=account,
                awsRegion=f"{word}-1",
                userAgent=f"{word}-agent",
                requestParameters={"userName": "shared", "tag": word},
            )
            records.append(record)
        incident = an_insight_record(errorCode=f"{word}-error", eventName=f"{word}Call")
        ids = {"eventID": event_id(10 * first + 5), "sharedEventID": SHARED[account]}
        records.append({**incident, **ids, "recipientAccountId": account})
    await browser.api.record(records)
    for account, bucket, word in ((MINE, BUCKET, "mine"), (THEIRS, "other-bucket", CANARY)):
        given = {"Name": f"trail-of-{account}", "S3BucketName": bucket, "S3KeyPrefix": word}
        await browser.api.ok("CreateTrail", account=account, **given)
    browser.become(ConsoleRole.OPERATOR)
    state = {"expression": f"user={CANARY}"}
    await browser.send("PUT", f"views/{CANARY}", {"state": state, "expected": 0})
    return browser


#: Incidents of each account.
SHARED = {MINE: event_id(100), THEIRS: event_id(200)}
#: Queries of calls that search: with nothing, and with what would widen the search.
QUERIES = (
    "",
    f"account={THEIRS}",
    f"account={MINE}",
    f"expression=account%3D{THEIRS}",
    f"expression=account%3D{MINE}%20OR%20account%3D{THEIRS}",
    "expression=NOT%20account%3D1",
)
SEARCHES = (
    *("events", "events/count", "events/histogram", "events/facets", "export"),
    *("values?field=eventName", "values?field=account", "values?field=arn", "insights"),
    *("export?format=ndjson", "export?format=json"),
)


def reads() -> list[str]:
    """Returns the paths of all that a user may read, about either account."""
    paths = []
    for search in SEARCHES:
        for query in QUERIES:
            mark = "&" if "?" in search else "?"
            paths.append(f"{search}{mark}categories=all&{query}")
    for number in (0, 10, 15):
        one = f"events/{event_id(number)}"
        paths += [one, *(f"{one}/context?by={by}" for by in ("principal", "ip", "key", "resource"))]
    for account in (MINE, THEIRS):
        arn = quote(f"arn:aws:iam::{account}:user/ann", safe="")
        paths += [f"principals/{arn}", f"insights/{SHARED[account]}"]
        paths += [f"resources?name=shared&account={account}", f"trails/trail-of-{account}/digests"]
    return [*paths, "resources?name=shared", "session", "views", "trails", "insights/status"]


@asynchronous
async def test_nothing_of_another_account_is_answered_to_a_user_of_one() -> None:
    browser = await two_accounts()
    seen: dict[bool, set[str]] = {}
    for is_limited in (False, True):
        browser.become(ConsoleRole.ADMIN, *((MINE,) if is_limited else ()))
        found = seen.setdefault(is_limited, set())
        for path in reads():
            answer = await ask(browser, "GET", f"{API}/{path}")
            if CANARY.encode() in answer.body:
                found.add(path)
            if is_limited and THEIRS not in path:
                assert THEIRS.encode() not in answer.body, path
        for query in QUERIES:
            path = f"/console/plain?q=&categories=all&{query}"
            answer = await ask(browser, "GET", path)
            if CANARY.encode() in answer.body:
                found.add(path)
    assert seen[True] == set()
    assert len(seen[False]) > 40, "the canary is where it could be seen"


@asynchronous
async def test_other_accounts_are_not_found_by_what_acts() -> None:
    browser = await two_accounts()
    browser.become(ConsoleRole.ADMIN, MINE)
    missing = {
        f"trails/trail-of-{THEIRS}/verify": 404,
        f"trails/trail-of-{THEIRS}/flush": 404,
        f"events/{event_id(10)}/proof": 404,
        f"insights/{SHARED[THEIRS]}/expected": 404,
        "aws/LookupEvents": 403,
        "aws/DescribeTrails": 403,
        "turn-on": 403,
    }
    for path, status in missing.items():
        body = {"name": "t", "bucket": "b"} if path == "turn-on" else {}
        answer = await browser.post(path, body)
        assert (path, answer.status) == (path, status)
        assert CANARY.encode() not in answer.body
    assert (await browser.post(f"trails/trail-of-{MINE}/flush", {})).status == 200
    await browser.send("DELETE", f"views/{CANARY}")
    assert (
        await browser.send("PUT", f"views/{CANARY}", {"state": {}, "expected": 0})
    ).status == 409
    browser.become(ConsoleRole.VIEWER)
    assert len((await browser.get("views")).json["views"]) == 1


@asynchronous
async def test_a_tail_has_events_of_the_users_accounts_alone() -> None:
    browser = await two_accounts()
    browser.become(ConsoleRole.VIEWER, MINE)
    path = f"{API}/events/tail?categories=all&after=0"
    async with streamed(browser.app, path, browser.headers()) as stream:
        parts = [await stream.part(), await stream.part()]
    assert b"mineCall" in parts[1]
    assert CANARY.encode() not in b"".join(parts)


@asynchronous
async def test_a_tail_ends_when_its_session_does() -> None:
    browser = Browser()
    browser.become(ConsoleRole.VIEWER)
    async with streamed(browser.app, f"{API}/events/tail", browser.headers()) as stream:
        await stream.part()
        assert not stream.ended.is_set()
        browser.sessions.end_all_of("ann")
        await asyncio.wait_for(stream.ended.wait(), 30)


@asynchronous
async def test_views_of_users_of_some_accounts_are_seen_by_those_who_may_see_them() -> None:
    browser = Browser()
    browser.become(ConsoleRole.OPERATOR, MINE)
    saved = await browser.send("PUT", "views/ours", {"state": {}, "expected": 0})
    assert saved.status == 200
    for accounts, count in (((), 1), ((MINE,), 1), ((MINE, THEIRS), 1), ((THEIRS,), 0)):
        browser.become(ConsoleRole.VIEWER, *accounts)
        assert len((await browser.get("views")).json["views"]) == count, accounts


@asynchronous
async def test_the_console_is_used_by_those_who_may_see_its_own_account() -> None:
    browser = Browser()
    browser.become(ConsoleRole.OPERATOR, MINE, ACCOUNT)
    assert (await browser.post("aws/DescribeTrails", {})).status == 200
    session = (await browser.get("session")).json
    assert (session["account"], session["accounts"]) == (ACCOUNT, [MINE, ACCOUNT])
    assert (session["user"], session["role"], session["hasPassword"]) == ("ann", "operator", True)
    browser.become(ConsoleRole.OPERATOR, MINE)
    session = (await browser.get("session")).json
    assert (session["account"], session["accounts"]) == (MINE, [MINE])


def test_history_is_read_through_the_scope_of_the_user() -> None:
    """A handler that read `self._services.history` would show what is of any account."""
    sources = Path(roles.__file__).parent.glob("*.py")
    assert [file.name for file in sources if "_services.history" in file.read_text()] == []
