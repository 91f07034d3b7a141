"""Ids of events: random UUIDs, made many at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator

#: Ids that nobody has been given yet; taking one from the end is atomic.
_ids: list[str] = []
_IDS = 64
os.register_at_fork(after_in_child=_ids.clear)


def new_event_id() -> str:
    """Returns a fresh event id: a random UUID."""
    while True:
        try:
            return _ids.pop()
        except IndexError:
            _ids.extend(_fresh_ids(os.urandom(16 * _IDS).hex()))


def _fresh_ids(digits: str) -> Iterator[str]:
    """Makes random digits into UUIDs: many at a time, for randomness comes with a system call."""
    for start in range(0, len(digits), 32):
        text = digits[start : start + 32]
        # RFC 9562: the version in the 13th digit, the variant in the 17th.
        variant = "89ab"[int(text[16], 16) & 3]
        yield f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"
