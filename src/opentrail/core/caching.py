"""Caches of functions of strings that callers send, which may be of any length."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

T = TypeVar("T")


def cached_if_short(
    max_length: int, entries: int = 4_096
) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """Returns a decorator that caches results for strings of at most `max_length` characters.

    A cache of all strings would hold as many bytes as callers send, whatever its number of entries.
    """

    def decorate(function: Callable[[str], T]) -> Callable[[str], T]:
        cached = lru_cache(entries)(function)

        @wraps(function)
        def call(text: str) -> T:
            return cached(text) if len(text) <= max_length else function(text)

        return call

    return decorate
