from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.errors import StorageFailed
from opentrail.core.event import MANAGEMENT, Entry, format_time
from opentrail.insights import watch as watch_module
from opentrail.insights.findings import minute_of
from opentrail.insights.watch import Watch
from opentrail.ports.event_store import CallCounts
from tests.factories import a_record, an_entry
from tests.fakes import utc

START = utc("2024-01-01T00:00:00Z")
DAY = timedelta(days=1)


def entry(position: int, seconds: float, **changes: object) -> Entry:
    """Returns the entry of a call, that many seconds after the start, recorded a second later."""
    moment = START + timedelta(seconds=seconds)
    record = a_record(eventTime=format_time(moment), eventID=f"{position:032x}", **changes)
    return an_entry(position, record, recorded_at=moment + timedelta(seconds=1))


def burst(first: int, at: float, calls: int = 60, **changes: object) -> list[Entry]:
    return [entry(first + n, at + n, **changes) for n in range(calls)]


def a_watch() -> Watch:
    return Watch("balanced", minute_of(START))


def test_minute_is_closed_once_its_events_have_arrived() -> None:
    watch = a_watch()
    watch.observe([entry(1, 10.0)])
    watch.close_until(START + timedelta(seconds=89))
    assert watch.now == minute_of(START) - 1
    watch.close_until(START + timedelta(seconds=90))
    assert watch.now == minute_of(START)


def test_the_first_day_only_learns() -> None:
    watch = a_watch()
    watch.observe(burst(1, 3600.0))
    watch.close_until(START + timedelta(hours=2))
    assert watch.findings == []


@pytest.mark.slow
@pytest.mark.parametrize("clock", ["12:00", "23:57", "23:58", "23:59", "00:00"])
def test_daily_learning_covers_every_minute(clock: str) -> None:
    """The last minutes of a day are closed with the next one, for late events."""
    burst_at = minute_of(utc(f"2024-01-03T{clock}:00Z"))
    watch = a_watch()
    for day in range(4):
        end = START + (day + 1) * DAY
        minutes = [m for m in range(burst_at, burst_at + 4) if 0 <= minute_of(end) - m - 1 < 1_440]
        counts = CallCounts(
            "1", "r", MANAGEMENT, "s", "E", None, False, minutes, [20] * len(minutes)
        )
        watch.learn([counts])
        watch.close_until(end)
    start, end_of_it = watch.findings
    assert (start.start, end_of_it.end) == (burst_at, burst_at + 4)


def test_entries_are_counted_once() -> None:
    twice, once = a_watch(), a_watch()
    entries = burst(1, 2 * 86_400.0)
    once.observe(entries)
    for _ in range(2):
        twice.observe(entries[:40])
        twice.observe(entries)
    for watch in (twice, once):
        watch.close_until(START + 2 * DAY + timedelta(minutes=30))
    assert twice.findings == once.findings != []


def test_reads_count_only_where_they_fail() -> None:
    watch = a_watch()
    watch.observe(burst(1, 2 * 86_400.0, readOnly=True))
    watch.observe(burst(101, 2 * 86_400.0 + 61, readOnly=True, errorCode="AccessDenied"))
    watch.close_until(START + 2 * DAY + timedelta(minutes=30))
    assert {finding.key.error_code for finding in watch.findings} == {"AccessDenied"}


def test_a_record_without_a_time_is_left_out() -> None:
    watch = a_watch()
    watch.observe([entry(1, 0.0), an_entry(2, a_record(eventTime="then"))])
    assert watch.state.keys == 1


def test_reported_findings_are_forgotten() -> None:
    watch = a_watch()
    watch.observe(burst(1, 2 * 86_400.0))
    watch.close_until(START + 2 * DAY + timedelta(minutes=30))
    start, end = watch.findings
    assert (start.end, end.end) == (None, minute_of(START + 2 * DAY) + 1)
    watch.acknowledge(start.number)
    assert watch.findings == [end]


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(max_examples=10, deadline=None)
@given(st.integers(1, 59), st.integers(0, 40))
def test_a_restored_snapshot_continues_unchanged(cut: int, minutes: int) -> None:
    entries = [*burst(1, 2 * 86_400.0), *burst(101, 2 * 86_400.0 + 300, 20)]
    whole, first = a_watch(), a_watch()
    first.observe(entries[:cut])
    first.close_until(START + 2 * DAY + timedelta(seconds=cut))
    second = Watch.of(first.snapshot())
    for watch in (whole, second):
        watch.observe(entries)
        watch.close_until(START + 2 * DAY + timedelta(minutes=10 + minutes))
    assert second.findings == whole.findings
    assert second.snapshot() == whole.snapshot()


def test_invalid_snapshots_are_refused() -> None:
    for wrong in (b"", b"PK", a_watch().snapshot()[:-40]):
        with pytest.raises(StorageFailed, match="snapshot"):
            Watch.of(wrong)


def test_drops_after_a_recording_gap_are_ignored() -> None:
    watch = a_watch()
    watch.resume(START + timedelta(minutes=5))
    assert watch.detector.drops_from == minute_of(START)
    watch.resume(START + timedelta(hours=1))
    assert watch.detector.drops_from == minute_of(START + timedelta(hours=3))
    assert Watch.of(watch.snapshot()).detector.drops_from == watch.detector.drops_from


def test_a_snapshot_without_keys_accepts_new_ones() -> None:
    watch = Watch.of(a_watch().snapshot())
    watch.observe([entry(1, 10.0)])
    assert watch.state.keys == 1


@pytest.mark.campaign
def test_keys_without_calls_for_35_days_are_forgotten() -> None:
    """An open incident continues, here one at midnight."""
    idle = burst(1, 0.0, 3, eventName="DeleteRole")
    ordinary = [entry(100 + n, n * 7_200.0, eventName="CreateRole") for n in range(12 * 36 - 1)]
    midnight = 36 * 86_400.0
    unusual = burst(1_000, midnight - 240, 600, eventName="CreateRole")
    results = []
    for entries in (idle, []):
        watch = a_watch()
        watch.observe([*entries, *ordinary, *unusual])
        watch.close_until(START + 36 * DAY + timedelta(hours=1))
        assert watch.state.keys == 1
        results.append([(each.key, each.start, each.end) for each in watch.findings])
    assert results[0] == results[1]
    starts = [start for _, start, end in results[0] if end is None]
    assert minute_of(START + 36 * DAY) - 4 in starts
    assert len(results[0]) == 2 * len(starts)


def test_invented_names_block_others_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "MAX_KEYS", 8)
    watch = a_watch()
    watch.observe([entry(n, n * 3_600.0, eventName="CreateRole") for n in range(1, 24)])
    watch.observe([entry(100 + n, 86_300.0 + n, eventName=f"Invented{n}") for n in range(20)])
    assert (watch.state.keys, watch.unwatched) == (8, 13)
    assert Watch.of(watch.snapshot()).state == watch.state
    watch.observe([entry(200 + n, 86_400.0 + n * 3_600, eventName="CreateRole") for n in range(26)])
    watch.observe([entry(300, 2.2 * 86_400, eventName="CreateUser")])
    assert (watch.state.keys, watch.unwatched) == (2, 13)


def test_a_name_of_another_type_is_not_watched() -> None:
    watch = a_watch()
    foreign = entry(1, 10.0, eventName="NAME")
    record = foreign.record.replace(b"NAME", b"\\ud800")
    watch.observe([replace(foreign, record=record), entry(2, 11.0)])
    watch.close_until(START + timedelta(minutes=2))
    restored = Watch.of(watch.snapshot())
    assert (restored.state.keys, restored.unwatched) == (1, 1)
