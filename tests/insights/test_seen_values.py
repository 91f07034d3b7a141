from __future__ import annotations

import pytest

from opentrail.insights import principals
from opentrail.insights.principals import FORGOTTEN_DAYS, SeenValues, hash_of


def test_a_value_is_known_for_90_days() -> None:
    seen = SeenValues()
    seen.see(1, 100)
    assert seen.has(1, 100 + FORGOTTEN_DAYS)
    assert not seen.has(1, 101 + FORGOTTEN_DAYS)
    seen.see(1, 150)
    assert seen.has(1, 150 + FORGOTTEN_DAYS)
    assert (seen.first(1), seen.last(1)) == (100, 150)


def test_a_forgotten_value_begins_again() -> None:
    seen = SeenValues()
    seen.see(1, 100)
    seen.see(1, 300)
    assert seen.first(1) == 300


def test_a_late_event_moves_only_the_first_day() -> None:
    seen = SeenValues()
    seen.see(1, 100)
    seen.see(1, 95)
    assert (seen.first(1), seen.last(1)) == (95, 100)


def test_forgotten_values_leave_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(principals, "MAX_VALUES", 1)
    seen = SeenValues()
    assert seen.see(1, 100)
    assert not seen.see(2, 100)
    assert seen.see(1, 101), "a known value needs no room"
    seen.forget(300)
    assert len(seen) == 0
    assert seen.see(2, 300)


def test_rare_values_make_room_for_frequent_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(principals, "MAX_VALUES", 4)
    seen = SeenValues()
    for value, days in ((1, (70, 100)), (2, (90,)), (3, (98,)), (4, (100,))):
        for day in days:
            seen.see(value, day)
    seen.forget(100)
    assert [value for value in range(1, 5) if seen.last(value)] == [1, 3, 4]
    seen.see(5, 100)
    seen.forget(101)
    assert [value for value in range(1, 6) if seen.last(value)] == [1, 4, 5]


def test_sets_are_added_and_refused_values_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = SeenValues(), SeenValues()
    one.see(1, 100)
    other.see(1, 90)
    other.see(2, 90)
    monkeypatch.setattr(principals, "MAX_VALUES", 1)
    assert one.add(other) == 1
    assert (one.first(1), one.last(1), one.first(2)) == (90, 100, None)


def test_a_state_has_all_values() -> None:
    seen = SeenValues()
    seen.see(hash_of("a", "b"), 100)
    seen.see(hash_of("a\0b", ""), 101)
    again = SeenValues.of(seen.state())
    assert len(again) == 2
    assert again.first(hash_of("a", "b")) == 100
