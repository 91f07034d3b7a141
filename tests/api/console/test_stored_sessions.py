"""Sessions that several servers share: begun on one, known on all, ended everywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import timedelta

import pytest

from opentrail.access.users import ConsoleRole
from opentrail.api.console import sessions
from opentrail.api.console.sessions import MAX_IDLE, MAX_SESSION, StoredSessions
from opentrail.api.v1.callers import SERVER_OPERATOR, ApiCaller
from opentrail.core.errors import StoreUnreachable
from opentrail.ports.control import Stored, StoreWrite
from tests.fakes import Documents, MemoryControl, SettableClock, asynchronous, utc

NOW = utc("2024-01-01T00:00:00Z")
#: Seconds until a session that ends on one server ends on all.
SECOND = 1.0
ANN = ApiCaller("ann", ConsoleRole.AUDITOR, ("111111111111",), has_password=True)


class Cluster:
    """Two servers with one control store and one clock."""

    def __init__(self) -> None:
        self.disk: Documents = {}
        self.clock = SettableClock(NOW)
        self.one, self.two = self.server(), self.server()

    def server(self) -> StoredSessions:
        return StoredSessions(self.clock, MemoryControl(self.disk))


@asynchronous
async def test_session_is_known_on_all_servers_after_restarts() -> None:
    cluster = Cluster()
    secret = await cluster.one.begin_for(ANN)
    for server in (cluster.one, cluster.two, cluster.server()):
        session = await server.find(secret)
        assert session is not None
        assert (session.user, session.began) == (ANN, NOW)
    link = cluster.one.new_link()
    assert await cluster.two.begin(link) is None, "a link is of one server"
    opened = await cluster.one.begin(link)
    assert opened is not None
    session = await cluster.two.find(opened)
    assert session is not None
    assert session.user == SERVER_OPERATOR
    assert secret not in str(cluster.disk)


@asynchronous
async def test_an_ended_session_is_over_everywhere_immediately() -> None:
    cluster = Cluster()
    one, other = await cluster.one.begin_for(ANN), await cluster.one.begin_for(ANN)
    assert await cluster.two.find(one) is not None
    await cluster.one.end(one)
    assert await cluster.one.find(one) is None
    cluster.clock.advance(SECOND)
    assert await cluster.two.find(one) is None
    assert await cluster.two.find(other) is not None


@asynchronous
async def test_all_sessions_of_a_user_end_everywhere() -> None:
    cluster = Cluster()
    ended = [await server.begin_for(ANN) for server in (cluster.one, cluster.two)]
    others = [
        await cluster.one.begin_for(user)
        for user in (SERVER_OPERATOR, ApiCaller("oidc:ann", ConsoleRole.VIEWER))
    ]
    for secret in (*ended, *others):
        assert await cluster.two.find(secret) is not None
    assert await cluster.one.end_all_of("ann") == 2
    cluster.clock.advance(SECOND)
    for server in (cluster.one, cluster.two):
        assert [await server.find(secret) for secret in ended] == [None, None]
        assert None not in [await server.find(secret) for secret in others]


@asynchronous
async def test_session_keeps_the_provider_subject() -> None:
    cluster = Cluster()
    subject = ("https://id.example", "1")
    user = ApiCaller("oidc:ann", ConsoleRole.VIEWER, subject=subject)
    session = await cluster.two.find(await cluster.one.begin_for(user))
    assert session is not None
    assert session.user == user
    assert await cluster.two.end_all_of("oidc:ann") == 1


@asynchronous
async def test_session_used_on_any_server_lasts_twelve_hours() -> None:
    cluster = Cluster()
    secret = await cluster.one.begin_for(ANN)
    turns = int(MAX_SESSION / MAX_IDLE)
    for number in range(turns):
        assert await (cluster.one, cluster.two)[number % 2].find(secret) is not None
        cluster.clock.advance(MAX_IDLE.total_seconds())
    cluster.clock.advance(1)
    assert await cluster.one.find(secret) is None


@asynchronous
async def test_a_session_ends_after_half_an_idle_hour() -> None:
    cluster = Cluster()
    secret = await cluster.one.begin_for(ANN)
    cluster.clock.advance(MAX_IDLE.total_seconds() + 1)
    assert await cluster.two.find(secret) is None


@asynchronous
async def test_a_use_does_not_revive_an_ended_session() -> None:
    cluster = Cluster()
    secret = await cluster.one.begin_for(ANN)
    cluster.clock.advance(timedelta(minutes=5).total_seconds())
    control = Interrupted(cluster.disk)
    late = StoredSessions(cluster.clock, control)
    control.before_apply = cluster.one.end(secret)
    assert await late.find(secret) is not None, "it was read before it ended"
    cluster.clock.advance(SECOND)
    for server in (cluster.one, cluster.two, late):
        assert await server.find(secret) is None


@asynchronous
async def test_ended_and_excess_sessions_are_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    max_count = 30
    monkeypatch.setattr(sessions, "MAX_SESSIONS", max_count)
    cluster = Cluster()
    over = await cluster.one.begin_for(ANN)
    cluster.clock.advance(MAX_IDLE.total_seconds() + 1)
    first = await cluster.one.begin_for(ANN)
    assert len(cluster.disk) == 1
    for _ in range(max_count):
        cluster.clock.advance(0.001)
        last = await cluster.one.begin_for(ANN)
    assert len(cluster.disk) == max_count
    assert [await cluster.two.find(secret) for secret in (over, first)] == [None, None]
    assert await cluster.two.find(last) is not None


@asynchronous
async def test_many_sessions_of_one_user_end_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS_OF_USER", 3)
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 6)
    cluster = Cluster()
    of_ann = await cluster.one.begin_for(ANN)
    of_operator = []
    for _ in range(10):
        cluster.clock.advance(0.001)
        of_operator.append(await cluster.one.begin_for(SERVER_OPERATOR))
    assert await cluster.two.find(of_ann) is not None
    found = [await cluster.two.find(secret) is not None for secret in of_operator]
    assert found == [False] * 7 + [True] * 3


@asynchronous
async def test_invalid_secrets_are_refused() -> None:
    cluster = Cluster()
    for secret in ("", "guessed", "\ud800"):
        assert await cluster.one.find(secret) is None


class Interrupted(MemoryControl):
    """A store that is unreachable, or that runs a callback before a change."""

    is_away = False
    before_apply: Awaitable[None] | None = None

    async def get(self, kind: str, key: str) -> Stored | None:
        self._require_reachable()
        return await super().get(kind, key)

    async def apply(self, changes: Sequence[StoreWrite]) -> None:
        self._require_reachable()
        before, self.before_apply = self.before_apply, None
        if before is not None:
            await before
        await super().apply(changes)

    def _require_reachable(self) -> None:
        if self.is_away:
            raise StoreUnreachable("the control store does not answer")


@asynchronous
async def test_known_sessions_survive_an_unreachable_store() -> None:
    cluster = Cluster()
    control = Interrupted(cluster.disk)
    server = StoredSessions(cluster.clock, control)
    known, unknown = await cluster.one.begin_for(ANN), await cluster.one.begin_for(ANN)
    assert await server.find(known) is not None
    control.is_away = True
    cluster.clock.advance(timedelta(minutes=5).total_seconds())
    assert await server.find(known) is not None
    with pytest.raises(StoreUnreachable):
        await server.find(unknown)
    with pytest.raises(StoreUnreachable):
        await server.end(known)
    await cluster.one.end(known)
    control.is_away = False
    cluster.clock.advance(SECOND)
    assert await server.find(known) is None
