from __future__ import annotations

from benchmarks.insights.aws_examples import examples
from benchmarks.insights.scoring import Finding


def test_a_perfect_detector_passes_all_examples() -> None:
    for example in examples():
        labels = example.workload.labels
        assert example.passes([Finding(0, x.start, x.end, x.start, x.up) for x in labels])


def test_silence_passes_only_the_examples_without_an_incident() -> None:
    assert [one.passes([]) for one in examples()] == [not one.fires for one in examples()]


def test_an_alarm_fails_the_examples_without_an_incident() -> None:
    for example in examples():
        if not example.fires:
            minute = example.workload.scored_start + 50
            assert not example.passes([Finding(0, minute, minute + 5, minute)])


def test_the_incidents_have_the_documented_rates() -> None:
    rates = {
        one.name: [
            one.workload.counts[0, label.start : label.end].mean() for label in one.workload.labels
        ]
        for one in examples()
    }
    assert rates["20 calls a minute, then 0"] == [0]
    assert rates["20 calls a minute, then 100"] == [100]
    assert rates["no errors, then 1.2 a minute for 5 minutes"] == [1.2]
    assert rates["nearly unused, then 3 calls in 5 minutes"] == [0.6]
