"""Records of matches: a category of its own, in the form of CloudTrail's other records."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from opentrail.core.event import DETECTION, EVENT_VERSION, Entry, NewEntry, Record
from opentrail.detections.correlations import Group, Occurrence, principal_of
from opentrail.detections.matching import json_of
from opentrail.detections.rules import DetectionRule

EVENT_TYPE = "OpentrailDetection"
#: The event source of matches, and of changes of rules.
DETECTIONS_SOURCE = "detections.opentrail.internal"
_NAMESPACE = uuid.UUID("6f3b0d5a-52d6-5f1f-9d6e-8a4a2f0f7b11")
#: Maximum principals that a record names.
_MAX_PRINCIPALS = 20


def match_event(
    rule: DetectionRule,
    entry: Entry,
    record: Record,
    now: datetime,
    group: Group = (),
    occurrences: Sequence[Occurrence] = (),
) -> NewEntry:
    """Returns the event of a match, whose name is the rule's.

    Its id depends on the rule and the matched events alone.

    Args:
        rule: what matched.
        entry: the event that completed the match.
        record: the record of that event.
        now: when the match is recorded.
        group: the account and the values that the events of a correlation share.
        occurrences: the events of a correlation, in order of time.
    """
    event_ids = [each.event_id for each in occurrences] or [entry.event_id]
    principals = [each.principal for each in occurrences] or [principal_of(record)]
    names = [name for name in dict.fromkeys(principals) if name is not None]
    parts = json_of([rule.name, entry.account, entry.region, event_ids])
    event_id = str(uuid.uuid5(_NAMESPACE, parts.decode()))
    details = {
        "eventSource": DETECTIONS_SOURCE,
        "eventName": rule.name,
        "ruleId": rule.id or None,
        "title": rule.title,
        "level": rule.level,
        "author": rule.author or None,
        "tags": list(rule.tags) or None,
        "matchedEventSource": record.get("eventSource"),
        "matchedEventName": record.get("eventName"),
        "eventIDs": event_ids,
        "principals": names[:_MAX_PRINCIPALS],
    }
    if rule.correlation is not None:
        fields = rule.correlation.selections[0].group_by
        details["groupBy"] = dict(zip(fields, group[1:], strict=True))
        details["seconds"] = rule.correlation.seconds
    document = {
        "eventVersion": EVENT_VERSION,
        "eventTime": record.get("eventTime"),
        "awsRegion": entry.region,
        "eventID": event_id,
        "eventType": EVENT_TYPE,
        "recipientAccountId": entry.account,
        "detectionDetails": {key: value for key, value in details.items() if value is not None},
        "eventCategory": DETECTION,
    }
    raw = json_of(document)
    return NewEntry("detection", now, entry.account, entry.region, DETECTION, event_id, raw)
