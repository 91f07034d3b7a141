from __future__ import annotations

from datetime import timedelta

from opentrail.access.users import ConsoleRole
from opentrail.api.console.sessions import LINK_LIFETIME, MAX_IDLE, MAX_SESSION, Sessions
from opentrail.api.v1.callers import ApiCaller
from tests.fakes import SettableClock, asynchronous, utc

NOW = utc("2024-01-01T00:00:00Z")
SECOND = timedelta(seconds=1)


async def begun(sessions: Sessions) -> str:
    secret = await sessions.begin(sessions.new_link())
    assert secret is not None
    return secret


@asynchronous
async def test_a_link_begins_one_session() -> None:
    sessions = Sessions(SettableClock(NOW))
    link = sessions.new_link()
    secret = await sessions.begin(link)
    assert secret is not None
    assert await sessions.find(secret) is not None
    assert await sessions.begin(link) is None


@asynchronous
async def test_a_link_is_valid_for_ten_minutes() -> None:
    clock = SettableClock(NOW)
    sessions = Sessions(clock)
    in_time, late = sessions.new_link(), sessions.new_link()
    clock.advance(LINK_LIFETIME.total_seconds())
    assert await sessions.begin(in_time) is not None
    clock.advance(1)
    assert await sessions.begin(late) is None


@asynchronous
async def test_a_session_ends_after_half_an_idle_hour() -> None:
    clock = SettableClock(NOW)
    sessions = Sessions(clock)
    secret = await begun(sessions)
    clock.advance(MAX_IDLE.total_seconds() - 1)
    assert await sessions.find(secret) is not None
    clock.advance(MAX_IDLE.total_seconds() - 1)
    assert await sessions.find(secret) is not None
    clock.advance(MAX_IDLE.total_seconds() + 1)
    assert await sessions.find(secret) is None


@asynchronous
async def test_a_session_ends_after_twelve_hours() -> None:
    clock = SettableClock(NOW)
    sessions = Sessions(clock)
    secret = await begun(sessions)
    for _ in range(int(MAX_SESSION / MAX_IDLE)):
        assert await sessions.find(secret) is not None
        clock.advance(MAX_IDLE.total_seconds())
    clock.advance(1)
    assert await sessions.find(secret) is None


@asynchronous
async def test_an_ended_session_ends_no_other() -> None:
    sessions = Sessions(SettableClock(NOW))
    one, other = await begun(sessions), await begun(sessions)
    await sessions.end(one)
    assert await sessions.find(one) is None
    assert await sessions.find(other) is not None


@asynchronous
async def test_many_sessions_of_one_user_end_no_others() -> None:
    sessions = Sessions(SettableClock(NOW))
    ann, bob = (ApiCaller(name, ConsoleRole.VIEWER, has_password=True) for name in ("ann", "bob"))
    of_ann, first = await sessions.begin_for(ann), await sessions.begin_for(bob)
    for _ in range(1_000):
        last = await sessions.begin_for(bob)
    assert await sessions.find(of_ann) is not None
    assert await sessions.find(first) is None
    assert await sessions.find(last) is not None


@asynchronous
async def test_unused_links_do_not_add_up() -> None:
    sessions = Sessions(SettableClock(NOW))
    first = sessions.new_link()
    for _ in range(1_000):
        last = sessions.new_link()
    assert await sessions.begin(first) is None
    assert await sessions.begin(last) is not None


@asynchronous
async def test_invalid_secrets_are_refused() -> None:
    sessions = Sessions(SettableClock(NOW))
    assert await sessions.begin("\ud800") is None
    assert await sessions.find("") is None
