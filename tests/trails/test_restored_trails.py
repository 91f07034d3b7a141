"""Trails are restored from the calls that made them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from opentrail.app.rebuilding import TrailRebuilding
from opentrail.core.trail import Trail

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/mine"
CREATED = {
    "name": "mine",
    "s3BucketName": "bucket",
    "s3KeyPrefix": "p",
    "includeGlobalServiceEvents": True,
    "isMultiRegionTrail": True,
    "trailARN": ARN,
    "logFileValidationEnabled": True,
    "isOrganizationTrail": False,
}
KNOWN = {ARN: {"uid": "the uid", "organization": ""}}


class Calls:
    """Calls of one account, recorded one after the other."""

    def __init__(self, known: dict[str, dict[str, str]] | None = None) -> None:
        self._rebuilding = TrailRebuilding(KNOWN if known is None else known)
        self._position = 0

    def add(self, name: str, asked: Any, answer: Any = None, **members: Any) -> None:
        self._position += 1
        record = {
            "eventSource": "cloudtrail.amazonaws.com",
            "eventName": name,
            "eventTime": f"2026-01-01T00:00:{self._position:02d}Z",
            "eventID": f"event-{self._position}",
            "awsRegion": "us-east-1",
            "recipientAccountId": "123456789012",
            "requestParameters": asked,
            "responseElements": answer,
        }
        self._rebuilding.add(self._position, {**record, **members})

    def trails(self) -> list[Trail]:
        return self._rebuilding.trails(99, NOW)


def created(known: dict[str, dict[str, str]] | None = None) -> Calls:
    calls = Calls(known)
    tags = [{"key": "a", "value": "b"}]
    calls.add("CreateTrail", {"name": "mine", "tagsList": tags}, CREATED)
    return calls


def test_a_trail_has_the_settings_of_the_answer() -> None:
    (trail,) = created().trails()
    assert (trail.uid, trail.arn, trail.bucket, trail.prefix) == ("the uid", ARN, "bucket", "p")
    assert trail.multi_region
    assert trail.validation
    assert trail.include_global_services
    assert trail.tags == (("a", "b"),)
    assert not trail.logging
    assert trail.spans == ()
    assert Trail.from_document(trail.document()) == trail


def test_a_logging_trail_delivers_from_its_last_change() -> None:
    calls = created()
    calls.add("StartLogging", {"name": ARN})
    (trail,) = calls.trails()
    assert [(span.after, span.until) for span in trail.spans] == [(1, None)]
    calls.add("UpdateTrail", {"name": "mine", "s3KeyPrefix": ""}, {**CREATED, "s3KeyPrefix": None})
    calls.add("AddTags", {"resourceId": ARN, "tagsList": [{"key": "c"}]})
    calls.add("RemoveTags", {"resourceId": ARN, "tagsList": [{"key": "a"}]})
    (trail,) = calls.trails()
    assert [(span.after, span.until, span.prefix) for span in trail.spans] == [(3, None, "")]
    assert not trail.spans[0].continues
    assert trail.tags == (("c", ""),)
    assert trail.logging
    calls.add("StopLogging", {"name": "mine"})
    (trail,) = calls.trails()
    assert not trail.logging
    assert trail.spans == ()
    assert trail.stopped_at == "2026-01-01T00:00:06.000000+00:00"


def test_selectors_are_read_in_the_form_of_records() -> None:
    calls = created()
    calls.add("StartLogging", {"name": "mine"})
    fields = [
        {"field": "eventCategory", "equals": ["Data"]},
        {"field": "resources.type", "equals": ["AWS::S3::Object"]},
    ]
    advanced = [{"name": "x", "fieldSelectors": fields}]
    calls.add(
        "PutEventSelectors",
        {"trailName": "mine"},
        {"trailARN": ARN, "advancedEventSelectors": advanced},
    )
    insights = [{"insightType": "ApiCallRateInsight"}]
    calls.add(
        "PutInsightSelectors", {"trailName": ARN}, {"trailARN": ARN, "insightSelectors": insights}
    )
    (trail,) = calls.trails()
    assert trail.selectors is not None
    (selector,) = trail.selectors["AdvancedEventSelectors"]
    assert selector["FieldSelectors"][1] == {
        "Field": "resources.type",
        "Equals": ["AWS::S3::Object"],
    }
    assert trail.insight_selectors[0]["InsightType"] == "ApiCallRateInsight"
    assert trail.spans[0].selectors == trail.selectors


def test_trail_of_an_unknown_id_delivers_new_events() -> None:
    calls = created(known={})
    calls.add("StartLogging", {"name": "mine"})
    (trail,) = calls.trails()
    assert trail.uid != "the uid"
    assert [(span.after, span.until) for span in trail.spans] == [(99, None)]
    assert trail.started_at == "2026-05-06T07:08:09.000000+00:00"


def test_failed_and_unrelated_calls_change_nothing() -> None:
    calls = created()
    calls.add("DeleteTrail", {"name": "mine"}, errorCode="AccessDenied")
    calls.add("DeleteTrail", {"name": "mine"}, eventSource="iam.amazonaws.com")
    calls.add("DeleteTrail", {"name": "other"})
    calls.add("DeleteTrail", {"name": "mine"}, awsRegion="eu-west-1")
    calls.add("PutEventSelectors", {"trailName": "mine"}, {"trailARN": ARN})
    calls.add("CreateTrail", None, {"trailARN": "nonsense"})
    calls.add("LookupEvents", {})
    assert [trail.arn for trail in calls.trails()] == [ARN]
    calls.add("DeleteTrail", {"name": "mine"})
    assert calls.trails() == []


def test_a_trail_of_an_organization_requires_its_id() -> None:
    answer = {**CREATED, "isOrganizationTrail": True}
    calls = Calls({ARN: {"uid": "u", "organization": "o-1"}})
    calls.add("CreateTrail", {}, answer)
    (trail,) = calls.trails()
    assert trail.organization == "o-1"
    calls = Calls({})
    calls.add("CreateTrail", {}, answer)
    assert calls.trails() == []
