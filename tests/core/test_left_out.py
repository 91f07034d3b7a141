"""Counters of excluded calls."""

from opentrail.core.selectors.selection import OTHER, LeftOut


def test_kinds_of_calls_are_labels_of_a_metric() -> None:
    assert OTHER == ("other", "other", "")
    assert sorted([OTHER, LeftOut("a", "b", "")])[0].event_source == "a"
