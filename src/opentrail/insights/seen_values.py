"""Values that have been seen, such as the APIs of each principal: 64-bit hashes with days."""

from __future__ import annotations

import hashlib
from array import array

import msgspec

#: Days after which a value that was not seen again is forgotten.
FORGOTTEN_DAYS = 90
#: Maximum number of values; further ones are not stored.
MAX_VALUES = 500_000
#: Days after which values that were seen on one day only are forgotten while there is little room.
#: Anyone may invent services and programs, but hardly the same ones again and again.
_FORGOTTEN_WITHOUT_ROOM = (30, 7, 1)
_DAY_BITS = 16
_DAY_MASK = (1 << _DAY_BITS) - 1


class SeenState(msgspec.Struct):
    """What a snapshot holds: the hashes, and the days of each, as arrays of 64 bits."""

    hashes: bytes = b""
    days: bytes = b""


def hash_of(*parts: str) -> int:
    """Returns the 64-bit hash of a value, the same in every process."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


class SeenValues:
    """The first and the last day on which each value was seen; days are counted from 1970.

    A value takes about 100 bytes.
    """

    def __init__(self) -> None:
        # Both days in one integer, which takes half the memory of a tuple.
        self._days: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._days)

    def first(self, value: int) -> int | None:
        """Returns the first day of a value."""
        days = self._days.get(value)
        return None if days is None else days >> _DAY_BITS

    def last(self, value: int) -> int | None:
        """Returns the last day of a value."""
        days = self._days.get(value)
        return None if days is None else days & _DAY_MASK

    def has(self, value: int, day: int) -> bool:
        """Returns whether a value is known on a day, and not forgotten."""
        last = self.last(value)
        return last is not None and day - last <= FORGOTTEN_DAYS

    def see(self, value: int, day: int) -> bool:
        """Stores that a value was seen on a day; returns False if there is not room for it."""
        days = self._days.get(value)
        if days is None and len(self._days) >= MAX_VALUES:
            return False
        first = last = day
        if days is not None and self.has(value, day):
            first = min(first, days >> _DAY_BITS)
            last = max(last, days & _DAY_MASK)
        self._days[value] = first << _DAY_BITS | last
        return True

    def forget(self, day: int) -> None:
        """Forgets values that were not seen in the days before this one."""
        self._days = {value: days for value, days in self._days.items() if self.has(value, day)}
        for idle in _FORGOTTEN_WITHOUT_ROOM:
            if len(self._days) <= MAX_VALUES * 3 // 4:
                break
            self._days = {
                value: days
                for value, days in self._days.items()
                if self.first(value) != self.last(value) or day - (days & _DAY_MASK) <= idle
            }

    def add(self, other: SeenValues) -> int:
        """Adds all values of another set; returns for how many there was not room."""
        refused = 0
        for value in other._days:
            for day in (other.first(value), other.last(value)):
                refused += day is not None and not self.see(value, day)
        return refused // 2

    def state(self) -> SeenState:
        """Returns what `SeenValues.of` needs."""
        hashes, days = array("Q", self._days.keys()), array("Q", self._days.values())
        return SeenState(hashes.tobytes(), days.tobytes())

    @classmethod
    def of(cls, state: SeenState) -> SeenValues:
        """Returns the set of this state."""
        self = cls()
        hashes, days = array("Q", state.hashes), array("Q", state.days)
        self._days = dict(zip(hashes, days, strict=True))
        return self
