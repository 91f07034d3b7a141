"""Values created for every call."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as value_class
else:
    from dataclasses import dataclass

    def value_class(*, frozen: bool, slots: bool):
        """Makes a dataclass that is frozen for the type checker only.

        Creating a really frozen one takes five times as long, because each member goes through
        `object.__setattr__`; a call creates a dozen of them.
        """
        return dataclass(slots=slots, unsafe_hash=frozen)


__all__ = ["value_class"]
