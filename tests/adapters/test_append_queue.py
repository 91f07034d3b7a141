"""Appends that wait: none overtakes another, groups and queue keep their limits."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.adapters.append_queue import Append, Appends, append_of
from opentrail.core.errors import RecordRefused, StorageFailed
from opentrail.ports.journal import QUEUE_BYTES, QUEUE_RECORDS
from tests.factories import a_new_entry
from tests.fakes import asynchronous, run

NEW = a_new_entry()


def an_append(records: int = 1, size: int | None = None, since: float = 0.0) -> Append:
    """Returns an append whose records may be said to be of any size."""
    append = append_of([NEW] * records, asyncio.get_running_loop())
    append.size = append.size if size is None else size
    append.since = since
    return append


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 100)), max_size=30),
    most_records=st.integers(1, 20),
    most_bytes=st.integers(1, 300),
)
def test_groups_hold_all_in_order_and_as_many_as_fit(
    sizes: list[tuple[int, int]], most_records: int, most_bytes: int
) -> None:
    async def story() -> None:
        appends = Appends()
        added = [an_append(records, size) for records, size in sizes]
        for append in added:
            appends.add(append)
        taken: list[Append] = []
        while group := appends.take(most_records, most_bytes):
            assert sum(len(one.entries) for one in group[:-1]) < most_records
            assert len(group) == 1 or sum(one.size for one in group) <= most_bytes
            taken.extend(group)
            if len(taken) < len(added):
                following = added[len(taken)]
                is_full = sum(len(one.entries) for one in group) >= most_records
                assert is_full or sum(one.size for one in (*group, following)) > most_bytes
        assert taken == added
        assert len(appends) == 0

    run(story())


@asynchronous
async def test_the_queue_is_limited_in_records_until_some_are_removed() -> None:
    appends = Appends()
    appends.add(an_append(QUEUE_RECORDS - 1))
    appends.add(an_append(1))
    with pytest.raises(RecordRefused, match="too many records wait"):
        appends.add(an_append(1))
    assert [len(one.entries) for one in appends.take(1)] == [QUEUE_RECORDS - 1]
    appends.add(an_append(QUEUE_RECORDS - 1))
    with pytest.raises(RecordRefused):
        appends.add(an_append(1))


@asynchronous
async def test_the_queue_is_limited_in_bytes() -> None:
    appends = Appends()
    appends.add(an_append(size=QUEUE_BYTES))
    with pytest.raises(RecordRefused):
        appends.add(an_append(size=1))
    appends.take(1)
    appends.add(an_append(size=1))


@asynchronous
async def test_one_append_finds_room_in_an_empty_queue_however_large_it_is() -> None:
    appends = Appends()
    appends.add(an_append(QUEUE_RECORDS + 1, size=QUEUE_BYTES + 1))
    assert len(appends.take(1, 1)) == 1


@asynchronous
async def test_the_oldest_counts_until_its_group_has_ended() -> None:
    appends = Appends()
    assert appends.oldest is None
    appends.add(an_append(since=5.0))
    appends.add(an_append(since=7.0))
    assert appends.oldest == 5.0
    appends.take(1)
    assert appends.oldest == 5.0, "it is under way"
    appends.end_group()
    assert appends.oldest == 7.0
    appends.take(1)
    assert appends.take(1) == []
    assert appends.oldest is None


@asynchronous
async def test_a_caller_who_waits_no_more_is_left_alone() -> None:
    gone, written, failed = an_append(), an_append(), an_append()
    gone.done.cancel()
    gone.succeed(1)
    gone.fail(StorageFailed("disk full"))
    written.succeed(2)
    failed.fail(StorageFailed("disk full"))
    assert await written.done == 2
    with pytest.raises(StorageFailed, match="disk full"):
        await failed.done
