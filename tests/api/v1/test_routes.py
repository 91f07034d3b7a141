"""Every route of the API, for every role; no answer has data of another account."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.routing import Route

from opentrail.access.users import ConsoleRole
from opentrail.api import v1
from opentrail.api.v1 import streams
from opentrail.api.v1.openapi import GROUPS
from opentrail.api.v1.routes import PREFIX as API
from opentrail.api.v1.routes import Rule, rules_in
from opentrail.api.v1.trail_administration import role_of_operation
from tests.api.browser import Browser
from tests.api.caller import TOKEN, Answer, Api, Stream, send, streamed
from tests.cases import case
from tests.factories import ACCOUNT, a_record, an_iam_user, an_insight_record, event_id
from tests.fakes import asynchronous
from tests.trails.world import BUCKET

MINE, THEIRS = "111111111111", "222222222222"
CANARY = "canary-7d1f"
#: Values for the parts of a path.
PARTS = {
    **dict.fromkeys(("id", "name:path", "arn:path", "key"), "x"),
    "position": "0",
    "operation": "DescribeTrails",
}
RULES = [rule for group in GROUPS for rule, _ in rules_in(group)]
#: Answers that end only when their reader leaves.
ENDLESS = (f"{API}/events/tail", f"{API}/tail")
#: Bodies that calls accept or refuse for their content, but not for their form.
BODY = {"token": "x"}


def path_of(pattern: str, **parts: str) -> str:
    named = {**PARTS, **parts}
    return API + re.sub(r"\{([^}]+)\}", lambda found: named[found[1]], pattern)


async def ask(browser: Browser, method: str, path: str, body: object = BODY) -> Answer:
    """Sends a request like the console's pages."""
    if path in ENDLESS:
        async with streamed(browser.app, path, browser.headers()) as stream:
            while not stream.status:
                await stream.part()
            return Answer(stream.status, stream.headers, b"{}")
    return await send(browser.app, method, path, browser.headers(), json.dumps(body).encode())


@pytest.mark.slow
@pytest.mark.parametrize("role", [None, *ConsoleRole], ids=str)
@asynchronous
async def test_route_is_open_to_its_role_and_higher(role: ConsoleRole | None) -> None:
    for rule in RULES:
        with case(f"{rule.method} {rule.path}"):
            await ask_as(role, rule)


async def ask_as(role: ConsoleRole | None, rule: Rule) -> None:
    browser = Browser()
    browser.cookie = None
    if role is not None:
        browser.become(role)
    least = rule.least
    answer = await ask(browser, rule.method, path_of(rule.path))
    if least is not None and role is None:
        assert answer.status == 401
    elif rule.token_only and role is not None and role >= (least or role):
        assert (answer.status, answer.json["code"]) == (403, "AccessDenied")
        assert "needs the token" in answer.json["error"]
    elif least is not None and role is not None and role < least:
        assert (answer.status, answer.json["code"]) == (403, "AccessDenied")
        assert f"needs the role {least}; ann is {role}" in answer.json["error"]
        assert browser.api.calls == 0
    else:
        # Whatever its other errors, the caller is valid.
        assert answer.status != 403
        assert answer.status != 401 or b"link" in answer.body or b"password" in answer.body
        assert b"NoSession" not in answer.body


#: Public paths: empty pages, and the calls that begin a session.
PAGES = {
    ("GET", "/"),
    ("GET", "/console"),
    ("GET", "/console/{path:path}"),
    ("GET", "/console/oidc/callback"),
}


def test_every_route_is_known() -> None:
    routes = {
        (method, route.path)
        for route in Browser().app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    unknown = {(method, f"{API}/{{path:path}}") for method in ("GET", "POST", "PUT", "DELETE")}
    known = {(rule.method, API + rule.path) for rule in RULES}
    assert routes == known | unknown | PAGES


def test_the_most_specific_route_is_first() -> None:
    paths = [rule.path for rule in Browser().rules if rule.method == "GET"]
    for general in ("/events/{id}", "/insights/{id}"):
        folder = general.rpartition("/")[0]
        specific = [path for path in paths if path.startswith(f"{folder}/") and "{" not in path]
        assert specific
        assert all(paths.index(path) < paths.index(general) for path in specific)


@pytest.mark.slow
@asynchronous
async def test_the_token_opens_every_route() -> None:
    """A request with the token needs no other mark of a page."""
    for rule in RULES:
        path = path_of(rule.path)
        if path in ENDLESS:
            continue
        browser = Browser()
        for token, is_open in ((TOKEN, True), ("wrong", False)):
            headers = {"Authorization": f"Bearer {token}"}
            if not is_open:
                headers |= browser.headers(cookie=None)
            answer = await send(browser.app, rule.method, path, headers, json.dumps(BODY).encode())
            with case(f"{rule.method} {rule.path} {token}"):
                # Whatever its other errors, the caller is valid.
                refused = answer.status == 401 and answer.json["code"] == "InvalidToken"
                is_link = rule.path == "/session" and rule.method == "POST"
                assert refused is (not is_open or is_link)
                assert answer.status != 403


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@asynchronous
async def test_unknown_call_is_404_with_a_session_only(method: str) -> None:
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
    """Returns a browser on a server with events, trails, stores and more of two accounts.

    Data of the other account contains the canary, except names that a call may mention.
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
        await browser.api.ok("CreateEventDataStore", account=account, Name=f"{word}-store")
    browser.become(ConsoleRole.OPERATOR)
    state = {"expression": f"user={CANARY}"}
    await browser.send("PUT", f"views/{CANARY}", {"state": state, "expected": 0})
    return browser


#: Incidents of each account.
SHARED = {MINE: event_id(100), THEIRS: event_id(200)}
#: Queries of searches: empty ones, and attempts to widen the search.
QUERIES = (
    "",
    f"account={THEIRS}",
    f"account={MINE}",
    f"expression=account%3D{THEIRS}",
    f"expression=account%3D{MINE}%20OR%20account%3D{THEIRS}",
    "expression=NOT%20account%3D1",
)
SEARCHES = (
    *(
        "events",
        "events/rows",
        "events/count",
        "events/histogram",
        "events/facets",
        "events/overview",
        "export",
    ),
    "events/stream",
    *("values?field=eventName", "values?field=account", "values?field=arn", "insights"),
    *("export?format=ndjson", "export?format=json"),
)


def reads() -> list[str]:
    """Returns the paths of a user's readable routes, about either account."""
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
        paths += [
            f"resources?name=shared&account={account}",
            f"who?resource=shared&account={account}",
        ]
        paths.append(f"trails/digests?name=trail-of-{account}")
    return [
        *paths,
        "resources?name=shared",
        "who?resource=shared",
        "marks/0/records",
        "session",
        "views",
        "trails",
        "stores",
        "insights/status",
    ]


@asynchronous
async def test_user_of_one_account_sees_only_that_account() -> None:
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
    assert seen[True] == set()
    assert len(seen[False]) > 40, "the canary is where it could be seen"


@asynchronous
async def test_actions_do_not_find_other_accounts() -> None:
    browser = await two_accounts()
    browser.become(ConsoleRole.ADMIN, MINE)
    missing = {
        "trails/verify": 404,
        "trails/flush": 404,
        f"events/{event_id(10)}/proof": 404,
        f"insights/{SHARED[THEIRS]}/expected": 404,
        "aws/LookupEvents": 403,
        "aws/DescribeTrails": 403,
        "turn-on": 403,
        "trails": 403,
        "users": 403,
        "console-links": 403,
        "import": 403,
        "records": 403,
        "access-keys": 403,
        "policies": 403,
        "directory": 403,
        "insights/scan": 403,
    }
    for path, status in missing.items():
        body = {"name": f"trail-of-{THEIRS}"} if path.startswith("trails/") else {}
        if path == "turn-on":
            body = {"name": "t", "bucket": "b"}
        answer = await browser.post(path, body)
        assert (path, answer.status) == (path, status)
        assert CANARY.encode() not in answer.body
    assert (await browser.post("trails/flush", {"name": f"trail-of-{MINE}"})).status == 200
    await browser.send("DELETE", f"views/{CANARY}")
    assert (
        await browser.send("PUT", f"views/{CANARY}", {"state": {}, "expected": 0})
    ).status == 409
    browser.become(ConsoleRole.VIEWER)
    assert len((await browser.get("views")).json["views"]) == 1


@asynchronous
async def test_tail_has_only_events_of_the_users_accounts() -> None:
    browser = await two_accounts()
    browser.become(ConsoleRole.VIEWER, MINE)
    for path in ENDLESS:
        path += "?categories=all&after=0"
        async with streamed(browser.app, path, browser.headers()) as stream:
            parts = [await stream.part(), await stream.part()]
        assert b"mineCall" in parts[1], path
        assert CANARY.encode() not in b"".join(parts), path


async def read_on(stream: Stream) -> None:
    while True:
        await stream.part()


@pytest.mark.slow
@asynchronous
async def test_a_tail_ends_when_its_session_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_HEARTBEAT", 0.05)
    browser = Browser()
    for path in ENDLESS:
        browser.become(ConsoleRole.VIEWER)
        async with streamed(browser.app, path, browser.headers()) as stream:
            await stream.part()
            assert not stream.ended.is_set()
            await browser.sessions.end_all_of("ann")
            reading = asyncio.ensure_future(read_on(stream))
            await asyncio.wait_for(stream.ended.wait(), 30)
            reading.cancel()


@asynchronous
async def test_limited_users_views_are_visible_to_permitted_users() -> None:
    browser = Browser()
    browser.become(ConsoleRole.OPERATOR, MINE)
    saved = await browser.send("PUT", "views/ours", {"state": {}, "expected": 0})
    assert saved.status == 200
    for accounts, count in (((), 1), ((MINE,), 1), ((MINE, THEIRS), 1), ((THEIRS,), 0)):
        browser.become(ConsoleRole.VIEWER, *accounts)
        assert len((await browser.get("views")).json["views"]) == count, accounts


@asynchronous
async def test_the_console_is_for_users_of_its_account() -> None:
    browser = Browser()
    browser.become(ConsoleRole.OPERATOR, MINE, ACCOUNT)
    assert (await browser.post("aws/DescribeTrails", {})).status == 200
    session = (await browser.get("session")).json
    assert (session["account"], session["accounts"]) == (ACCOUNT, [MINE, ACCOUNT])
    assert (session["user"], session["role"], session["hasPassword"]) == ("ann", "operator", True)
    browser.become(ConsoleRole.OPERATOR, MINE)
    session = (await browser.get("session")).json
    assert (session["account"], session["accounts"]) == (MINE, [MINE])


def test_history_is_read_through_the_users_scope() -> None:
    """A handler that read `self._services.history` would show events of any account."""
    (folder,) = v1.__path__
    sources = Path(folder).glob("*.py")
    assert [file.name for file in sources if "_services.history" in file.read_text()] == []
