"""Actions of the command on the key directory."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from opentrail.access.administration import KeyAdministration, PolicyAdministration
from opentrail.access.keys import KeyDirectory
from opentrail.access.policies import PolicyDirectory
from opentrail.adapters.keys.sealing import AesGcmSealer
from opentrail.core.errors import UsageError
from tests.fakes import MemoryControl, SettableClock, asynchronous


class Administration:
    def __init__(self) -> None:
        self.keys = KeyDirectory(
            MemoryControl(),
            AesGcmSealer(b"m" * 32),
            SettableClock(datetime(2026, 1, 1, tzinfo=UTC)),
        )
        self.changes: list[str] = []
        self._control = MemoryControl()
        policies = PolicyAdministration(PolicyDirectory(self._control))
        self.policies = policies.run
        self._administration = KeyAdministration(self.keys, policies, self._changed)

    async def _changed(self, access_key_id: str) -> None:
        self.changes.append(access_key_id)

    async def __call__(self, action: str, **given: Any) -> dict[str, Any]:
        return await self._administration.run({"action": action, **given})


@asynchronous
async def test_a_key_lives_through_all_actions() -> None:
    run = Administration()
    created = await run("create", user="team/John", account="111122223333")
    key = created["AccessKeyId"]
    assert created["Principal"] == "arn:aws:iam::111122223333:user/team/John"
    assert (created["Status"], created["CreateDate"]) == ("Active", "2026-01-01T00:00:00Z")
    assert run.keys.find(key).secret_access_key == created["SecretAccessKey"]  # type: ignore[union-attr]
    assert (await run("disable", key=key))["Status"] == "Inactive"
    assert (await run("enable", key=key))["Status"] == "Active"
    rotated = await run("rotate", key=key, overlap=3600)
    listed = (await run("list"))["AccessKeys"]
    assert {one["AccessKeyId"]: one.get("Expiration") for one in listed} == {
        key: "2026-01-01T01:00:00Z",
        rotated["AccessKeyId"]: None,
    }
    assert not any("Secret" in str(one) for one in listed)
    await run("delete", key=key)
    assert [one["AccessKeyId"] for one in (await run("list"))["AccessKeys"]] == [
        rotated["AccessKeyId"]
    ]
    assert run.changes == [key, key, key, key, rotated["AccessKeyId"], key]


@asynchronous
async def test_temporary_key_has_a_token_and_an_end() -> None:
    run = Administration()
    role = "arn:aws:sts::111122223333:assumed-role/Dev/jo"
    created = await run("create", principal=role, lifetime=3600)
    assert created["Expiration"] == "2026-01-01T01:00:00Z"
    assert created["SessionToken"]


@asynchronous
async def test_a_key_made_elsewhere_is_imported_once() -> None:
    run = Administration()
    given = {"key": "AKIAEXAMPLE", "secret": "s", "root": True, "expires": "2030-01-01T00:00:00Z"}
    imported = await run("import", **given)
    assert imported["Principal"] == "arn:aws:iam::123456789012:root"
    assert imported["Expiration"] == "2030-01-01T00:00:00Z"
    with pytest.raises(UsageError, match="in the directory already"):
        await run("import", **given)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"action": "steal"}, "action must be one of create, import"),
        ({}, "action must be one of create, import"),
        ({"action": "create"}, "exactly one of user, root and principal"),
        ({"action": "create", "user": "a", "root": True}, "exactly one of user"),
        ({"action": "create", "user": 7}, "user must be a string, not 7"),
        ({"action": "create", "user": "a", "account": "12"}, "account must be 12 digits"),
        ({"action": "create", "principal": "John"}, "is not a principal"),
        ({"action": "create", "user": "a", "lifetime": "1h"}, "lifetime must be seconds"),
        ({"action": "create", "user": "a", "lifetime": 0}, "must be positive"),
        ({"action": "import", "user": "a", "key": "x y", "secret": "s"}, "an access key id is"),
        ({"action": "import", "user": "a", "key": "AKIA1", "expires": "soon"}, "expires must be"),
        ({"action": "disable"}, "key must be the id"),
        ({"action": "rotate", "key": "AKIANONE"}, "not found"),
        ({"action": "delete", "key": "AKIANONE"}, "not found"),
    ],
)
@asynchronous
async def test_problems_are_named(given: dict[str, Any], text: str) -> None:
    given = dict(given)
    with pytest.raises(UsageError, match=text):
        await Administration()(given.pop("action", ""), **given)


DOCUMENT = """{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "cloudtrail:ListTrails", "Resource": "*"}]}"""


@asynchronous
async def test_a_key_is_created_with_policies() -> None:
    run = Administration()
    policies = [{"name": "SecurityAudit"}, {"name": "ListOnly", "document": DOCUMENT}]
    await run("create", user="John", account="111122223333", policies=policies)
    listed = await run.policies({"action": "list"})
    john = "arn:aws:iam::111122223333:user/John"
    assert listed["Attached"] == [{"Principal": john, "Policies": ["SecurityAudit", "ListOnly"]}]
    assert [each["Arn"] for each in listed["Policies"]] == [
        "arn:aws:iam::111122223333:policy/ListOnly"
    ]


@asynchronous
async def test_a_wrong_policy_prevents_the_key() -> None:
    run = Administration()
    with pytest.raises(UsageError, match="policy 'Nothing' not found"):
        await run("create", user="John", policies=[{"name": "Nothing"}])
    with pytest.raises(UsageError, match="account must be 12 digits"):
        await run("create", user="John", account="\u0661" * 12)
    for policies in ("SecurityAudit", ["SecurityAudit"], {"name": "SecurityAudit"}, 5):
        with pytest.raises(UsageError, match="policies must be a list of objects"):
            await run("create", user="John", policies=policies)
    assert (await run("list"))["AccessKeys"] == []


@asynchronous
async def test_a_policy_lives_through_all_actions() -> None:
    run = Administration().policies
    given = {"name": "ListOnly", "document": DOCUMENT}
    assert (await run({"action": "put", **given}))["Arn"].endswith(":policy/ListOnly")
    shown = await run({"action": "show", "name": "ListOnly"})
    assert shown["Document"]["Statement"][0]["Action"] == "cloudtrail:ListTrails"
    assert (await run({"action": "show", "name": "SecurityAudit"}))["Document"]["Statement"]
    await run({"action": "attach", "name": "ListOnly", "user": "John"})
    with pytest.raises(UsageError, match="is attached to"):
        await run({"action": "delete", "name": "ListOnly"})
    await run({"action": "detach", "name": "ListOnly", "user": "John"})
    await run({"action": "delete", "name": "ListOnly"})
    assert (await run({"action": "list"}))["Policies"] == []


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"action": "grant"}, "action must be one of put, attach"),
        ({"action": "put", "name": "A", "document": "{"}, "document is not a policy"),
        ({"action": "put", "document": DOCUMENT}, "name must be the name of a policy"),
        ({"action": "attach", "name": "SecurityAudit"}, "exactly one of user, root and principal"),
        ({"action": "attach", "name": "SecurityAudit", "root": True}, "is not a user or role"),
        ({"action": "show", "name": "None"}, "policy 'None' not found"),
    ],
)
@asynchronous
async def test_policy_problems_are_named(given: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        await Administration().policies(given)
