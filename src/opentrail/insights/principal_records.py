"""Records of first uses and bursts of principals: AWS's form, with details of their own."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import orjson

from opentrail.core.event import NewEntry, format_time
from opentrail.core.insight_types import NEW_REGION, insight_type
from opentrail.insights.findings import PrincipalFinding
from opentrail.insights.records import END, START, insight_entry

_NAMESPACE = uuid.UUID("1f0a2f5e-6d0e-5e0c-8a44-6b8d0c1c5f27")


def shared_event_id(finding: PrincipalFinding) -> str:
    """Returns the id that the start and the end of a burst share: there is one on a UTC day."""
    subject = None if finding.type == NEW_REGION else finding.principal
    day = _time(finding.start).date().isoformat()
    parts = [finding.type, finding.account, subject, day]
    return str(uuid.uuid5(_NAMESPACE, orjson.dumps(parts).decode()))


def principal_event(finding: PrincipalFinding, now: datetime) -> NewEntry:
    """Returns the event of a finding; `now` is when the record is made."""
    state = START if finding.end is None else END
    shared = shared_event_id(finding)
    details: dict[str, Any] = {
        "state": state,
        "eventSource": finding.event_source,
        "eventName": finding.event_name,
        "insightType": insight_type(finding.type),
        "extension": _extension(finding),
    }
    time = _time(finding.start if finding.end is None else finding.end)
    return insight_entry(now, finding.account, finding.region, time, shared, details)


def _extension(finding: PrincipalFinding) -> dict[str, Any]:
    members = {
        "type": finding.type,
        "principal": finding.principal,
        "value": finding.value,
        "eventID": finding.event_id,
        "start": format_time(_time(finding.start)),
        "usual": finding.usual,
        "observed": finding.observed,
        "days": finding.days,
    }
    return {name: value for name, value in members.items() if value is not None}


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
