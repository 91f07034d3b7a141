"""Items in batches of limited size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batches(
    items: Iterable[T], size_of: Callable[[T], int], max_size: int, max_items: float = math.inf
) -> Iterator[list[T]]:
    """Yields all items in order, in batches; an oversized item gets a separate batch.

    >>> list(batches(["aa", "b", "cccc", "d"], len, max_size=3))
    [['aa', 'b'], ['cccc'], ['d']]
    """
    batch: list[T] = []
    size = 0
    for item in items:
        own = size_of(item)
        if batch and (len(batch) >= max_items or size + own > max_size):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += own
    if batch:
        yield batch
