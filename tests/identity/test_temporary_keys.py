"""Temporary keys: which are forgotten, and that no live one is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.event import format_time
from opentrail.core.identity import Identity
from opentrail.identity.temporary_keys import TemporaryKeys
from tests.factories import ACCOUNT, an_identity, event_id

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_session(
    key: str, begun: float = 0, seconds: float | None = 3600, deleted_by: str | None = None
) -> Identity:
    """Returns the identity of a key that was created some seconds after `NOW`."""
    created = format_time(NOW + timedelta(seconds=begun))
    expires = None if seconds is None else format_time(NOW + timedelta(seconds=begun + seconds))
    caller = {
        "type": "AssumedRole",
        "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/Role/{key}",
        "sessionContext": {"attributes": {"creationDate": created}},
    }
    return Identity(key, ACCOUNT, caller, event_id(1), deleted_by, expires=expires)


@given(st.dictionaries(st.text(), st.text() | st.dictionaries(st.text(), st.text())))
def test_identity_is_returned_whole(caller: dict[str, object]) -> None:
    sessions = TemporaryKeys(most=30_000)
    identity = Identity("key", ACCOUNT, caller, "e", "d", "agent=a", {"k": "v"}, "soon")
    sessions.put(identity)
    assert sessions.use("key") == sessions.read("key") == identity
    sessions.sort()  # nothing remains unpacked
    assert sessions.read("key") == sessions.use("key") == identity


def test_expired_keys_are_forgotten_first() -> None:
    sessions = TemporaryKeys(most=10)
    for number in range(9):
        sessions.put(a_session(f"live {number}"))
    for key, seconds in (("short", 60), ("shorter", 30)):
        sessions.put(a_session(key, seconds=seconds))
    for key in ("short", "shorter"):  # used last
        sessions.use(key)
    sessions.put(a_session("new", begun=61))
    assert sorted(sessions.forget()) == ["live 0", "short", "shorter"]
    assert sessions.forgotten_live == 1


def test_deleted_keys_and_keys_to_ask_for_are_forgotten_first() -> None:
    sessions = TemporaryKeys(most=10)
    for number in range(9):
        sessions.put(a_session(f"live {number}"))
    sessions.put(a_session("deleted", deleted_by=event_id(2)))
    sessions.put(an_identity(key="asked"))
    assert sorted(sessions.forget()) == ["asked", "deleted"]
    assert sessions.forgotten_live == 0


def test_live_keys_are_forgotten_by_last_use() -> None:
    sessions = TemporaryKeys(most=10)
    for number in range(11):
        sessions.put(a_session(str(number)))
    for key in ("0", "2", "1"):
        sessions.use(key)
    assert sessions.read("3") is not None  # no use
    assert sessions.forget() == ["3", "4"]
    assert sessions.forgotten_live == 2
    for number in range(20, 22):
        sessions.put(a_session(str(number)))
    assert sessions.forget() == ["5", "6"]
    for key in ("7", "8", "9", "10"):
        sessions.use(key)
    for number in range(22, 24):
        sessions.put(a_session(str(number)))
    assert sessions.forget() == ["0", "2"]


def test_session_of_unknown_expiry_is_live_for_longest_duration() -> None:
    sessions = TemporaryKeys(most=10)
    for number in range(10):
        sessions.put(a_session(str(number), seconds=None))
    sessions.put(a_session("a day later", begun=35 * 3600))
    assert len(sessions.forget()) == sessions.forgotten_live == 2
    for number in range(2):
        sessions.put(a_session(f"two days later {number}", begun=37 * 3600))
    assert len(sessions.forget()) == 2
    assert sessions.forgotten_live == 2
