"""An attempt that meets a change of others is made again."""

import asyncio

import pytest

from opentrail.access.contention import retry_on_conflict
from opentrail.core.errors import Conflict


def test_the_first_attempt_without_a_conflict_counts() -> None:
    conflicts = [Conflict("changed"), Conflict("changed")]

    async def attempt() -> str:
        if conflicts:
            raise conflicts.pop()
        return "done"

    assert asyncio.run(retry_on_conflict(attempt, "busy; try again")) == "done"


def test_attempts_are_bounded() -> None:
    async def attempt() -> str:
        raise Conflict("changed")

    with pytest.raises(Conflict, match="busy; try again"):
        asyncio.run(retry_on_conflict(attempt, "busy; try again"))


def test_other_errors_are_not_retried() -> None:
    attempts = []

    async def attempt() -> str:
        attempts.append(1)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - the attempt's own
        asyncio.run(retry_on_conflict(attempt, "busy; try again"))
    assert len(attempts) == 1
