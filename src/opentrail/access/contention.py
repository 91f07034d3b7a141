"""Changes to a document that others may be changing at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from opentrail.core.errors import Conflict

T = TypeVar("T")

_MAX_ATTEMPTS = 10


async def retry_on_conflict(attempt: Callable[[], Awaitable[T]], failure: str) -> T:
    """Returns the result of the first attempt without a concurrent change by others.

    Args:
        attempt: reads, and writes on the condition that nothing has changed since.
        failure: the text of the error if every attempt fails.

    Raises:
        Conflict: so does every attempt.
    """
    for _ in range(_MAX_ATTEMPTS):
        try:
            return await attempt()
        except Conflict:
            continue
    raise Conflict(failure)
