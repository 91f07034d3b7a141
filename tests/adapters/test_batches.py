"""Appends become batches: in order, without loss or repetition, and within limits."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from opentrail.adapters.batches import Append, Batches, Followers, append_of, refuse
from opentrail.core.errors import RecordRefused, StorageFailed
from opentrail.ports.journal import QUEUE_BYTES, QUEUE_RECORDS
from tests.factories import a_new_entry
from tests.fakes import asynchronous, turns

NEW = a_new_entry()


def an_append(records: int = 1, size: int | None = None, since: float = 0.0) -> Append:
    """Returns an append with records of a pretended size."""
    append = append_of([NEW] * records, asyncio.get_running_loop())
    append.size = append.size if size is None else size
    append.since = since
    return append


class WriterOfBatches(RuleBasedStateMachine):
    """A journal's writer, against a plain list: any order of appends, batches and failures."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.batches = Batches()
        self.accepted: list[Append] = []
        #: Returned appends in order, with their results.
        self.ended: list[tuple[Append, str]] = []
        self.out: list[Append] = []
        self.failure: str | None = None
        self.is_broken = self.is_closed = False

    def teardown(self) -> None:
        """Takes and writes the remaining batches: then every append has its one answer."""
        self.end()
        while batch := self.batches.take(QUEUE_RECORDS):
            self.out = batch
            self.end()
        assert [append for append, _ in self.ended] == self.accepted
        for append, outcome in self.ended:
            assert append.done.done()
            assert (append.done.exception() is None) == (outcome == "written")
        self.loop.close()

    @property
    def waiting(self) -> list[Append]:
        """The appends that are neither out nor returned."""
        return self.accepted[len(self.ended) + len(self.out) :]

    @initialize(most_records=st.integers(1, 20), most_bytes=st.integers(1, 300))
    def limit(self, most_records: int, most_bytes: int) -> None:
        self.most_records, self.most_bytes = most_records, most_bytes

    @rule(records=st.integers(1, 9), size=st.integers(1, 100), is_fenced=st.booleans())
    def append(self, records: int, size: int, is_fenced: bool) -> None:
        fence = (lambda _: None) if is_fenced else None
        append = append_of([NEW] * records, self.loop, fence=fence)
        append.size, append.since = size, float(len(self.accepted))
        if self.failure or self.is_closed:
            with pytest.raises(RecordRefused, match=self.failure or "closing"):
                self.batches.add(append)
        else:
            self.batches.add(append)
            self.accepted.append(append)

    @rule()
    def take(self) -> None:
        waiting = self.waiting
        batch = self.batches.take(self.most_records, self.most_bytes)
        if self.out:
            assert batch == []
            return
        assert batch == waiting[: len(batch)]
        assert bool(batch) == bool(waiting)
        assert sum(len(each.entries) for each in batch[:-1]) < self.most_records
        if len(batch) > 1:
            assert sum(each.size for each in batch) <= self.most_bytes
            assert not any(each.fence for each in batch)
        if 0 < len(batch) < len(waiting):  # as many as fit
            following = waiting[len(batch)]
            assert (
                sum(len(each.entries) for each in batch) >= self.most_records
                or sum(each.size for each in (*batch, following)) > self.most_bytes
                or following.fence
                or batch[-1].fence
            )
        self.out = batch

    @rule()
    def end(self) -> None:
        self.batches.end()
        for append in self.out:
            append.succeed(1)
            self.ended.append((append, "written"))
        self.out = []

    @rule(reason=st.sampled_from(["full", "gone"]), for_good=st.booleans())
    def fail(self, reason: str, for_good: bool) -> None:
        refused = self.batches.fail(reason, for_good)
        assert refused == self.accepted[len(self.ended) :]
        refuse(refused, reason)
        self.ended.extend((append, "refused") for append in refused)
        self.out = []
        self.failure = reason
        self.is_broken = self.is_broken or for_good

    @precondition(lambda self: self.failure)
    @rule()
    def recover(self) -> None:
        self.batches.recover()
        self.failure = self.failure if self.is_broken else None

    @precondition(lambda self: self.accepted)
    @rule()
    def close(self) -> None:
        self.batches.close()
        self.is_closed = True

    @invariant()
    def it_is_what_the_model_says(self) -> None:
        held = self.accepted[len(self.ended) :]
        assert not (self.failure and held)
        assert self.batches.failure == self.failure
        assert self.batches.needs_probe == (self.failure is not None and not self.is_broken)
        assert self.batches.is_idle == (not self.waiting and not self.is_closed)
        assert self.batches.is_over == (not self.waiting and self.is_closed)
        assert self.batches.seconds_waited(9_999) == (9_999 - held[0].since if held else 0)


def test_every_append_gets_one_answer_in_order() -> None:
    run_state_machine_as_test(WriterOfBatches, settings=settings(stateful_step_count=60))


@asynchronous
async def test_the_queue_is_limited_in_records() -> None:
    batches = Batches()
    batches.add(an_append(QUEUE_RECORDS - 1))
    batches.add(an_append(1))
    with pytest.raises(RecordRefused, match="too many records wait"):
        batches.add(an_append(1))
    assert [len(one.entries) for one in batches.take(1)] == [QUEUE_RECORDS - 1]
    batches.add(an_append(QUEUE_RECORDS - 1))
    with pytest.raises(RecordRefused):
        batches.add(an_append(1))


@asynchronous
async def test_the_queue_is_limited_in_bytes() -> None:
    batches = Batches()
    batches.add(an_append(size=QUEUE_BYTES))
    with pytest.raises(RecordRefused):
        batches.add(an_append(size=1))
    batches.take(1)
    batches.add(an_append(size=QUEUE_BYTES))
    batches.fail("the disk is full")
    batches.recover()
    batches.add(an_append(size=QUEUE_BYTES - 1))
    batches.add(an_append(size=1))


@asynchronous
async def test_empty_queue_accepts_an_append_of_any_size() -> None:
    batches = Batches()
    batches.add(an_append(QUEUE_RECORDS + 1, size=QUEUE_BYTES + 1))
    assert len(batches.take(1, 1)) == 1


@asynchronous
async def test_a_departed_caller_is_left_alone() -> None:
    gone, written, failed = an_append(), an_append(), an_append()
    gone.done.cancel()
    gone.succeed(1)
    gone.fail(StorageFailed("disk full"))
    written.succeed(2)
    failed.fail(StorageFailed("disk full"))
    assert await written.done == 2
    with pytest.raises(StorageFailed, match="disk full"):
        await failed.done


@asynchronous
async def test_followers_wake_once_their_position_is_passed() -> None:
    followers = Followers()
    waits = [asyncio.ensure_future(followers.wait_beyond(position)) for position in (3, 4, 4)]
    await turns()
    waits[1].cancel()
    await turns()
    followers.wake(4)
    await turns()
    assert [wait.done() for wait in waits] == [True, True, False]
    followers.wake(5)
    await waits[2]
