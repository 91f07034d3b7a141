"""Records of losses."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from opentrail.capture.record.lost_records import (
    expired_entry,
    gap_entry,
    lost_entry,
    regained_entry,
    uncounted_entry,
)
from opentrail.core.event import NewEntry
from opentrail.core.gaps import Gap
from opentrail.ports.event_store import ExpiredEvents
from opentrail.ports.journal import LostPositions
from tests.factories import MOMENT


def details(entry: NewEntry) -> Any:
    record = json.loads(entry.record)
    assert (record["eventName"], record["eventID"]) == ("RecordsLost", entry.event_id)
    return record["serviceEventDetails"]


def test_a_gap_has_a_number_and_times() -> None:
    assert details(gap_entry(Gap(3, MOMENT, MOMENT, "no room"), MOMENT)) == {
        "lostRecords": 3,
        "firstLostAt": "2020-01-01T09:00:00Z",
        "lastLostAt": "2020-01-01T09:00:00Z",
        "reason": "no room",
    }
    assert details(uncounted_entry("damaged", MOMENT)) == {"reason": "damaged"}


def test_repeated_losses_of_positions_have_one_id() -> None:
    lost = LostPositions(5, 7, "damaged")
    first, again = (lost_entry(lost, MOMENT) for _ in range(2))
    assert first.event_id == again.event_id
    assert lost_entry(LostPositions(5, 8, "damaged"), MOMENT).event_id != first.event_id
    assert details(first) == {
        "firstPosition": 5,
        "lastPosition": 7,
        "lostRecords": 3,
        "reason": "damaged",
    }
    assert "lostRecords" not in details(lost_entry(LostPositions(5, None, "cut off"), MOMENT))


def test_regained_events_name_their_trail_and_unread_files() -> None:
    lost = {"trail": "arn:t", "events": 2, "first": "2020-01-01", "last": "2020-01-02"}
    entry = regained_entry("n", lost, ["a/key", "b/key"], MOMENT)
    assert entry.event_id == regained_entry("n", lost, [], MOMENT).event_id
    found = details(entry)
    assert (found["lostRecords"], found["regainedFrom"]) == (2, "arn:t")
    assert found["reason"].endswith("2 log files could not be read, the first is a/key")


def test_expired_events_have_category_range_count_and_reason() -> None:
    expired = ExpiredEvents("Data", "size", 7, 3, 20, MOMENT, MOMENT + timedelta(hours=1))
    entry = expired_entry(expired, MOMENT)
    assert entry.event_id == expired_entry(expired, MOMENT + timedelta(days=1)).event_id
    record = json.loads(entry.record)
    assert (record["eventName"], record["eventCategory"]) == ("EventsExpired", "Management")
    assert record["serviceEventDetails"] == {
        "category": "Data",
        "expiredEvents": 7,
        "firstPosition": 3,
        "lastPosition": 20,
        "firstEventTime": "2020-01-01T09:00:00Z",
        "lastEventTime": "2020-01-01T10:00:00Z",
        "reason": "size",
    }
    imported = expired_entry(replace(expired, first=-1, last=-9), MOMENT)
    details = json.loads(imported.record)["serviceEventDetails"]
    assert details["imported"]
    assert "firstPosition" not in details


def test_an_opentrail_event_is_in_the_given_account() -> None:
    gap = Gap(1, MOMENT, MOMENT, "the disk was full")
    entry = gap_entry(gap, MOMENT, "000000000000")
    record = json.loads(entry.record)
    assert entry.account == record["recipientAccountId"] == "000000000000"
    assert record["userIdentity"]["accountId"] == "000000000000"
