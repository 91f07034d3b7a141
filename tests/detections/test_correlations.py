"""Events of a group within a period: when a match is reported, and the size of the memory."""

from __future__ import annotations

import random

import pytest

from opentrail.detections import matching
from opentrail.detections.matching import Occurrence, Window, occurrences_of
from opentrail.detections.rules import Correlation, OneOf, RuleSelection
from tests.factories import a_record

SELECTION = RuleSelection("s", OneOf("eventName", ("x",)), ("sourceIPAddress",))
COUNT = Correlation("event_count", (SELECTION,), 60, 3)
VALUES = Correlation("value_count", (SELECTION,), 60, 2, "userIdentity.arn")
GROUP = ("192.0.2.1",)


def event(time: int, value: str = "v") -> Occurrence:
    return Occurrence(time, time, f"id-{time}", value, None)


def found(window: Window, *events: Occurrence) -> list[list[int]]:
    """Returns the times of the events of each match."""
    matches = [window.add(GROUP, each) for each in events]
    return [[each.time for each in match] for match in matches if match]


def test_a_burst_is_one_match() -> None:
    window = Window(COUNT)
    assert found(window, *map(event, [0, 10, 20, 30, 40])) == [[0, 10, 20]]
    assert found(window, *map(event, [200, 210, 220])) == [[200, 210, 220]]


def test_events_further_apart_do_not_match() -> None:
    assert found(Window(COUNT), *map(event, [0, 31, 62, 93, 124])) == []
    assert found(Window(COUNT), *map(event, [0, 30, 60])) == [[0, 30, 60]]


def test_groups_are_apart() -> None:
    window = Window(COUNT)
    assert [window.add((str(time),), event(time)) for time in range(9)] == [None] * 9


def test_values_are_counted_once() -> None:
    window = Window(VALUES)
    assert found(window, event(0, "a"), event(1, "a"), event(2, "b"), event(3, "c")) == [[1, 2]]


def test_late_events_count_where_they_belong() -> None:
    assert found(Window(COUNT), event(50), event(0), event(20)) == [[0, 20, 50]]
    assert found(Window(COUNT), event(100), event(0), event(90), event(95)) == [[90, 95, 100]]


@pytest.mark.parametrize("correlation", [COUNT, VALUES])
def test_memory_does_not_depend_on_order(correlation: Correlation) -> None:
    seeded = random.Random(7)
    for _ in range(200):
        events = [event(time, seeded.choice("abc")) for time in seeded.sample(range(150), 12)]
        windows = [Window(correlation), Window(correlation)]
        found(windows[0], *events)
        found(windows[1], *sorted(events))
        assert windows[0]._groups == windows[1]._groups


def test_old_groups_and_excess_events_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "MAX_EVENTS", 10)
    window = Window(COUNT)
    for number in range(25):
        window.add((str(number),), event(1_000))
    assert window.forgotten == 15
    window.add(GROUP, event(5_000))
    assert window.forgotten == 15
    assert window.first_position() == 5_000
    assert Window(COUNT).first_position() is None


def test_an_event_is_counted_by_its_group() -> None:
    record = a_record(sourceIPAddress="192.0.2.1", eventID="an-id")
    arn = record["userIdentity"]["arn"]
    group = (record["recipientAccountId"], *GROUP)
    counted = [(group, Occurrence(7, 3, "an-id", "s", arn))]
    assert occurrences_of(COUNT, 0, record, 7, 3) == counted
    assert occurrences_of(VALUES, 0, record, 7, 3) == [(group, Occurrence(7, 3, "an-id", arn, arn))]
    del record["sourceIPAddress"]
    assert occurrences_of(COUNT, 0, record, 7, 3) == []
