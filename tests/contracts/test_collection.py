"""Typed values over each control store: whole, limited, and changed concurrently.

Documents of earlier versions are also read, and stored again unchanged.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from opentrail.access.administration import NamedKeys
from opentrail.access.keys import KeyDirectory
from opentrail.access.user_tokens import UserTokens
from opentrail.access.users import ConsoleRole, ConsoleUsers
from opentrail.adapters.keys.sealing import AesGcmSealer
from opentrail.api.console.sessions import StoredSessions
from opentrail.core.errors import Conflict, UsageError
from opentrail.detections.enabled_rules import EnabledRules
from opentrail.insights.findings import ExpectedIncidents
from opentrail.ports.collection import Codec, Collection, KnownCollection, retry_on_conflict
from opentrail.ports.control import ControlStore, Put, Stored
from tests.contracts.test_control_contract import KINDS, Open, opener
from tests.fakes import MemoryControl, SettableClock, asynchronous, turns, utc

KIND = "colour"


class Colour(msgspec.Struct, frozen=True):
    """A stored value."""

    red: int
    name: str = ""


@pytest.fixture(params=KINDS)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    return opener(request.param, tmp_path)


def colours(control: ControlStore, **texts: Any) -> Collection[Colour]:
    return Collection(control, KIND, Codec.of(Colour), "colour", "not found", **texts)


def known(control: ControlStore) -> KnownCollection[Colour, int]:
    codec = Codec.of(Colour)
    return KnownCollection(control, KIND, codec, view=lambda _, document: int(document["red"]))


@asynccontextmanager
async def two_processes(open_store: Open) -> AsyncIterator[tuple[ControlStore, ControlStore]]:
    stores = open_store(), open_store()
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()


@asynchronous
async def test_a_value_is_found_until_it_is_deleted(open_store: Open) -> None:
    async with two_processes(open_store) as (one, other):
        await colours(one).put("b", Colour(2))
        await colours(one).put("a", Colour(1), expected=0)
        assert await colours(other).all() == [Colour(1), Colour(2)]
        before = await colours(one).revision()
        await colours(other).put("b", Colour(3, "new"))
        assert (await colours(one).get("b")).value == Colour(3, "new")
        assert await colours(one).revision() != before
        await colours(other).delete("b")
        assert await colours(one).find("b") is None
        for attempt in (colours(one).get, colours(one).delete):
            with pytest.raises(UsageError, match="colour 'b' not found"):
                await attempt("b")
        with pytest.raises(Conflict):
            await colours(one).put("a", Colour(9), expected=0)


@asynchronous
async def test_a_change_keeps_unknown_members(open_store: Open) -> None:
    async with two_processes(open_store) as (one, other):
        document = {"later": [1], "red": 1, "secret": "old", "name": ""}
        await one.apply([Put(KIND, "a", document)])
        changed = await colours(other).change("a", lambda _: Colour(2, "x"), {"secret": "new"})
        assert changed == Colour(2, "x")
        stored = await one.get(KIND, "a")
        assert stored is not None
        new = {"later": [1], "red": 2, "secret": "new", "name": "x"}
        assert json.dumps(stored.document) == json.dumps(new), "in the same order"


@asynchronous
async def test_changes_at_the_same_time_are_all_made(open_store: Open) -> None:
    async with two_processes(open_store) as stores:
        await colours(stores[0]).put("a", Colour(0))
        await asyncio.gather(
            *(
                colours(store).change("a", lambda colour: Colour(colour.red + 1))
                for store in stores
                for _ in range(3)
            )
        )
        assert await colours(stores[0]).all() == [Colour(6)]


@asynchronous
async def test_all_changes_of_one_server_are_made(open_store: Open) -> None:
    async with two_processes(open_store) as (store, _):
        values = colours(store)
        await values.put("a", Colour(0))
        change = partial(values.change, "a", lambda colour: Colour(colour.red + 1))
        await asyncio.gather(*(change() for _ in range(30)))
        assert await values.all() == [Colour(30)]


@asynchronous
async def test_a_constantly_changing_value_is_named() -> None:
    control = MemoryControl()
    await colours(control).put("a", Colour(0))
    tries: list[int] = []

    class Contended(MemoryControl):
        """A store in which others are always faster."""

        async def get(self, kind: str, key: str) -> Stored | None:
            tries.append(1)
            stored = await control.get(kind, key)
            return stored and replace(stored, version=stored.version + 1)

    with pytest.raises(Conflict, match="colour a is being changed by others; try again"):
        await colours(Contended()).change("a", lambda colour: colour)
    assert len(tries) == 10


@asynchronous
async def test_other_errors_are_not_retried() -> None:
    attempts = []

    async def attempt() -> str:
        attempts.append(1)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - the attempt's own
        await retry_on_conflict(attempt, "busy; try again")
    assert len(attempts) == 1


@asynchronous
async def test_a_full_collection_accepts_only_its_own_keys(
    open_store: Open,
) -> None:
    async with two_processes(open_store) as (one, _):
        limited = colours(one, limit=2, full="at most 2 colours")
        puts = [limited.put(key, Colour(1)) for key in ("a", "b", "c")]
        ended = await asyncio.gather(*puts, return_exceptions=True)
        assert [str(each) for each in ended if each] == ["at most 2 colours"]
        await limited.put("a", Colour(7))
        await limited.delete("b")
        await limited.put("c", Colour(3))
        assert await limited.all() == [Colour(7), Colour(3)]


@asynchronous
async def test_directory_follows_own_and_reloaded_changes(
    open_store: Open,
) -> None:
    async with two_processes(open_store) as (mine, theirs):
        here, there = known(mine), known(theirs)
        for key in ("a", "b", "c"):
            await here.put(key, Colour(1))
        assert here.known == {"a": 1, "b": 1, "c": 1}
        assert await there.load() == {"a", "b", "c"}
        await there.change("a", lambda _: Colour(2))
        await there.delete("b")
        assert there.known == {"a": 2, "c": 1}
        assert here.known == {"a": 1, "b": 1, "c": 1}
        assert await here.load() == {"a", "b"}
        assert await here.load() == set()
        assert here.known == there.known
        with pytest.raises(Conflict):
            await here.put("a", Colour(9), expected=1)
        assert here.known["a"] == 2


@asynchronous
async def test_unknown_values_are_not_stored() -> None:
    control = MemoryControl()
    codec = Codec(lambda stored: stored.document, dict)
    picky = KnownCollection(control, KIND, codec, view=lambda _, document: document["red"])
    with pytest.raises(KeyError):
        await picky.put("a", {"blue": 1})
    assert await control.scan(KIND) == []


@asynchronous
async def test_a_change_during_a_load_stays_known() -> None:
    read, go_on = asyncio.Event(), asyncio.Event()

    class Slow(MemoryControl):
        """A store whose answers to scans arrive late."""

        async def scan(self, kind: str, prefix: str = "") -> list[Stored]:
            rows = await super().scan(kind, prefix)
            read.set()
            await go_on.wait()
            return rows

    slow = known(Slow())
    await slow.put("a", Colour(1))
    load = asyncio.ensure_future(slow.load())
    await read.wait()
    change = asyncio.ensure_future(slow.change("a", lambda _: Colour(2)))
    await turns()
    go_on.set()
    await asyncio.gather(load, change)
    assert slow.known == {"a": 2}


#: Kind, key and document as the version before collections wrote them, and one member of a
#: later version.
FORMER = """
console-user ann {"role": "auditor", "accounts": ["111111111111"], "created": \
"2026-01-02T03:04:05Z", "is_active": true, "must_change_password": true, "password": {"n": 16, \
"r": 8, "p": 1, "salt": "00", "hash": "00"}, "later": 1}
console-user-token 2d9f {"user": "ann", "name": "laptop", "created": "2026-01-02T03:04:05Z", \
"expires": "2026-02-01T03:04:05Z", "later": 1}
access-key ASIAOLD {"principal": "arn:aws:sts::444455556666:assumed-role/r/s", "created": \
"2026-01-02T03:04:05Z", "is_active": true, "expires": "2027-01-01T00:00:00Z", "secret": \
"v1.7c6f6df9d2cb3f77.keRyWyGigcf6PE/WhhcRMX3Ff8jrtdp2p5Plplj/NZ2GFg==", "token_sha256": \
"3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0", "later": 1}
named-key AKIANAMED {"user": "alice", "account": "111122223333"}
console-session 67f1 {"user": "ann", "role": "auditor", "accounts": ["111111111111"], \
"has_password": true, "subject": ["https://i", "s"], "began": \
"2026-01-02T03:04:05.678901+00:00", "last_used": "2026-01-02T03:04:05.678901+00:00", "later": 1}
detection users {"rule": {"name": "users", "title": "A user was created", "level": "medium", \
"id": "", "author": "", "description": "", "tags": [], "references": [], "condition": {"type": \
"OneOf", "field": "eventName", "values": ["CreateUser"]}, "correlation": null, "falsepositives": \
[], "source": ""}, "after": 0, "enabled_at": "2020-01-01T09:00:00Z", "enabled_by": "ann"}
expected-incident 1 {"id": "1", "key": {"account": "123456789012", "region": "us-east-1", \
"category": "Management", "event_source": "ec2.amazonaws.com", "event_name": "RunInstances", \
"error_code": "AccessDenied"}, "start": 28442040, "rises": true, "largest": [1.0, 1.0, 1.0, 1.0, \
1.0], "note": "n"}
"""


@asynchronous
async def test_documents_of_earlier_versions_are_stored_again_unchanged() -> None:
    control, clock = MemoryControl(), SettableClock(utc("2026-01-02T03:04:05Z"))
    former = [line.split(" ", 2) for line in FORMER.strip().splitlines()]
    await control.apply([Put(kind, key, json.loads(text)) for kind, key, text in former])

    users = ConsoleUsers(control, clock)
    [ann] = await users.all()
    created = utc("2026-01-02T03:04:05Z")
    assert (ann.name, ann.role, ann.accounts) == ("ann", ConsoleRole.AUDITOR, ("111111111111",))
    assert (ann.created, ann.is_active, ann.must_change_password) == (created, True, True)
    [token] = await UserTokens(control, users, clock).all()
    assert (token.user, token.name, token.created) == ("ann", "laptop", created)
    assert token.expires == utc("2026-02-01T03:04:05Z")
    keys = KeyDirectory(control, AesGcmSealer(b"m" * 32), clock)
    assert await keys.load() == {"ASIAOLD"}
    [key] = await keys.list_keys()
    assert (key.account, key.is_temporary) == ("444455556666", True)
    assert key.expires == utc("2027-01-01T00:00:00Z")
    named = NamedKeys(control, {})
    assert await named.load() == {"AKIANAMED"}
    assert named.all() == {"AKIANAMED": {"user": "alice", "account": "111122223333"}}
    [rule], [mark] = await EnabledRules(control).all(), await ExpectedIncidents(control).all()

    await users.disable("ann")
    await users.enable("ann")
    await keys.disable("ASIAOLD")
    await keys.enable("ASIAOLD")
    await named.put("AKIANAMED", named.all()["AKIANAMED"])
    await EnabledRules(control).put(rule.rule.name, rule)
    await ExpectedIncidents(control).put(mark.id, mark)
    for kind, name, text in former:
        stored = await control.get(kind, name)
        assert stored is not None
        assert json.dumps(stored.document) == text
    assert await StoredSessions(clock, control).end_all_of("ann") == 1
