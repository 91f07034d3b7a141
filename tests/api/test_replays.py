"""A signature is good for one call that changes something."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from opentrail.api.replays import Replays

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.lists(st.integers(0, 20)))
def test_the_first_call_passes_and_its_copies_do_not(signatures: list[int]) -> None:
    replays, seen = Replays(), set()
    for signature in signatures:
        found = replays.is_replay(str(signature), NOW + timedelta(minutes=5), NOW)
        assert found == (signature in seen)
        seen.add(signature)


def test_what_is_no_longer_valid_is_forgotten() -> None:
    replays = Replays()
    assert not replays.is_replay("a", NOW, NOW)
    assert not replays.is_replay("a", NOW, NOW + timedelta(seconds=1))


def test_memory_is_bounded() -> None:
    replays = Replays(most=3)
    for number in range(4):
        assert not replays.is_replay(str(number), NOW, NOW)
    assert not replays.is_replay("0", NOW, NOW)
    assert replays.is_replay("3", NOW, NOW)
