"""Records of lost, excluded or expired calls, and of lost events that log files have."""

from __future__ import annotations

import logging
import uuid
from datetime import datetime

from opentrail.capture.record_limits import to_bytes
from opentrail.core.event import (
    EVENT_VERSION,
    MANAGEMENT,
    Json,
    NewEntry,
    format_time,
    new_event_id,
)
from opentrail.core.gaps import Gap
from opentrail.core.identity import DEFAULT_ACCOUNT
from opentrail.core.selectors.selection import LeftOut
from opentrail.core.trail import GLOBAL_REGION
from opentrail.ports.event_store import ExpiredEvents
from opentrail.ports.journal import LostPositions

log = logging.getLogger(__name__)

RECORDER_SOURCE = "recorder.opentrail.internal"


def gap_entry(gap: Gap, now: datetime, account: str = DEFAULT_ACCOUNT) -> NewEntry:
    """Returns the record of lost records."""
    log.warning("records were lost", extra={"count": gap.count, "reason": gap.reason})
    details = {
        "lostRecords": gap.count,
        "firstLostAt": format_time(gap.first),
        "lastLostAt": format_time(gap.last),
        "reason": gap.reason,
    }
    return _records_lost(new_event_id(), details, now, account)


def uncounted_entry(reason: str, now: datetime, account: str = DEFAULT_ACCOUNT) -> NewEntry:
    """Returns the record of an unknown number of lost records."""
    log.warning("records were lost", extra={"reason": reason})
    return _records_lost(new_event_id(), {"reason": reason}, now, account)


def lost_entry(lost: LostPositions, now: datetime, account: str = DEFAULT_ACCOUNT) -> NewEntry:
    """Returns the record of lost journal positions; its id is the same every time."""
    name = f"opentrail:journal:{lost.first}-{lost.last}:{lost.reason}"
    details: Json = {"firstPosition": lost.first, "reason": lost.reason}
    if lost.last is not None:
        details |= {"lastPosition": lost.last, "lostRecords": lost.last - lost.first + 1}
    return _records_lost(str(uuid.uuid5(uuid.NAMESPACE_URL, name)), details, now, account)


def regained_entry(
    name: str,
    lost: Json,
    unread: list[str],
    now: datetime,
    account: str = DEFAULT_ACCOUNT,
) -> NewEntry:
    """Returns the record of events that the journal has lost and a trail's log files have.

    Args:
        name: names this loss; the same name gives the same id.
        lost: `trail`, its ARN; `events`, their number; `first` and `last`, their `eventTime`s.
        unread: keys of log files that could not be read.
        now: the current time.
        account: the upstream's account.
    """
    reason = "the data directory was restored to an earlier state"
    if unread:
        reason += f"; {len(unread)} log files could not be read, the first is {unread[0]}"
    details = {
        "lostRecords": lost["events"],
        "firstLostAt": lost["first"],
        "lastLostAt": lost["last"],
        "reason": reason,
        "regainedFrom": lost["trail"],
    }
    event_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"opentrail:regained:{name}"))
    return _records_lost(event_id, details, now, account)


def kept_entry(
    lost: LostPositions, events: int, node: str, now: datetime, account: str = DEFAULT_ACCOUNT
) -> NewEntry:
    """Returns the record of events that the journal has lost and event history had.

    Args:
        lost: the positions.
        events: the number imported from the event history of a server.
        node: the id of the server.
        now: the current time.
        account: the upstream's account.
    """
    details = {
        "firstPosition": lost.first,
        "lastPosition": lost.last,
        "reason": lost.reason,
        "regained": events,
        "regainedFrom": "event history",
    }
    name = f"opentrail:kept:{lost.first}-{lost.last}:{node}:{events}"
    return _records_lost(str(uuid.uuid5(uuid.NAMESPACE_URL, name)), details, now, account)


def left_out_entry(
    left_out: LeftOut,
    calls: int,
    hour: datetime,
    name: str,
    now: datetime,
    account: str = DEFAULT_ACCOUNT,
) -> NewEntry:
    """Returns the record of calls that `--record` excluded in an hour.

    Args:
        left_out: their common properties.
        calls: their number.
        hour: the start of the hour.
        name: names this count; the same name gives the same id.
        now: the current time.
        account: the upstream's account.
    """
    details = {
        "hour": format_time(hour),
        "leftOutCalls": calls,
        "eventSource": left_out.event_source,
        "eventName": left_out.event_name,
    }
    if left_out.resource_type:
        details["resourceType"] = left_out.resource_type
    name = f"opentrail:left-out:{name}:{':'.join(left_out)}"
    event_id = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    return _own_event("EventsLeftOut", event_id, details, now, account)


def expired_entry(events: ExpiredEvents, now: datetime, account: str = DEFAULT_ACCOUNT) -> NewEntry:
    """Returns the record of expired events; its id is the same every time."""
    first, last = events.first, events.last
    name = f"opentrail:expired:{events.category}:{first}-{last}"
    details = {
        "category": events.category,
        "expiredEvents": events.count,
        **({"firstPosition": first, "lastPosition": last} if first > 0 else {"imported": True}),
        "firstEventTime": format_time(events.oldest),
        "lastEventTime": format_time(events.newest),
        "reason": events.reason,
    }
    event_id = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    return _own_event("EventsExpired", event_id, details, now, account)


def _records_lost(event_id: str, details: Json, now: datetime, account: str) -> NewEntry:
    return _own_event("RecordsLost", event_id, details, now, account)


def _own_event(
    event_name: str, event_id: str, details: Json, now: datetime, account: str
) -> NewEntry:
    record = {
        "eventVersion": EVENT_VERSION,
        "userIdentity": {"accountId": account, "invokedBy": RECORDER_SOURCE},
        "eventTime": format_time(now),
        "eventSource": RECORDER_SOURCE,
        "eventName": event_name,
        "awsRegion": GLOBAL_REGION,
        "sourceIPAddress": RECORDER_SOURCE,
        "userAgent": RECORDER_SOURCE,
        "requestParameters": None,
        "responseElements": None,
        "eventID": event_id,
        "readOnly": False,
        "eventType": "AwsServiceEvent",
        "managementEvent": True,
        "recipientAccountId": account,
        "serviceEventDetails": details,
        "eventCategory": MANAGEMENT,
    }
    raw = to_bytes(record)
    return NewEntry("recorder", now, account, GLOBAL_REGION, MANAGEMENT, event_id, raw)
