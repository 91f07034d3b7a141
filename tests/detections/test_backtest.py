"""Matches of rules in past events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from opentrail.core.attributes import attributes_of
from opentrail.core.expression import holds, parse
from opentrail.detections import backtest as module
from opentrail.detections.backtest import backtest, narrowing
from opentrail.detections.rules import AllOf, Correlation, DetectionRule, Like, OneOf, RuleSelection
from tests.factories import a_record, an_audit_record

LOGINS = OneOf("eventName", ("ConsoleLogin",))
SINGLE = DetectionRule("login", "Sign-in", "low", condition=LOGINS)
MANY = DetectionRule(
    "logins",
    "Sign-ins",
    "high",
    correlation=Correlation(
        "event_count", (RuleSelection("login", LOGINS, ("sourceIPAddress",)),), 60, 3
    ),
)


def login(second: int, **changes: Any) -> dict[str, Any]:
    time = f"2020-01-01T09:00:{second:02}Z"
    return a_record(eventName="ConsoleLogin", eventTime=time, eventID=f"id-{second}", **changes)


def test_matches_are_counted_newest_first() -> None:
    records = [login(second) for second in range(20, 0, -1)]
    [single, many] = backtest([SINGLE, MANY], [*records, a_record()])
    assert single.matches == 20
    document = single.document()
    assert (document["first"], document["last"]) == ("2020-01-01T09:00:01Z", "2020-01-01T09:00:20Z")
    assert [example["eventIds"] for example in document["examples"]] == [
        [f"id-{second}"] for second in (20, 19, 18, 17, 16)
    ]
    [example] = many.document()["examples"]
    assert example["eventIds"] == ["id-1", "id-2", "id-3"]
    assert example["eventTime"] == "2020-01-01T09:00:03Z"
    assert "/John" in example["principal"] or ":user/" in example["principal"]


def test_events_that_are_no_calls_match_no_rule() -> None:
    any_event = DetectionRule("any", "Any", condition=Like("*", "eventID"))
    others = [login(1, eventCategory="Insight"), an_audit_record()]
    [outcome] = backtest([any_event], others)
    assert outcome.document()["last"] is None
    assert outcome.matches == 0


def test_too_many_events_of_correlations_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COUNTED", 3)
    with pytest.raises(OverflowError, match="more than 3 events"):
        backtest([MANY], [login(second) for second in range(5)])


def test_the_search_narrows_events_to_possible_matches() -> None:
    odd = OneOf("eventName", ('odd"*name',))
    of_source = DetectionRule(
        "source", "Source", condition=OneOf("eventSource", ("iam.amazonaws.com",))
    )
    both = AllOf((LOGINS, Like("*x*", "userAgent")))
    expression = narrowing([MANY, DetectionRule("both", "Both", condition=both), of_source])
    assert expression == 'eventName:"consolelogin" OR eventSource:"iam.amazonaws.com"'
    text = narrowing([DetectionRule("odd", "Odd", condition=odd)])
    record = a_record(eventName='ODD"*NAME')
    parsed = parse(text, datetime.now(UTC))
    assert holds(parsed, attributes_of(record), record)
    assert (
        narrowing([SINGLE, DetectionRule("agent", "Agent", condition=Like("*x*", "userAgent"))])
        == ""
    )
    names = OneOf("eventName", tuple(f"Name{number}" for number in range(1_000)))
    assert narrowing([DetectionRule("many", "Many", condition=names)]) == ""
