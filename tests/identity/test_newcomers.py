"""The first call of a key that another server may have just recorded."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from opentrail.core.errors import StorageFailed
from opentrail.identity import known_identities
from opentrail.identity.known_identities import Identities, KnownIdentities, Newcomers, know_all
from opentrail.ports.follow import follow
from tests.factories import a_new_entry, an_identity
from tests.fakes import MemoryControl, MemoryJournal, asynchronous
from tests.identity.test_known_identities import SESSION_KEY, assume_role

KEYS = ["ASIAIOSFODNN7EXAMPLE", "made-by-hand", "another"]


class OtherServers:
    """Counts the calls' waits for the records of other servers."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.waits = 0
        self.failure = failure
        self.is_settled = True

    async def catch_up(self, _access_key_id: str) -> bool:
        self.waits += 1
        if self.failure is not None:
            raise self.failure
        return self.is_settled


async def meet(newcomers: Newcomers, access_key_id: str) -> None:
    """Waits like a call."""
    if (meeting := newcomers.meet(access_key_id)) is not None:
        await meeting


@asynchronous
async def test_another_servers_key_is_known_after_the_wait() -> None:
    journal, identities = MemoryJournal(), Identities(MemoryControl())
    following = asyncio.ensure_future(follow(journal, identities))
    await journal.append([a_new_entry(assume_role())])
    await meet(Newcomers(identities, partial(know_all, journal, identities)), SESSION_KEY)
    assert identities.resolve(SESSION_KEY).user_identity["type"] == "AssumedRole"
    following.cancel()


@asynchronous
async def test_a_key_that_no_server_knows_waits_once() -> None:
    others = OtherServers()
    strangers = Newcomers(KnownIdentities(), others.catch_up)
    for _ in range(3):
        await meet(strangers, KEYS[0])
    assert others.waits == 1


@asynchronous
async def test_a_known_key_does_not_wait() -> None:
    others = OtherServers()
    identities = KnownIdentities([an_identity(key=KEYS[0])])
    identities.learn(assume_role(KEYS[1]))
    for key in KEYS[:2]:
        await meet(Newcomers(identities, others.catch_up), key)
    assert others.waits == 0


@asynchronous
async def test_a_failure_ends_the_wait_without_an_answer() -> None:
    others = OtherServers(StorageFailed("PostgreSQL is away"))
    strangers = Newcomers(KnownIdentities(), others.catch_up)
    await meet(strangers, KEYS[0])
    await meet(strangers, KEYS[0])
    assert others.waits == 2


@asynchronous
async def test_an_unknown_key_waits_again_while_servers_lag() -> None:
    others = OtherServers()
    others.is_settled = False
    strangers = Newcomers(KnownIdentities(), others.catch_up)
    for _ in range(3):
        await meet(strangers, KEYS[0])
    assert others.waits == 3


@asynchronous
async def test_an_overlong_wait_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_identities, "_NEWCOMER_SECONDS", 0.01)
    journal, identities = MemoryJournal(), Identities(MemoryControl())
    await journal.append([a_new_entry(assume_role())])  # which nothing follows
    await meet(Newcomers(identities, partial(know_all, journal, identities)), SESSION_KEY)
    assert identities.is_stranger(SESSION_KEY)


@asynchronous
async def test_the_number_of_unknown_keys_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_identities, "_MAX_STRANGERS", 2)
    others = OtherServers()
    strangers = Newcomers(KnownIdentities(), others.catch_up)
    for key in (*KEYS, KEYS[2], KEYS[1]):
        await meet(strangers, key)
    assert others.waits == 3
    await meet(strangers, KEYS[0])
    assert others.waits == 4


@asynchronous
async def test_an_overlong_key_is_neither_awaited_nor_remembered() -> None:
    others = OtherServers()
    strangers = Newcomers(KnownIdentities(), others.catch_up)
    await meet(strangers, "A" * 60_000)
    assert others.waits == 0
