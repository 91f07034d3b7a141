"""Following the journal: in order, complete, despite any failure."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import pytest

from opentrail.core.errors import ObjectStoreError, OpentrailError, StorageFailed
from opentrail.core.event import Entry
from opentrail.ports.follow import (
    BATCH,
    FollowedPositions,
    StoredCursor,
    WatchedFollower,
    catch_up,
    follow,
    needs_all,
)
from opentrail.ports.journal import Hold
from tests.factories import a_new_entry, event_id, some_records
from tests.fakes import (
    MemoryControl,
    MemoryJournal,
    asynchronous,
    eventually,
    run_skipping_time,
    turns,
)

DAY = 86_400.0


class Collector:
    """A follower that remembers every batch, and fails a given number of times."""

    name = "collector"

    def __init__(self, place: int = 0, failures: int = 0, error: Exception | None = None) -> None:
        self.batches: list[list[int]] = []
        self.tries = 0
        self.failures = failures
        self.error = error or StorageFailed("disk full")
        self._place = place

    @property
    def taken(self) -> list[int]:
        return [position for batch in self.batches for position in batch]

    async def cursor(self) -> int:
        return self._place

    async def process(self, entries: Sequence[Entry]) -> None:
        self.tries += 1
        if self.failures:
            self.failures -= 1
            raise self.error
        self.batches.append([entry.position for entry in entries])
        self._place = entries[-1].position


async def append(journal: MemoryJournal, count: int) -> None:
    first = journal.head + 1
    await journal.append([a_new_entry(record) for record in some_records(count, first)])


def alive(task: asyncio.Task[None]) -> None:
    """Fails with the task's own error if it has ended."""
    if task.done():
        task.result()
        raise AssertionError("following has ended")


async def stop(task: asyncio.Task[None]) -> None:
    alive(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@asynchronous
async def test_a_follower_gets_old_and_new_entries() -> None:
    journal, collector = MemoryJournal(), Collector()
    await append(journal, 3)
    task = asyncio.create_task(follow(journal, collector))
    await eventually(lambda: len(collector.taken) == 3)
    for size in (1, 5, 2):
        await append(journal, size)
        await eventually(lambda: len(collector.taken) == journal.head)
    assert collector.taken == list(range(1, 12))
    await stop(task)


@asynchronous
async def test_catching_up_ends_once_nothing_is_missed() -> None:
    journal, collector = MemoryJournal(), Collector(place=1)
    await catch_up(journal, collector)
    assert collector.tries == 0
    await journal.append([a_new_entry()] * (BATCH + 2))
    await catch_up(journal, collector)
    assert [len(batch) for batch in collector.batches] == [BATCH, 1]
    assert collector.taken == list(range(2, BATCH + 3))
    collector.failures = 1
    await append(journal, 1)
    with pytest.raises(StorageFailed):
        await catch_up(journal, collector)


@asynchronous
async def test_linger_ends_as_soon_as_a_caller_waits() -> None:
    journal, collector, flush_now = MemoryJournal(), Collector(), asyncio.Event()
    await append(journal, 1)
    task = asyncio.create_task(follow(journal, collector, 1_000_000.0, flush_now))
    await eventually(lambda: len(collector.taken) == 1)
    for size in (1, 5):
        await append(journal, size)
        await turns()
        assert len(collector.taken) < journal.head, "it rests for days"
        flush_now.set()
        await eventually(lambda: len(collector.taken) == journal.head)
    await stop(task)


@asynchronous
async def test_a_follower_continues_after_its_cursor() -> None:
    journal, collector = MemoryJournal(), Collector(place=4)
    await append(journal, 6)
    task = asyncio.create_task(follow(journal, collector))
    await eventually(lambda: collector.taken)
    assert collector.taken == [5, 6]
    await stop(task)


@asynchronous
async def test_a_long_backlog_is_split_into_batches() -> None:
    journal, collector = MemoryJournal(), Collector()
    new = a_new_entry()
    await journal.append([new] * (2 * BATCH + 1))
    task = asyncio.create_task(follow(journal, collector))
    await eventually(lambda: len(collector.taken) == journal.head)
    assert [len(batch) for batch in collector.batches] == [BATCH, BATCH, 1]
    assert collector.taken == list(range(1, journal.head + 1))
    await stop(task)


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        StorageFailed("disk full"),
        ObjectStoreError("SlowDown", "503"),
        OpentrailError("anything"),
        OSError(28, "No space left on device"),
        KeyError("a mistake of ours"),
    ],
)
def test_a_failed_batch_is_retried_and_never_skipped(error: Exception) -> None:
    async def story() -> None:
        journal, collector = MemoryJournal(), Collector(failures=7, error=error)
        await append(journal, 3)
        task = asyncio.create_task(follow(journal, collector))
        loop = asyncio.get_running_loop()
        started = loop.time()
        await eventually(lambda: collector.taken, 0.01, 10 * 31)
        assert collector.taken == [1, 2, 3]
        assert collector.tries == 8
        assert 1 < loop.time() - started < 7 * 31
        await stop(task)

    run_skipping_time(story())


@pytest.mark.slow
def test_follower_that_fails_for_days_is_still_tried() -> None:
    async def story() -> None:
        journal, collector = MemoryJournal(), Collector(failures=10_000)
        await append(journal, 1)
        task = asyncio.create_task(follow(journal, collector))
        loop = asyncio.get_running_loop()
        started = loop.time()
        await eventually(lambda: collector.taken or task.done(), 10, 30 * DAY)
        alive(task)
        assert collector.taken == [1]
        assert loop.time() - started > DAY
        await stop(task)

    run_skipping_time(story())


@pytest.mark.parametrize(
    ("following", "longest"),
    [
        (follow, [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, *[30.0] * 7]),
        (partial(follow, max_backoff=1.0), [0.2, 0.4, 0.8, *[1.0] * 12]),
    ],
)
def test_waits_after_failures_double_up_to_a_limit(
    following: Callable[..., Coroutine[Any, Any, None]], longest: list[float]
) -> None:
    class Failing(Collector):
        def __init__(self) -> None:
            super().__init__(failures=15)
            self.tried: list[float] = []

        async def process(self, entries: Sequence[Entry]) -> None:
            self.tried.append(asyncio.get_running_loop().time())
            await super().process(entries)

    async def story() -> list[float]:
        journal, failing = MemoryJournal(), Failing()
        await append(journal, 1)
        task = asyncio.create_task(following(journal, failing))
        await eventually(lambda: failing.taken, 0.01, 15 * 31)
        await stop(task)
        return failing.tried

    tried = run_skipping_time(story())
    for most, (before, after) in zip(longest, itertools.pairwise(tried), strict=True):
        assert most / 2 - 0.001 <= after - before <= most + 0.001


def test_a_failure_after_recovery_is_retried_soon() -> None:
    async def story() -> None:
        journal, collector = MemoryJournal(), Collector(failures=12)
        await append(journal, 1)
        task = asyncio.create_task(follow(journal, collector))
        await eventually(lambda: collector.taken, 1, 20 * 31)
        collector.failures = 1
        loop = asyncio.get_running_loop()
        started = loop.time()
        await append(journal, 1)
        await eventually(lambda: len(collector.taken) == 2, 0.001)
        assert loop.time() - started < 1
        await stop(task)

    run_skipping_time(story())


@pytest.mark.parametrize("error", [StorageFailed("disk full"), KeyError("a mistake of ours")])
def test_a_follower_without_its_place_continues_earlier(
    error: Exception,
) -> None:
    class Forgetful(Collector):
        async def process(self, entries: Sequence[Entry]) -> None:
            if self.failures:
                self._place = 0
            await super().process(entries)

    async def story() -> None:
        journal, collector = MemoryJournal(), Forgetful(error=error)
        await append(journal, 2)
        task = asyncio.create_task(follow(journal, collector))
        await eventually(lambda: collector.taken)
        collector.failures = 1
        await append(journal, 1)
        await eventually(lambda: len(collector.batches) == 2, 1, 3 * 31)
        assert collector.batches == [[1, 2], [1, 2, 3]]
        await stop(task)

    run_skipping_time(story())


def test_follower_that_loses_its_place_is_fed_again() -> None:
    async def story() -> None:
        journal, collector, flush_now = MemoryJournal(), Collector(), asyncio.Event()
        await append(journal, 3)
        task = asyncio.create_task(follow(journal, collector, flush_now=flush_now))
        await eventually(lambda: collector.taken)
        await turns()
        collector._place = 1
        loop = asyncio.get_running_loop()
        started = loop.time()
        flush_now.set()
        await eventually(lambda: len(collector.batches) == 2)
        assert collector.batches == [[1, 2, 3], [2, 3]]
        assert loop.time() - started < 1
        await stop(task)

    run_skipping_time(story())


@asynchronous
async def test_cancelled_wait_is_cleaned_up() -> None:
    journal, collector, flush_now = MemoryJournal(), Collector(), asyncio.Event()
    task = asyncio.create_task(follow(journal, collector, flush_now=flush_now))
    await turns()
    waiting = len(asyncio.all_tasks())
    for _ in range(5):
        flush_now.set()
        await eventually(lambda: not flush_now.is_set())
    await turns()
    assert len(asyncio.all_tasks()) == waiting
    await stop(task)


def test_a_temporarily_unreadable_journal_is_read_again() -> None:
    class Unreadable(MemoryJournal):
        failures = 5

        async def read(self, after: int, limit: int, until: int | None = None) -> list[Entry]:
            if self.failures:
                self.failures -= 1
                raise StorageFailed("journal cannot be read")
            return await super().read(after, limit, until)

    async def story() -> None:
        journal, collector = Unreadable(), Collector()
        await append(journal, 2)
        task = asyncio.create_task(follow(journal, collector))
        await eventually(lambda: collector.taken or task.done(), 1, 20 * 31)
        alive(task)
        assert collector.taken == [1, 2]
        await stop(task)

    run_skipping_time(story())


def test_a_failing_journal_is_polled_with_backoff() -> None:
    class Unwatchable(MemoryJournal):
        failures = 5

        async def wait_beyond(self, position: int) -> None:
            if self.failures:
                self.failures -= 1
                raise StorageFailed("the journal's process has ended")
            await super().wait_beyond(position)

    async def story() -> None:
        journal, collector = Unwatchable(), Collector()
        task = asyncio.create_task(follow(journal, collector))
        loop = asyncio.get_running_loop()
        started = loop.time()
        await eventually(lambda: not journal.failures, 0.01, 10 * 31)
        assert loop.time() - started > 1
        await append(journal, 2)
        await eventually(lambda: collector.taken, 1, 3 * 31)
        assert collector.taken == [1, 2]
        await stop(task)

    run_skipping_time(story())


@asynchronous
async def test_entries_arrive_whole() -> None:
    seen: list[Entry] = []

    class Keeper(Collector):
        async def process(self, entries: Sequence[Entry]) -> None:
            seen.extend(entries)

    journal = MemoryJournal()
    await append(journal, 3)
    task = asyncio.create_task(follow(journal, Keeper()))
    await eventually(lambda: len(seen) == 3)
    assert seen == journal.disk
    assert [entry.event_id for entry in seen] == [event_id(number) for number in (1, 2, 3)]
    await stop(task)


def pauses(size: int, works: float, linger: float, longest: float = 0.0) -> list[float]:
    """Returns the seconds between the starts of batches, with new records during each."""

    class Worker(Collector):
        def __init__(self) -> None:
            super().__init__()
            self.began: list[float] = []

        async def process(self, entries: Sequence[Entry]) -> None:
            self.began.append(asyncio.get_running_loop().time())
            await append(journal, size)  # so there is always a next one
            await asyncio.sleep(works)
            await super().process(entries)

    async def story() -> list[float]:
        await append(journal, size)
        worker = Worker()
        following = asyncio.create_task(follow(journal, worker, linger, max_linger=longest))
        await eventually(lambda: len(worker.began) > 20)
        await stop(following)
        return worker.began

    journal = MemoryJournal()
    began = run_skipping_time(story())
    return [later - earlier for earlier, later in itertools.pairwise(began)]


@pytest.mark.parametrize(("works", "linger"), [(0.01, 0.0), (0.5, 0.0), (0.01, 0.5), (0.6, 0.5)])
def test_a_follower_lingers_after_a_partial_batch(works: float, linger: float) -> None:
    assert min(pauses(1, works, linger)) == pytest.approx(works + linger)


@pytest.mark.parametrize(("size", "waits"), [(1, 0.05), (50, 0.05), (100, 0.1), (2_000, 0.25)])
@pytest.mark.slow
def test_the_linger_grows_with_the_batch(size: int, waits: float) -> None:
    between = pauses(size, 0.0, 0.05, longest=0.25)
    assert between == pytest.approx([waits] * len(between))


@asynchronous
async def test_a_stored_cursor_begins_at_the_published_head() -> None:
    control = MemoryControl()
    first, second = (StoredCursor(control, "otlp", lambda: 7) for _ in range(2))
    assert await first.position() == 7
    assert await first.store(9) == 9
    assert (await first.position(), await second.position()) == (9, 9)
    assert await StoredCursor(control, "webhook", lambda: 8).position() == 8


@asynchronous
async def test_watched_follower_remembers_its_failure() -> None:
    collector = Collector(failures=1)
    watched = WatchedFollower(collector)
    journal = MemoryJournal()
    await append(journal, 3)
    with pytest.raises(StorageFailed):
        await catch_up(journal, watched)
    assert watched.failure == "disk full"
    await catch_up(journal, watched)
    assert watched.failure is None
    assert collector.taken == [1, 2, 3]


@asynchronous
async def test_progress_follows_the_slowest_running_follower() -> None:
    journal, progress = MemoryJournal(), FollowedPositions()
    await journal.append([a_new_entry(record) for record in some_records(9)])
    fast, stuck = Collector(), Collector(failures=1_000_000)
    assert progress.first(7) == 7
    tasks = [
        asyncio.create_task(follow(journal, follower, progress=progress))
        for follower in (fast, stuck)
    ]
    await eventually(lambda: fast.taken == list(range(1, 10)) and stuck.tries > 0)
    assert progress.first(9) == 0
    for number in (1, 0):
        tasks[number].cancel()
        await asyncio.gather(tasks[number], return_exceptions=True)
        assert progress.first(50) == (9 if number else 50)


@asynchronous
async def test_followers_ahead_leave_the_needs_of_others() -> None:
    progress = FollowedPositions()
    progress.record(Collector(), 100)
    assert progress.first(7) == 7


@asynchronous
async def test_follower_needs_everything_until_its_cursor_is_known() -> None:
    progress, waiting = FollowedPositions(), Collector()
    progress.begin(waiting, needs_all)
    assert progress.holds() == [Hold("the follower collector", 0)]
    progress.record(waiting, 5)
    assert progress.first(9) == 5
    progress.begin(waiting, lambda cursor: cursor - 3 if cursor < 8 else None)
    progress.record(waiting, 7)
    assert progress.first(9) == 4
    progress.record(waiting, 8)
    assert progress.holds() == []
