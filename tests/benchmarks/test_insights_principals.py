from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from benchmarks.insights.principals import events_of, usual
from benchmarks.insights.workload import Workload, make


@pytest.fixture(scope="module")
def workload() -> Workload:
    return make(seed=6, keys=80, weeks=3, incidents_per_key=1)


@pytest.mark.slow
def test_each_minute_has_the_counted_calls(workload: Workload) -> None:
    for label in workload.labels[:10]:
        first, last = label.start - 300, label.end + 60
        by_minute = Counter(call.minute for call in events_of(workload, label.key, first, last))
        found = [by_minute[minute] for minute in range(first, last)]
        assert found == workload.counts[label.key, first:last].tolist()


@pytest.mark.slow
def test_calls_do_not_depend_on_the_range(workload: Workload) -> None:
    label = next(label for label in workload.labels if label.up)
    whole = list(events_of(workload, label.key, label.start - 10, label.end))
    part = list(events_of(workload, label.key, label.start, label.end))
    assert whole[-len(part) :] == part


def test_the_culprit_makes_most_calls_of_an_incident(workload: Workload) -> None:
    labels = [label for label in workload.labels if label.up]
    for label in labels:
        arns = Counter(
            call.identity_arn for call in events_of(workload, label.key, label.start, label.end)
        )
        assert label.culprit is not None
        assert arns[label.culprit] >= 0.85 * label.change.sum()


def test_half_of_the_culprits_are_new(workload: Workload) -> None:
    labels = [label for label in workload.labels if label.up and label.factor >= 3]
    new = [
        label.culprit not in {one.arn for one in usual(workload.seed, label.key)}
        for label in labels
    ]
    assert 0.25 < np.mean(new) < 0.75


def test_usual_principals_make_usual_calls(workload: Workload) -> None:
    label = workload.labels[0]
    known = {one.arn: one.agent for one in usual(workload.seed, label.key)}
    assert 1 <= len(known) <= 8
    for call in events_of(workload, label.key, 0, label.start):
        assert known[call.identity_arn] == call.user_agent


def test_calls_of_an_error_key_have_its_code(workload: Workload) -> None:
    label = next(label for label in workload.labels if workload.error_rate[label.key])
    codes = {
        call.error_code for call in events_of(workload, label.key, label.start - 10, label.end)
    }
    assert codes == {workload.names[label.key].error_code}
