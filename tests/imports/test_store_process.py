"""Log files become events of a store, whatever is in them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from opentrail.imports.store_process import INVALID_LOG_FILE
from opentrail.ports.queries import LogFile, LogFileOutcome
from tests.adapters.duckdb.test_store_files import World, a_store, add
from tests.factories import MOMENT, a_record, an_insight_record, event_id

pytestmark = pytest.mark.slow


def log_file(*records: Mapping[str, Any]) -> bytes:
    return gzip.compress(json.dumps({"Records": records}).encode())


def an_event(number: int, seconds: int = 0) -> dict[str, Any]:
    time = f"{MOMENT + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
    return a_record(eventID=event_id(number), eventTime=time)


def added(world: World, *contents: bytes) -> list[LogFileOutcome]:
    """Adds log files to the world's store: the events of an hour."""
    files = [
        LogFile(f"s3://bucket/{number}.json.gz", content) for number, content in enumerate(contents)
    ]
    return add(world, a_store(), files, (MOMENT, MOMENT + timedelta(hours=1)))


def test_events_of_the_interval_are_added(tmp_path: Path) -> None:
    world, store = World(tmp_path), a_store()
    whole = log_file(an_event(1, -1), an_event(2), an_event(3, 3_600), an_event(4, 3_601))
    assert added(world, whole, log_file(), log_file(an_event(3, 3_600))) == [
        LogFileOutcome(2),
        LogFileOutcome(0),
        LogFileOutcome(1),
    ]
    assert world.ids(store, 0) == sorted(map(event_id, (2, 3)))


def test_events_of_other_accounts_are_named_and_left_out(tmp_path: Path) -> None:
    world, store = World(tmp_path), a_store()
    foreign = {**an_event(1), "recipientAccountId": "210987654321"}
    unowned = {**an_event(2), "recipientAccountId": None, "userIdentity": {"type": "Unknown"}}
    late = {**foreign, "eventTime": f"{MOMENT + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"}
    message = "2 not copied: of account 210987654321 (record 1); of no account (record 2)"
    assert added(world, log_file(foreign, unowned, an_event(3), late)) == [
        LogFileOutcome(1, INVALID_LOG_FILE, message)
    ]
    assert world.ids(store, 0) == [event_id(3)]


def test_rejected_records_do_not_keep_others(tmp_path: Path) -> None:
    world, store = World(tmp_path), a_store()
    unnamed = {**an_event(1), "eventName": None}
    digest = gzip.compress(json.dumps({"digestStartTime": "2020-01-01T09:00:00Z"}).encode())
    damaged = log_file(an_event(5))[:-9]
    found = added(
        world, log_file(unnamed, an_event(2), an_insight_record()), damaged, digest, b"text"
    )
    assert [(each.events, each.error) for each in found] == [
        (1, INVALID_LOG_FILE),
        (0, INVALID_LOG_FILE),
        (0, INVALID_LOG_FILE),
        (0, INVALID_LOG_FILE),
    ]
    assert found[0].message == (
        "2 not copied: no eventName (record 1); not the event of a call (record 3)"
    )
    assert "damaged gzip file" in found[1].message
    assert "digest file" in found[2].message
    assert world.ids(store, 0) == [event_id(2)]


def test_largest_events_are_added(tmp_path: Path) -> None:
    world, store = World(tmp_path), a_store()
    large = [
        {**an_event(number), "requestParameters": {f"p{key}": key for key in range(60_000)}}
        for number in range(1, 11)
    ]
    larger = {**an_event(11), "requestParameters": {"text": "x" * (1 << 20)}}
    (outcome,) = added(world, log_file(*large, larger))
    assert outcome == LogFileOutcome(
        10, INVALID_LOG_FILE, "1 not copied: larger than 1 MiB (record 11)"
    )
    assert world.ids(store, 0) == sorted(map(event_id, range(1, 11)))


def test_empty_file_is_named(tmp_path: Path) -> None:
    expected = LogFileOutcome(0, INVALID_LOG_FILE, "empty file")
    assert added(World(tmp_path), b"") == [expected]


def test_bomb_is_refused(tmp_path: Path) -> None:
    (outcome,) = added(World(tmp_path), gzip.compress(b" " * (300 << 20)))
    assert outcome.error == INVALID_LOG_FILE
    assert "200 times" in outcome.message
