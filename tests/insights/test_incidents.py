from __future__ import annotations

from opentrail.insights.incidents import incidents_of, sentence
from tests.factories import an_insight_record
from tests.fakes import utc


def test_start_and_end_are_one_incident() -> None:
    start = an_insight_record("Start")
    end = {**an_insight_record("End"), "sharedEventID": start["sharedEventID"]}
    (incident,) = incidents_of([end, start])
    assert incident.start == utc(start["eventTime"])
    assert incident.end == utc(end["eventTime"])


def test_an_incident_without_its_end_is_going_on() -> None:
    (incident,) = incidents_of([an_insight_record("Start")])
    assert incident.end is None


def test_a_record_of_something_else_is_left_out() -> None:
    assert incidents_of([{"eventName": "CreateUser"}, {"insightDetails": "?"}]) == []


def test_a_sentence_says_how_much_is_usual_and_who_it_was() -> None:
    record = an_insight_record("End")
    details = record["insightDetails"]
    details.update(eventSource="ec2.amazonaws.com", eventName="RunInstances")
    details.pop("errorCode", None)
    context = details["insightContext"]
    context["statistics"] = {
        "baseline": {"average": 0.3},
        "insight": {"average": 7},
        "insightDuration": 6,
        "baselineDuration": 10_080,
    }
    arn = "arn:aws:sts::123456789012:assumed-role/deploy"
    context["attributions"] = [
        {"attribute": "userIdentityArn", "insight": [{"value": arn, "average": 7}], "baseline": []}
    ]
    (incident,) = incidents_of([record])
    assert sentence(incident, "203.0.113.9") == (
        "EC2 RunInstances: 42 calls in 6 minutes, usually 0.3 a minute,"
        " mostly by role deploy from 203.0.113.9"
    )
    assert sentence(incident).endswith("mostly by role deploy")
