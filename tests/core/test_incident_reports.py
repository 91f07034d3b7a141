from __future__ import annotations

from typing import Any

import pytest

from opentrail.core.incident_reports import incidents_of, sentence
from tests.factories import ABSENT, a_principal_record, an_insight_record
from tests.fakes import utc


def test_start_and_end_are_one_incident() -> None:
    start = an_insight_record("Start")
    end = {**an_insight_record("End"), "sharedEventID": start["sharedEventID"]}
    (incident,) = incidents_of([end, start])
    assert incident.start == utc(start["eventTime"])
    assert incident.end == utc(end["eventTime"])


def test_an_incident_without_its_end_is_open() -> None:
    (incident,) = incidents_of([an_insight_record("Start")])
    assert incident.end is None


def test_another_record_is_left_out() -> None:
    assert incidents_of([{"eventName": "CreateUser"}, {"insightDetails": "?"}]) == []


@pytest.mark.parametrize(
    "details",
    [
        {"insightContext": ABSENT},
        {"insightType": ABSENT},
        {"insightContext": {"statistics": {}}},
        {"insightContext": "?"},
        {"extension": {"type": "?"}},
    ],
)
def test_a_record_of_another_form_is_left_out(details: dict[str, Any]) -> None:
    known = a_principal_record()
    records = [an_insight_record(**details), {**known, "sharedEventID": "known"}]
    assert [incident.id for incident in incidents_of(records)] == ["known"]


def test_sentence_names_the_usual_rate_and_the_caller() -> None:
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


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            a_principal_record(),
            "IAM user John called iam:CreateAccessKey for the first time in 28 days",
        ),
        (
            a_principal_record(principal="arn:aws:sts::123456789012:assumed-role/deploy", days=1),
            "Role deploy called iam:CreateAccessKey for the first time in 1 day",
        ),
        (
            a_principal_record("new-region", value="eu-west-3"),
            "Account 123456789012 used eu-west-3 for the first time in 28 days, by IAM user John",
        ),
        (
            a_principal_record("new-region", value="eu-west-3", principal=None),
            "Account 123456789012 used eu-west-3 for the first time in 28 days, by a service",
        ),
        (
            a_principal_record("new-principal"),
            "IAM user John used account 123456789012 for the first time in 28 days",
        ),
        (
            a_principal_record("new-user-agent", value="Boto3"),
            "IAM user John used Boto3 for the first time in 28 days",
        ),
        (
            a_principal_record("new-agent", value="Claude Code"),
            "IAM user John called through Claude Code for the first time in 28 days",
        ),
        (
            a_principal_record("access-denied", observed=1200, usual=3),
            "IAM user John was denied 1,200 calls in 15 minutes, at most 3 in the 28 days before",
        ),
        (
            a_principal_record("api-fan-out", observed=45, usual=12),
            "IAM user John called 45 different APIs in 15 minutes, at most 12 in the 28 days"
            " before",
        ),
    ],
)
def test_principal_incident_is_one_sentence(record: dict[str, Any], expected: str) -> None:
    (incident,) = incidents_of([record])
    assert sentence(incident) == expected


def test_first_use_ends_immediately_and_a_burst_later() -> None:
    start, end = (a_principal_record("access-denied", each) for each in ("Start", "End"))
    (first,), (open_one,), (over,) = map(
        incidents_of, ([a_principal_record()], [start], [start, end])
    )
    assert (first.end, open_one.end) == (first.start, None)
    assert (over.end, over.minutes) == (utc("2020-01-01T09:07:00Z"), 7)
