"""Tests of events that selectors are compiled to (cloudtrail-format §7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from opentrail.core.event_record import EventFields

Test = Callable[[EventFields], bool]
TextTest = Callable[[str], bool]


class Predicate:
    """Decides whether a selection includes an event."""

    __slots__ = ("_tests",)

    def __init__(self, alternatives: dict[str, list[Test | None]]) -> None:
        """Creates it from tests by category; None is the test that every event passes."""
        self._tests = {category: any_of(tests) for category, tests in alternatives.items()}

    def decides(self, category: str) -> bool | None:
        """Returns the decision if it depends on the category only, else None."""
        if category not in self._tests:
            return False
        return True if self._tests[category] is None else None

    def matches(self, category: str, fields: EventFields) -> bool:
        """Returns whether the selection includes an event."""
        if category not in self._tests:
            return False
        test = self._tests[category]
        return test is None or test(fields)


def any_of(tests: Iterable[Test | None]) -> Test | None:
    needed: list[Test] = []
    for test in tests:
        if test is None:
            return None
        needed.append(test)
    if len(needed) == 1:
        return needed[0]

    def fits_any(fields: EventFields) -> bool:
        for test in needed:  # noqa: SIM110 - a generator takes three times as long
            if test(fields):
                return True
        return False

    return fits_any


def all_of(tests: Sequence[Test]) -> Test | None:
    if len(tests) < 2:
        return tests[0] if tests else None

    def fits_all(fields: EventFields) -> bool:
        for test in tests:  # noqa: SIM110 - as in `any_of`
            if not test(fields):
                return False
        return True

    return fits_all


def has_resource(resource_type: str, matches: TextTest | None) -> Test:
    """Tests for a resource of a type whose ARN matches."""

    def fits(fields: EventFields) -> bool:
        for kind, arn in fields.resources:
            if kind == resource_type and (matches is None or (arn is not None and matches(arn))):
                return True
        return False

    return fits
