"""Users of the web console: roles, single-use passwords, counted attempts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.access.users import (
    MAX_TRIES,
    MAX_TRIES_OF_ADDRESS,
    MAX_WAITING,
    MAX_WAITING_OF_ADDRESS,
    OPERATOR,
    TRIES_PERIOD,
    ConsoleRole,
    ConsoleUsers,
    ScryptCost,
)
from opentrail.core.errors import (
    PasswordChangeNeeded,
    SignInRefused,
    TooManyTries,
    UsageError,
)
from opentrail.ports.control import ControlStore
from tests.fakes import Documents, MemoryControl, SettableClock, asynchronous, run

CHEAP = ScryptCost(n=16)
ADDRESS, ELSEWHERE = "192.0.2.7", "192.0.2.8"
OWN = "correct horse battery"


def users_in(control: ControlStore, clock: SettableClock | None = None) -> ConsoleUsers:
    return ConsoleUsers(control, clock or SettableClock(datetime.now(UTC)), CHEAP)


async def signed_in(users: ConsoleUsers, name: str = "ann") -> None:
    """Creates a user with a chosen password."""
    _, once = await users.create(name, ConsoleRole.VIEWER)
    await users.sign_in(name, once, ADDRESS, OWN)


@asynchronous
async def test_the_first_password_must_be_changed() -> None:
    users = users_in(MemoryControl())
    user, once = await users.create("ann", ConsoleRole.AUDITOR, ["222222222222", "111111111111"])
    assert user.must_change_password
    assert user.accounts == ("111111111111", "222222222222")
    with pytest.raises(PasswordChangeNeeded):
        await users.sign_in("ann", once, ADDRESS)
    changed = await users.sign_in("ann", once, ADDRESS, OWN)
    assert (changed.must_change_password, changed.role) == (False, ConsoleRole.AUDITOR)
    with pytest.raises(SignInRefused):
        await users.sign_in("ann", once, ADDRESS)
    assert await users.sign_in("ann", OWN, ADDRESS) == changed


@pytest.mark.slow
@asynchronous
async def test_only_a_salted_hash_is_stored() -> None:
    disk: Documents = {}
    users = ConsoleUsers(MemoryControl(disk), SettableClock())
    (_, one), (_, two) = [await users.create(name, ConsoleRole.ADMIN) for name in ("a", "b")]
    stored = [json.loads(text) for _, text in disk.values()]
    assert one not in str(disk)
    assert two not in str(disk)
    for document in stored:
        password = document["password"]
        assert (password["n"], password["r"], password["p"]) >= (2**15, 8, 1)
        assert len(bytes.fromhex(password["salt"])) == 16
    assert stored[0]["password"]["salt"] != stored[1]["password"]["salt"]


@asynchronous
async def test_passwords_of_other_parameters_are_still_valid() -> None:
    control = MemoryControl()
    await signed_in(users_in(control))
    later = ConsoleUsers(control, SettableClock(), ScryptCost(n=32, p=2))
    assert (await later.sign_in("ann", OWN, ADDRESS)).name == "ann"


@pytest.mark.parametrize("name", ["bob", "", "a b", "ann\n", "x" * 5_000, "\ud800"])
@asynchronous
async def test_an_unknown_user_looks_like_a_wrong_password(name: str) -> None:
    users = users_in(MemoryControl())
    await signed_in(users)
    with pytest.raises(SignInRefused) as wrong:
        await users.sign_in("ann", "wrong", ADDRESS)
    with pytest.raises(SignInRefused) as unknown:
        await users.sign_in(name, OWN, ADDRESS)
    assert str(wrong.value) == str(unknown.value)
    assert (wrong.value.is_known, unknown.value.is_known) == (True, False)


@asynchronous
async def test_disabled_user_is_refused_until_it_is_enabled() -> None:
    users = users_in(MemoryControl())
    await signed_in(users)
    assert not (await users.disable("ann")).is_active
    with pytest.raises(SignInRefused) as refused:
        await users.sign_in("ann", OWN, ADDRESS)
    assert str(refused.value) == "The user name or the password is wrong."
    await users.enable("ann")
    assert (await users.sign_in("ann", OWN, ADDRESS)).is_active


@asynchronous
async def test_a_reset_password_replaces_the_old_one() -> None:
    users = users_in(MemoryControl())
    await signed_in(users)
    _, once = await users.reset_password("ann")
    with pytest.raises(SignInRefused):
        await users.sign_in("ann", OWN, ADDRESS)
    with pytest.raises(PasswordChangeNeeded):
        await users.sign_in("ann", once, ADDRESS)


@asynchronous
async def test_a_deleted_user_may_be_created_again() -> None:
    users = users_in(MemoryControl())
    await signed_in(users)
    await users.delete("ann")
    assert await users.all() == []
    with pytest.raises(SignInRefused):
        await users.sign_in("ann", OWN, ADDRESS)
    await users.create("ann", ConsoleRole.VIEWER)


@asynchronous
async def test_attempts_are_counted_for_each_user_and_address() -> None:
    clock = SettableClock()
    users = users_in(MemoryControl(), clock)
    await signed_in(users)
    for _ in range(MAX_TRIES):
        with pytest.raises(SignInRefused):
            await users.sign_in("ann", "wrong", ADDRESS)
    with pytest.raises(TooManyTries, match="5 attempts per minute"):
        await users.sign_in("ann", OWN, ADDRESS)
    assert (await users.sign_in("ann", OWN, ELSEWHERE)).name == "ann"
    with pytest.raises(SignInRefused):
        await users.sign_in("bob", OWN, ADDRESS)
    clock.advance(TRIES_PERIOD.total_seconds())
    assert (await users.sign_in("ann", OWN, ADDRESS)).name == "ann"


@asynchronous
async def test_concurrent_attempts_are_all_counted() -> None:
    users = users_in(MemoryControl())
    await signed_in(users)
    tries = [users.sign_in("ann", f"guess {number}", ADDRESS) for number in range(20)]
    ended = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(one, SignInRefused) for one in ended) == MAX_TRIES
    assert sum(isinstance(one, TooManyTries) for one in ended) == 20 - MAX_TRIES


@pytest.mark.parametrize(
    ("address", "neighbour", "stranger"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("2001:db8:1:2::7", "2001:db8:1:2:ffff::1", "2001:db8:1:3::7"),
        ("unknown", "unknown", "192.0.2.7"),
    ],
)
@asynchronous
async def test_names_from_one_address_are_limited_together(
    address: str, neighbour: str, stranger: str
) -> None:
    clock = SettableClock()
    users = users_in(MemoryControl(), clock)
    await signed_in(users)
    for number in range(MAX_TRIES_OF_ADDRESS):
        with pytest.raises(SignInRefused):
            await users.sign_in(f"user-{number}", "wrong", address)
    with pytest.raises(TooManyTries, match="20 attempts per minute"):
        await users.sign_in("ann", OWN, neighbour)
    assert (await users.sign_in("ann", OWN, stranger)).name == "ann"
    clock.advance(TRIES_PERIOD.total_seconds())
    assert (await users.sign_in("ann", OWN, address)).name == "ann"


@asynchronous
async def test_a_successful_sign_in_is_not_counted() -> None:
    users = users_in(MemoryControl())
    await signed_in(users)
    for _ in range(MAX_TRIES_OF_ADDRESS - 1):
        with pytest.raises(SignInRefused):
            await users.sign_in(f"user-{_}", "wrong", ADDRESS)
    for _ in range(3):
        await users.sign_in("ann", OWN, ADDRESS)
    with pytest.raises(SignInRefused):
        await users.sign_in("bob", OWN, ADDRESS)


@pytest.mark.slow
@asynchronous
async def test_attempts_under_many_names_lock_nobody_out() -> None:
    users = users_in(MemoryControl())
    await signed_in(users)
    for number in range(12_000):
        with pytest.raises(SignInRefused):
            await users.sign_in(f"user-{number}", "wrong", f"2001:db8:{number:x}::1")
    assert (await users.sign_in("ann", OWN, ADDRESS)).name == "ann"


@asynchronous
async def test_a_full_queue_refuses_immediately() -> None:
    users = users_in(MemoryControl())
    await signed_in(users)
    tries = [users.sign_in("eve", "x", f"2001:db8:{number:x}::1") for number in range(200)]
    ended = await asyncio.gather(*tries, return_exceptions=True)
    late = [one for one in ended if isinstance(one, TooManyTries)]
    assert "try again in a few seconds" in str(late[0])
    assert sum(isinstance(one, SignInRefused) for one in ended) == 200 - len(late)
    assert 0 < 200 - len(late) <= MAX_WAITING + 4
    assert (await users.sign_in("ann", OWN, ADDRESS)).name == "ann"


@asynchronous
async def test_computation_ends_when_its_caller_leaves() -> None:
    users = users_in(MemoryControl())
    await signed_in(users)

    async def has_left() -> bool:
        return True

    with pytest.raises(TooManyTries, match="left"):
        await users.sign_in("ann", OWN, ADDRESS, has_left=has_left)
    assert (await users.sign_in("ann", OWN, ADDRESS)).name == "ann"


@asynchronous
async def test_successful_sign_ins_are_not_limited() -> None:
    users = users_in(MemoryControl())
    await signed_in(users)
    for _ in range(3 * MAX_TRIES):
        await users.sign_in("ann", OWN, ADDRESS)


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("short", "12 to 1024 characters, not 5"),
        ("x" * 1_025, "12 to 1024 characters, not 1025"),
        ("annannann-ann", "user's name"),
    ],
)
@asynchronous
async def test_bad_new_password_is_refused_and_changes_nothing(new: str, message: str) -> None:
    users = users_in(MemoryControl())
    _, once = await users.create("ann", ConsoleRole.VIEWER)
    with pytest.raises(UsageError, match=message):
        await users.sign_in("ann", once, ADDRESS, new)
    with pytest.raises(UsageError, match="differ"):
        await users.sign_in("ann", once, ADDRESS, once)
    with pytest.raises(PasswordChangeNeeded):
        await users.sign_in("ann", once, ADDRESS)


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "ä", "a/b", OPERATOR])
@asynchronous
async def test_invalid_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        await users_in(MemoryControl()).create(name, ConsoleRole.VIEWER)


@pytest.mark.parametrize("accounts", [[], ["1"], ["12345678901x"], ["١٢٣٤٥٦٧٨٩٠١٢"]])
@asynchronous
async def test_invalid_accounts_are_refused(accounts: list[str]) -> None:
    with pytest.raises(UsageError, match="12 digits"):
        await users_in(MemoryControl()).create("ann", ConsoleRole.VIEWER, accounts)


@asynchronous
async def test_name_is_unique_and_unknown_ones_are_named() -> None:
    users = users_in(MemoryControl())
    await users.create("ann", ConsoleRole.VIEWER)
    with pytest.raises(UsageError, match="there is a user 'ann' already"):
        await users.create("ann", ConsoleRole.ADMIN)
    for change in (users.disable, users.enable, users.delete, users.reset_password):
        with pytest.raises(UsageError, match="'bob' not found"):
            await change("bob")


def test_roles_are_read_by_name_and_ordered() -> None:
    assert [str(role) for role in sorted(ConsoleRole)] == ["viewer", "auditor", "operator", "admin"]
    for role in ConsoleRole:
        assert ConsoleRole.parse(str(role)) is role
    for wrong in ("VIEWER", "root", "", "parse", None, 4):
        with pytest.raises(UsageError, match="one of viewer, auditor, operator, admin"):
            ConsoleRole.parse(wrong)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from(["create", "disable", "enable", "delete", "reset_password"]),
            st.sampled_from(["a", "b"]),
        ),
        max_size=12,
    )
)
def test_two_processes_on_one_store_agree(steps: list[tuple[int, str, str]]) -> None:
    async def story() -> None:
        control = MemoryControl()
        both = (users_in(control), users_in(control))
        known: dict[str, bool] = {}
        passwords: dict[str, str] = {}
        for number, action, name in steps:
            if action == "create":
                if name not in known:
                    _, passwords[name] = await both[number].create(name, ConsoleRole.VIEWER)
                    known[name] = True
                continue
            if name not in known:
                with pytest.raises(UsageError):
                    await getattr(both[number], action)(name)
                continue
            answer = await getattr(both[number], action)(name)
            if action == "reset_password":
                passwords[name] = answer[1]
            elif action == "delete":
                del known[name]
            else:
                known[name] = action == "enable"
        for users in both:
            assert {user.name: user.is_active for user in await users.all()} == known
            for name, is_active in known.items():
                with pytest.raises(PasswordChangeNeeded if is_active else SignInRefused):
                    await users.sign_in(name, passwords[name], ADDRESS)

    run(story())


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.text(min_size=12, max_size=60), st.text(max_size=60))
def test_a_user_signs_in_with_the_password_only(own: str, other: str) -> None:
    async def story() -> None:
        users = users_in(MemoryControl())
        _, once = await users.create("=", ConsoleRole.VIEWER)
        try:
            await users.sign_in("=", once, ADDRESS, own)
        except UsageError:
            return
        assert (await users.sign_in("=", own, ADDRESS)).name == "="
        if unicodedata.normalize("NFKC", own) != unicodedata.normalize("NFKC", other):
            with pytest.raises(SignInRefused):
                await users.sign_in("=", other, ADDRESS)

    run(story())


@asynchronous
async def test_attempts_from_one_address_delay_no_other() -> None:
    users = users_in(MemoryControl())
    await signed_in(users)
    started: list[str] = []

    async def sign_in(name: str, password: str, address: str) -> None:
        async def has_left() -> bool:  # called at its turn
            started.append(address)
            return False

        with contextlib.suppress(SignInRefused, TooManyTries):
            await users.sign_in(name, password, address, has_left=has_left)

    tries = [sign_in(f"eve{number}", "x", "192.0.2.9") for number in range(MAX_WAITING_OF_ADDRESS)]
    await asyncio.gather(*tries, sign_in("ann", OWN, ADDRESS))
    assert len(started) == MAX_WAITING_OF_ADDRESS + 1
    assert started.index(ADDRESS) <= 3
