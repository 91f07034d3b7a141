from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from opentrail.app.wings.insights import has_insights, sources, wants
from opentrail.core.trail import Trail
from opentrail.ports.event_store import CallKey
from opentrail.trails.registry import TrailRegistry
from tests.factories import ACCOUNT, REGION, a_trail
from tests.fakes import MemoryControl, asynchronous

CALLS = CallKey(ACCOUNT, REGION, "Management", "ec2.amazonaws.com", "RunInstances")
ERRORS = replace(CALLS, error_code="AccessDenied")
OBJECTS = CallKey(ACCOUNT, REGION, "Data", "s3.amazonaws.com", "GetObject")
CALL_RATE = {"InsightType": "ApiCallRateInsight", "EventCategories": ["Management", "Data"]}


def a_logging_trail(**changes: Any) -> Trail:
    trail = a_trail(insight_selectors=[CALL_RATE], **changes)
    return trail.started(0, "2020-01-01T09:00:00.000000+00:00")


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        (CALLS, True),
        (OBJECTS, True),
        (ERRORS, False),
        (replace(CALLS, account="999999999999"), False),
        (replace(CALLS, region="eu-west-1"), False),
    ],
)
def test_trail_gets_insights_of_its_selectors_and_regions(key: CallKey, wanted: bool) -> None:
    assert wants(a_logging_trail(), key) is wanted


def test_a_stopped_trail_gets_no_insights() -> None:
    trail = a_trail(insight_selectors=[CALL_RATE])
    assert not wants(trail, CALLS)
    assert not has_insights(trail)
    assert has_insights(a_logging_trail())


@asynchronous
async def test_event_history_has_every_management_insight() -> None:
    trails = TrailRegistry(MemoryControl())
    assert await sources(trails, True, CALLS, in_past=False) == [None]
    assert await sources(trails, True, OBJECTS, in_past=False) == []
    assert await sources(trails, False, CALLS, in_past=False) == []
    trail = a_logging_trail()
    await trails.add(trail)
    assert await sources(trails, False, CALLS, in_past=False) == [None]
    assert await sources(trails, False, ERRORS, in_past=False) == []
    assert await sources(trails, True, OBJECTS, in_past=False) == [trail.arn]


@asynchronous
async def test_a_stopped_trail_may_have_an_open_incident() -> None:
    trails = TrailRegistry(MemoryControl())
    trail = a_trail(insight_selectors=[CALL_RATE])
    await trails.add(trail)
    assert await sources(trails, False, CALLS, in_past=True) == [None]
    assert await sources(trails, False, OBJECTS, in_past=True) == [trail.arn]
    assert await sources(trails, False, OBJECTS, in_past=False) == []
