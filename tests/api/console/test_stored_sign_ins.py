"""A sign-in at a provider that begins on one server may end on another, once."""

from __future__ import annotations

import asyncio

import pytest

from opentrail.adapters.sealing import AesGcmSealer
from opentrail.api.console.oidc import MAX_SIGN_INS, MAX_TIME
from opentrail.api.console.stored_sign_ins import StoredSignIns
from opentrail.ports.identity_provider import BegunSignIn
from tests.fakes import Documents, MemoryControl, SettableClock, asynchronous

SEALER = AesGcmSealer(b"m" * 32)


def sign_in(state: str) -> BegunSignIn:
    return BegunSignIn(f"https://idp/?{state}", state, "the-nonce", "the-verifier", "http://own/")


def servers(count: int = 2) -> tuple[list[StoredSignIns], Documents, SettableClock]:
    """Returns servers that share a control store."""
    disk: Documents = {}
    clock = SettableClock()
    return [StoredSignIns(clock, MemoryControl(disk), SEALER) for _ in range(count)], disk, clock


@asynchronous
async def test_a_browser_may_come_back_to_another_server_once() -> None:
    (one, two), disk, _ = servers()
    await one.add(sign_in("state"))
    await one.add(sign_in("other"))
    assert not any(secret in str(disk) for secret in ("the-nonce", "the-verifier", "'state'"))
    assert await two.pop("guessed") is None
    assert await two.pop("state") == sign_in("state")
    assert [await server.pop("state") for server in (one, two)] == [None, None]
    assert await one.pop("other") == sign_in("other")
    assert disk == {}


@asynchronous
async def test_of_servers_that_it_comes_back_to_concurrently_one_goes_on() -> None:
    several, _, _ = servers(3)
    await several[0].add(sign_in("state"))
    popped = await asyncio.gather(*(server.pop("state") for server in several))
    assert sorted(popped, key=bool) == [None, None, sign_in("state")]


@asynchronous
async def test_a_sign_in_is_valid_for_ten_minutes_and_then_removed() -> None:
    (one, two), disk, clock = servers()
    for state in ("in time", "late", "left"):
        await one.add(sign_in(state))
    clock.advance(MAX_TIME.total_seconds())
    assert await two.pop("in time") is not None
    clock.advance(1)
    assert await two.pop("late") is None
    await one.add(sign_in("new"))
    assert len(disk) == 1


@pytest.mark.slow
@asynchronous
async def test_sign_ins_in_progress_do_not_add_up() -> None:
    (one, two), disk, clock = servers()
    for number in range(MAX_SIGN_INS + 1):
        clock.advance(0.001)
        await one.add(sign_in(str(number)))
    assert len(disk) == MAX_SIGN_INS
    assert await two.pop("0") is None
    assert await two.pop(str(MAX_SIGN_INS)) is not None
