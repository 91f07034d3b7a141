"""Personal tokens: valid until they expire, are removed, or their user may not sign in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from opentrail.access.user_tokens import MAX_TOKENS, UserTokens
from opentrail.access.users import ConsoleRole, ConsoleUsers, ScryptCost
from opentrail.core.errors import UsageError
from tests.fakes import MemoryControl, SettableClock, asynchronous


class World:
    """Users and their tokens in memory."""

    def __init__(self) -> None:
        self.control = MemoryControl()
        self.clock = SettableClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.users = ConsoleUsers(self.control, self.clock, ScryptCost(n=16))
        self.tokens = UserTokens(self.control, self.users, self.clock)


async def with_ann() -> World:
    world = World()
    await world.users.create("ann", ConsoleRole.AUDITOR, ["111111111111"])
    return world


@asynchronous
async def test_a_token_has_its_users_role_and_accounts() -> None:
    world = await with_ann()
    token, secret = await world.tokens.add("ann", "laptop", 30)
    assert token.expires - token.created == timedelta(days=30)
    user = await world.tokens.user_of(secret)
    assert user is not None
    assert (user.name, user.role, user.accounts) == ("ann", ConsoleRole.AUDITOR, ("111111111111",))
    assert await world.tokens.all() == [token]
    for other in ("", "ot_", secret[:-1], secret + "x", secret.upper(), "ot_" + "x" * 10_000):
        assert await world.tokens.user_of(other) is None


@asynchronous
async def test_a_secret_is_stored_nowhere() -> None:
    world = await with_ann()
    _, secret = await world.tokens.add("ann", "laptop", 30)
    rows = await world.control.scan("console-user-token")
    assert secret not in str(rows)
    assert secret.removeprefix("ot_") not in str(rows)


@asynchronous
async def test_a_token_expires() -> None:
    world = await with_ann()
    _, secret = await world.tokens.add("ann", "laptop", 1)
    world.clock.advance(86_399)
    assert await world.tokens.user_of(secret) is not None
    world.clock.advance(1)
    assert await world.tokens.user_of(secret) is None


@asynchronous
async def test_a_token_ends_when_it_is_removed() -> None:
    world = await with_ann()
    _, laptop = await world.tokens.add("ann", "laptop", 30)
    _, server = await world.tokens.add("ann", "server", 30)
    await world.tokens.remove("ann", "laptop")
    assert await world.tokens.user_of(laptop) is None
    assert await world.tokens.user_of(server) is not None
    await world.tokens.remove_all_of("ann")
    assert await world.tokens.user_of(server) is None


@asynchronous
async def test_token_is_valid_while_its_user_is_enabled() -> None:
    world = await with_ann()
    _, secret = await world.tokens.add("ann", "laptop", 30)
    await world.users.disable("ann")
    assert await world.tokens.user_of(secret) is None
    await world.users.enable("ann")
    assert await world.tokens.user_of(secret) is not None


@asynchronous
async def test_new_user_has_no_tokens_of_a_namesake() -> None:
    world = await with_ann()
    _, secret = await world.tokens.add("ann", "laptop", 30)
    await world.users.delete("ann")
    assert await world.tokens.user_of(secret) is None
    world.clock.advance(1)
    await world.users.create("ann", ConsoleRole.ADMIN)
    assert await world.tokens.user_of(secret) is None


@pytest.mark.parametrize(
    ("user", "name", "days", "message"),
    [
        ("bob", "laptop", 30, "user 'bob' not found"),
        ("ann", "two words", 30, "token must be 1 to 64"),
        ("ann", "", 30, "token must be 1 to 64"),
        ("ann", "laptop", 0, "days must be 1 to 366, not 0"),
        ("ann", "laptop", 367, "days must be 1 to 366, not 367"),
        ("ann", "laptop2", 30, "user ann has a token 'laptop2' already"),
    ],
)
@asynchronous
async def test_new_token_problems_are_named(user: str, name: str, days: int, message: str) -> None:
    world = await with_ann()
    await world.tokens.add("ann", "laptop2", 30)
    with pytest.raises(UsageError, match=message):
        await world.tokens.add(user, name, days)


@asynchronous
async def test_a_user_has_a_limited_number_of_tokens() -> None:
    world = await with_ann()
    for number in range(MAX_TOKENS):
        await world.tokens.add("ann", f"token-{number}", 30)
    with pytest.raises(UsageError, match="user ann has 20 tokens already; remove one"):
        await world.tokens.add("ann", "more", 30)


@asynchronous
async def test_an_unknown_token_cannot_be_removed() -> None:
    world = await with_ann()
    with pytest.raises(UsageError, match="user 'ann' has no token 'laptop'"):
        await world.tokens.remove("ann", "laptop")
