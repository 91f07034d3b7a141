"""Rounds: on time, when woken, later after failures, until there is nothing more to do."""

from __future__ import annotations

import asyncio
import itertools
import logging

import pytest

from opentrail.core.errors import ServiceError
from opentrail.trails.rounds import LONGEST_PAUSE, keep_on
from tests.fakes import asynchronous, run_skipping_time, turns


def times_of(outcomes: list[bool | None], interval: float) -> list[float]:
    """Returns when rounds began that do well (True), end it (False) or fail (None)."""

    async def story() -> list[float]:
        began: list[float] = []
        loop = asyncio.get_running_loop()

        async def work() -> bool:
            began.append(loop.time())
            outcome = outcomes[len(began) - 1]
            if outcome is None:
                raise ServiceError("Down", "it is down")
            return outcome

        await keep_on(work, asyncio.Event(), interval, {"trail": "t"})
        return began

    return run_skipping_time(story())


def pauses(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def test_rounds_come_at_intervals_until_one_says_that_it_is_over() -> None:
    found = pauses(times_of([True, True, True, False], 60))
    assert len(found) == 3
    assert all(59.9 < pause < 61 for pause in found)


def test_an_interval_counts_from_one_beginning_to_the_next() -> None:
    async def story() -> list[float]:
        began: list[float] = []
        loop = asyncio.get_running_loop()
        lasts = iter([20, 59, 90, 130, 0, 0])

        async def work() -> bool:
            began.append(loop.time())
            await asyncio.sleep(next(lasts))
            return len(began) < 6

        await keep_on(work, asyncio.Event(), 60, {})
        return began

    assert pauses(run_skipping_time(story())) == pytest.approx([60, 60, 90, 130, 60], abs=0.5)


def test_failures_make_pauses_longer_but_never_longer_than_five_minutes() -> None:
    found = pauses(times_of([None] * 14 + [False], 1))
    for number, pause in enumerate(found, 1):
        longest = min(LONGEST_PAUSE, 2**number)
        assert longest / 2 - 0.1 <= pause <= longest + 0.1
    assert max(found) > LONGEST_PAUSE / 2


def test_after_a_good_round_the_pace_is_the_usual_one() -> None:
    found = pauses(times_of([None, None, None, True, True, False], 1))
    assert found[2] > 3.9
    assert all(0.9 < pause < 1.1 for pause in found[3:])


@asynchronous
async def test_whoever_is_woken_begins_at_once() -> None:
    wake, rounds = asyncio.Event(), 0

    async def work() -> bool:
        nonlocal rounds
        rounds += 1
        return rounds < 3

    task = asyncio.create_task(keep_on(work, wake, 3_600, {}))
    for expected in (1, 2, 3):
        wake.set()
        await turns()
        assert rounds == expected
    await task


def test_a_mistake_of_ours_is_told_and_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.getLogger("opentrail.trails.rounds"), "handle", told.append)

    async def story() -> int:
        rounds = 0

        async def work() -> bool:
            nonlocal rounds
            rounds += 1
            if rounds == 1:
                raise KeyError("member")
            return rounds < 3

        await keep_on(work, asyncio.Event(), 1, {"trail": "t"})
        return rounds

    assert run_skipping_time(story()) == 3
    (record,) = told
    assert record.getMessage() == "delivery failed unexpectedly"
    assert record.exc_info is not None
