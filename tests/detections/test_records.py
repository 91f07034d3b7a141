"""Records of matches."""

from __future__ import annotations

import json

from opentrail.core.attributes import attributes_of
from opentrail.detections.enabled_rules import match_event
from opentrail.detections.matching import Occurrence
from opentrail.detections.rules import Correlation, DetectionRule, OneOf, RuleSelection
from tests.factories import ACCOUNT, MOMENT, REGION, a_record, an_entry

CONDITION = OneOf("eventName", ("CreateUser",))
RULE = DetectionRule(
    "users", "A user", "high", "an-id", "Ada", tags=("attack.t1136",), condition=CONDITION
)


def test_a_match_names_rule_author_and_event() -> None:
    record = a_record()
    event = match_event(RULE, an_entry(1, record), record, MOMENT)
    written = json.loads(event.record)
    assert written == {
        "eventVersion": "1.11",
        "eventTime": record["eventTime"],
        "awsRegion": REGION,
        "eventID": event.event_id,
        "eventType": "OpentrailDetection",
        "recipientAccountId": ACCOUNT,
        "detectionDetails": {
            "eventSource": "detections.opentrail.internal",
            "eventName": "users",
            "ruleId": "an-id",
            "title": "A user",
            "level": "high",
            "author": "Ada",
            "tags": ["attack.t1136"],
            "matchedEventSource": "iam.amazonaws.com",
            "matchedEventName": "CreateUser",
            "eventIDs": [record["eventID"]],
            "principals": [record["userIdentity"]["arn"]],
        },
        "eventCategory": "Detection",
    }
    found = attributes_of(written)
    assert (found.category, found.event_name, found.username) == ("Detection", "users", None)
    assert found.event_source == "detections.opentrail.internal"


def test_the_same_events_are_the_same_match() -> None:
    record = a_record()
    first = match_event(RULE, an_entry(1, record), record, MOMENT)
    again = match_event(RULE, an_entry(9, record), record, MOMENT)
    other = match_event(
        DetectionRule("b", "B", condition=CONDITION), an_entry(1, record), record, MOMENT
    )
    assert first.event_id == again.event_id != other.event_id


def test_a_correlation_names_its_events_and_shared_values() -> None:
    selection = RuleSelection("users", CONDITION, ("sourceIPAddress",))
    rule = DetectionRule(
        "many", "Many", correlation=Correlation("event_count", (selection,), 60, 2)
    )
    events = [Occurrence(n, n, f"id-{n}", "users", "arn:a" if n else None) for n in range(3)]
    record = a_record()
    group = (ACCOUNT, "192.0.2.1")
    event = match_event(rule, an_entry(1, record), record, MOMENT, group, events)
    details = json.loads(event.record)["detectionDetails"]
    assert details["eventIDs"] == ["id-0", "id-1", "id-2"]
    assert details["principals"] == ["arn:a"]
    assert details["groupBy"] == {"sourceIPAddress": "192.0.2.1"}
    assert details["seconds"] == 60
