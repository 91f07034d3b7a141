"""What the server and its history process say to each other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.adapters.ipc import messages
from opentrail.core.attributes import Resource
from opentrail.core.expression import parse
from opentrail.ports.event_store import EventQuery, FoundEvent
from tests.factories import MOMENT, a_record, an_entry

moments = st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.mark.hypothesis
@given(st.lists(st.tuples(texts, moments), max_size=5))
def test_packed_entries_unpack_to_the_same(given: list[tuple[str, datetime]]) -> None:
    entries = [
        an_entry(position, a_record(note=text), recorded_at=moment, chain=bytes([position]) * 32)
        for position, (text, moment) in enumerate(given, 1)
    ]
    assert messages.unpack_entries(messages.pack_entries(entries)) == entries


queries = st.builds(
    EventQuery,
    limit=st.integers(1, 1_000),
    until_position=st.integers(0, 2**62),
    until_import=st.integers(0, 2**62),
    account=st.none() | texts,
    region=st.none() | texts,
    categories=st.none() | st.tuples(texts) | st.just(()),
    attribute=st.none() | st.tuples(texts, texts),
    start=st.none() | moments,
    end=st.none() | moments,
    before=st.none() | st.tuples(moments, st.integers(-(2**62), 2**62)),
    expression=st.none() | st.just(parse("user=a OR NOT is:read last 2h", MOMENT)),
    recorded_since=st.none() | moments,
)


@pytest.mark.hypothesis
@given(queries)
def test_packed_queries_unpack_to_the_same(query: EventQuery) -> None:
    assert messages.unpack_query(messages.pack_query(query)) == query


@pytest.mark.hypothesis
@given(texts, st.none() | texts, st.booleans(), st.integers(-(2**62), 2**62))
def test_packed_events_unpack_to_the_same(
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
    assert messages.unpack_found(messages.pack_found(found)) == found
