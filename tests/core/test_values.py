"""Values that are fast to make, and compare like frozen ones."""

from __future__ import annotations

from opentrail.core.value_class import value_class


@value_class(frozen=True, slots=True)
class _Point:
    x: int
    y: int = 0


def test_values_are_compared_and_hashed_by_content() -> None:
    assert _Point(1) == _Point(1, 0)
    assert _Point(1) != _Point(2)
    assert len({_Point(1), _Point(1, 0), _Point(1, 2)}) == 2


def test_values_accept_no_other_attribute() -> None:
    assert not hasattr(_Point(1), "__dict__")
