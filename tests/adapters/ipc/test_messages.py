"""Messages arrive unchanged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.adapters.ipc.link import request_of
from opentrail.adapters.ipc.messages import AddEntries
from opentrail.core.attributes import Resource
from opentrail.core.expression import parse
from opentrail.ports.event_store import (
    CallCounts,
    CallKey,
    EventQuery,
    EventStore,
    FoundEvent,
    Snapshot,
    ValueCounts,
)
from tests.factories import MOMENT, a_record, an_entry

T = TypeVar("T")

moments = st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


EXPRESSIONS = [
    parse(text, MOMENT)
    for text in (
        "name=Create* AND NOT user=admin last 2h",
        "a-text OR requestParameters.bucketName:logs",
        "is:failure (source!=iam OR ip=10.0.0.0/8) 2020-01-01..2020-01-02",
        "time>=2020-01-01 NOT (is:read user IN (a, b))",
    )
]


def arrived(sent: Any, kind: type[T]) -> T:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=kind)


@pytest.mark.hypothesis
@given(st.lists(st.tuples(texts, moments), max_size=5))
def test_journal_entries_arrive_unchanged(given: list[tuple[str, datetime]]) -> None:
    entries = [
        an_entry(position, a_record(note=text), recorded_at=moment, chain=bytes([position]) * 32)
        for position, (text, moment) in enumerate(given, 1)
    ]
    assert arrived(AddEntries(entries), AddEntries).entries == entries


queries = st.builds(
    EventQuery,
    limit=st.integers(1, 1_000),
    snapshot=st.builds(Snapshot, st.integers(0, 2**62), st.integers(0, 2**62)),
    account=st.none() | texts,
    region=st.none() | texts,
    categories=st.none() | st.tuples(texts) | st.just(()),
    attribute=st.none() | st.tuples(texts, texts),
    start=st.none() | moments,
    end=st.none() | moments,
    before=st.none() | st.tuples(moments, st.integers(-(2**62), 2**62)),
    expression=st.none() | st.sampled_from(EXPRESSIONS),
    recorded_since=st.none() | moments,
    data_since=st.none() | moments,
)


@pytest.mark.hypothesis
@given(queries)
def test_queries_arrive_unchanged(query: EventQuery) -> None:
    look_up = request_of(EventStore.lookup)
    assert arrived(look_up(query), look_up) == look_up(query)


@pytest.mark.hypothesis
@given(texts, st.none() | texts, st.booleans(), st.integers(-(2**62), 2**62))
def test_found_events_arrive_unchanged(
    text: str, maybe: str | None, read_only: bool, position: int
) -> None:
    found = [
        FoundEvent(
            position,
            MOMENT + timedelta(seconds=number),
            text,
            text,
            text,
            read_only,
            maybe,
            maybe,
            (Resource(maybe, text),) * number,
            text,
        )
        for number in range(3)
    ]
    assert arrived(found, list[FoundEvent]) == found


@pytest.mark.hypothesis
@given(texts, st.none() | texts, moments, st.lists(st.integers(0, 2**62), max_size=3))
def test_counts_and_their_requests_arrive_unchanged(
    text: str, code: str | None, moment: datetime, numbers: list[int]
) -> None:
    key = CallKey(text, text, text, text, text, code)
    snapshot = Snapshot(7, 8)
    for method, arguments in (
        (EventStore.count_calls, (moment, moment, snapshot)),
        (EventStore.count_values, (key, moment, moment, snapshot, 5)),
        (EventStore.count_key, (key, moment, moment, 60, snapshot, moment)),
    ):
        request = request_of(method)(*arguments)
        assert arrived(request, type(request)) == request
    counts = CallCounts(text, text, text, text, text, code, True, numbers, numbers)
    assert arrived([counts], list[CallCounts]) == [counts]
    values = ValueCounts(7, [(text, number) for number in numbers], [], [(text, 1)])
    assert arrived(values, ValueCounts) == values
    periods = [(moment, number) for number in numbers]
    assert arrived(periods, list[tuple[datetime, int]]) == periods
