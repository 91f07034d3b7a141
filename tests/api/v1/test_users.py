"""Users of the web console."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.access.user_tokens import UserTokens
from opentrail.access.users import ConsoleRole, ConsoleUsers, ScryptCost
from opentrail.api.v1.callers import OwnChanges
from opentrail.api.v1.server import JsonApi
from opentrail.api.v1.users import UserAdministration
from opentrail.core.errors import StoreUnreachable
from tests.api.browser import Browser
from tests.api.caller import TOKEN, Answer, Api, send
from tests.factories import ACCOUNT
from tests.fakes import asynchronous


class Administrator:
    """A client of the API with the server's token."""

    def __init__(self) -> None:
        self.api = Api()
        self.ended: list[str] = []
        users = ConsoleUsers(self.api.world.control, self.api.world.clock, ScryptCost(n=16))
        tokens = UserTokens(self.api.world.control, users, self.api.world.clock)
        world = self.api.world
        changes = OwnChanges(
            world.journal, world.clock, lambda: ACCOUNT, "console.opentrail.internal"
        )
        administration = UserAdministration(
            users, changes, self._end_sessions, tokens.remove_all_of
        )
        self.app = JsonApi([administration], TOKEN).app

    async def _end_sessions(self, name: str) -> int:
        self.ended.append(name)
        return 2

    async def send(self, method: str, path: str, given: Any = None, token: str = TOKEN) -> Answer:
        body = b"" if given is None else json.dumps(given).encode()
        return await send(
            self.app, method, f"/api/v1/{path}", {"Authorization": f"Bearer {token}"}, body
        )

    async def change(self, name: str, action: str) -> Answer:
        return await self.send("POST", "users/change", {"name": name, "action": action})


@asynchronous
async def test_a_user_is_created_listed_and_deleted() -> None:
    admin = Administrator()
    given = {"name": "ann", "role": "auditor", "accounts": ["111111111111"]}
    made = await admin.send("POST", "users", given)
    assert made.status == 200, made.body
    user = made.json["user"]
    assert len(made.json["password"]) == 20
    created = user.pop("created")
    assert created.endswith("Z")
    assert user == {**given, "active": True, "mustChangePassword": True}
    listed = (await admin.send("GET", "users")).json["users"]
    assert listed == [{**user, "created": created}]
    assert (await admin.change("ann", "delete")).json == {}
    assert (await admin.send("GET", "users")).json == {"users": []}
    assert admin.ended == ["ann"]


@asynchronous
async def test_changes_end_the_sessions_of_a_user() -> None:
    admin = Administrator()
    await admin.send("POST", "users", {"name": "ann", "role": "viewer"})
    assert not (await admin.change("ann", "disable")).json["user"]["active"]
    assert (await admin.change("ann", "enable")).json["user"]["active"]
    assert len((await admin.change("ann", "reset-password")).json["password"]) == 20
    assert admin.ended == ["ann"] * 3


@asynchronous
async def test_sessions_of_any_user_end() -> None:
    admin = Administrator()
    answer = await admin.change("oidc:ann", "end-sessions")
    assert (answer.json, admin.ended) == ({"endedSessions": 2}, ["oidc:ann"])
    (entry,) = admin.api.world.entries
    record = json.loads(entry.record)
    assert record["eventName"] == "EndConsoleUserSessions"
    assert record["requestParameters"] == {"name": "oidc:ann"}


@asynchronous
async def test_the_next_attempt_completes_an_interrupted_deletion() -> None:
    browser = Browser()
    await browser.users.create("ann", ConsoleRole.VIEWER)
    admin, asked = browser.cookie, {"name": "ann", "action": "delete"}
    browser.become(ConsoleRole.VIEWER, name="ann")
    ann, browser.cookie = browser.cookie, admin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(browser.api.world.control, "scan", _unreachable)
        assert (await browser.post("users/change", asked)).status == 503
    assert (await browser.post("users/change", asked)).json == {}
    assert await browser.users.all() == []
    browser.cookie = ann
    assert (await browser.get("session")).json["code"] == "NoSession"


async def _unreachable(_kind: str) -> Any:
    raise StoreUnreachable("PostgreSQL is not reachable")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "name must be a string"),
        ({"name": ["ann"], "role": "viewer"}, "name must be a string"),
        ({"name": "a b", "role": "viewer"}, "name must be 1 to 64"),
        ({"name": "ann"}, "role must be one of viewer, auditor, operator, admin"),
        ({"name": "ann", "role": "root"}, "role must be one of"),
        ({"name": "ann", "role": "viewer", "accounts": "1"}, "accounts must be a list"),
        ({"name": "ann", "role": "viewer", "accounts": [1]}, "accounts must be a list"),
        ({"name": "ann", "role": "viewer", "accounts": []}, "accounts must be at least one"),
        ({"name": "ann", "role": "viewer", "accounts": ["1"]}, "accounts must be ids"),
        ({"name": "ann", "role": "viewer", "admin": True}, "no member 'admin'"),
        ([], "the body must be a JSON object such as"),
    ],
)
@asynchronous
async def test_problems_are_named(given: Any, message: str) -> None:
    answer = await Administrator().send("POST", "users", given)
    assert (answer.status, answer.json["code"]) == (400, "InvalidParameterException")
    assert message in answer.json["error"]


@asynchronous
async def test_unknown_users_and_actions_are_named() -> None:
    admin = Administrator()
    for action in ("disable", "enable", "reset-password", "delete"):
        answer = await admin.change("ann", action)
        assert (answer.status, "user 'ann' not found" in answer.json["error"]) == (400, True)
    answer = await admin.change("ann", "promote")
    assert "action must be one of disable, enable, reset-password" in answer.json["error"]
    assert admin.ended == []


@asynchronous
async def test_the_token_is_needed() -> None:
    answer = await Administrator().send("GET", "users", token="wrong")
    assert answer.status == 401


@asynchronous
async def test_an_administrator_of_some_accounts_manages_no_users() -> None:
    """It could give itself all accounts."""
    browser = Browser()
    browser.become(ConsoleRole.ADMIN, "111111111111")
    for answer in (
        await browser.get("users"),
        await browser.post("users", {"name": "eve", "role": "admin"}),
        await browser.post("users/change", {"name": "ann", "action": "reset-password"}),
    ):
        assert (answer.status, answer.json["code"]) == (403, "AccessDenied")
        assert "ann may see 111111111111 only" in answer.json["error"]
    browser.become(ConsoleRole.ADMIN)
    assert (await browser.get("users")).json == {"users": []}


@asynchronous
async def test_administrative_changes_are_recorded_first() -> None:
    browser = Browser()
    browser.become(ConsoleRole.ADMIN, name="root")
    await browser.post("users", {"name": "ann", "role": "viewer"})
    await browser.post("users/tokens", {"user": "ann", "name": "laptop"})
    await browser.post("users/tokens/remove", {"user": "ann", "name": "laptop"})
    for action in ("disable", "enable", "reset-password", "delete"):
        assert (await browser.post("users/change", {"name": "ann", "action": action})).status == 200
    records = [json.loads(entry.record) for entry in browser.api.world.entries]
    assert [record["eventName"] for record in records] == [
        "CreateConsoleUser",
        "CreatePersonalToken",
        "RemovePersonalToken",
        "DisableConsoleUser",
        "EnableConsoleUser",
        "ResetConsoleUserPassword",
        "DeleteConsoleUser",
    ]
    assert {record["userIdentity"]["userName"] for record in records} == {"root"}
    assert {record["eventSource"] for record in records} == {"console.opentrail.internal"}
    assert records[0]["requestParameters"] == {"name": "ann", "role": "viewer", "accounts": None}
    assert records[1]["requestParameters"]["user"] == "ann"

    browser.api.world.journal.failure = "the disk is full"
    refused = await browser.post("users", {"name": "bob", "role": "admin"})
    assert refused.status == 503
    assert await browser.users.find("bob") is None
