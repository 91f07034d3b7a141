"""A signature is valid for one call that changes state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from opentrail.api.cloudtrail.server import MOMENT, Replays

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + MOMENT + timedelta(milliseconds=1)
VALID = NOW + timedelta(minutes=5)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20))))
def test_copy_becomes_a_replay_after_a_moment(calls: list[tuple[int, int]]) -> None:
    replays, first = Replays(), dict[int, datetime]()
    moment = NOW
    for pause, signature in calls:
        moment += timedelta(seconds=pause / 2)
        found = replays.is_replay(str(signature), VALID, moment)
        assert found == (moment - first.setdefault(signature, moment) > MOMENT)


def test_expired_entries_are_forgotten() -> None:
    replays = Replays()
    assert not replays.is_replay("a", NOW, NOW)
    assert not replays.is_replay("a", NOW, LATER)


def test_memory_is_bounded() -> None:
    replays = Replays(most=3)
    for number in range(4):
        assert not replays.is_replay(str(number), VALID, NOW)
    assert not replays.is_replay("0", VALID, LATER)
    assert replays.is_replay("3", VALID, LATER)
