from __future__ import annotations

import numpy as np
import pytest

from benchmarks.insights.incidents import APART, MIN_CALLS, TYPES, Incident
from benchmarks.insights.schedule import DAY, WEEK
from benchmarks.insights.traffic import KINDS
from benchmarks.insights.workload import Workload, make


@pytest.fixture(scope="module")
def workload() -> Workload:
    return make(seed=4, keys=120, weeks=5, incidents_per_key=0.75)


def without_incidents(workload: Workload) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    normal = workload.counts.astype(np.int64)
    for label in workload.labels:
        normal[label.key, label.start : label.end] -= label.change
    return np.asarray(normal)


def of(workload: Workload, type_: str) -> list[Incident]:
    return [label for label in workload.labels if label.type == type_]


@pytest.mark.slow
def test_the_same_seed_makes_the_same_account() -> None:
    one, two = (make(seed=7, keys=60, weeks=3) for _ in range(2))
    assert np.array_equal(one.counts, two.counts)
    assert one.kinds == two.kinds
    described = [
        [(x.key, x.start, x.end, x.type, x.plain, x.culprit) for x in workload.labels]
        for workload in (one, two)
    ]
    assert described[0] == described[1]


@pytest.mark.slow
def test_another_seed_makes_another_account() -> None:
    one, two = (make(seed, keys=60, weeks=3) for seed in (1, 2))
    assert not np.array_equal(one.counts, two.counts)


@pytest.mark.slow
def test_account_begins_on_a_monday_at_midnight_utc(workload: Workload) -> None:
    # 1970-01-01 was a Thursday.
    assert workload.start % WEEK == 4 * DAY
    assert workload.counts.shape == (120, workload.minutes) == (120, 5 * WEEK)


@pytest.mark.slow
def test_every_kind_of_normal_traffic_occurs(workload: Workload) -> None:
    assert set(workload.kinds) == set(KINDS)


@pytest.mark.slow
def test_scored_fortnight_has_every_type_of_incident(workload: Workload) -> None:
    assert {label.type for label in workload.labels if label.scored} == set(TYPES)


def test_labels_lie_within_the_data_and_their_period(workload: Workload) -> None:
    for label in workload.labels:
        assert 0 < label.start < label.end <= workload.minutes
        assert label.change.size == label.end - label.start
        if label.scored:
            assert label.start >= workload.scored_start
        else:
            assert label.end < workload.scored_start


def test_history_also_has_incidents(workload: Workload) -> None:
    assert any(not label.scored for label in workload.labels)


def test_incidents_of_a_key_are_apart(workload: Workload) -> None:
    for one in workload.labels:
        for other in workload.labels:
            if one is not other and one.key == other.key:
                assert one.start >= other.end + APART or other.start >= one.end + APART


def test_labels_explain_the_changes_by_incidents(workload: Workload) -> None:
    assert (without_incidents(workload) >= 0).all()
    for label in workload.labels:
        assert label.change[0] != 0 or label.type == "drop"
        if label.up:
            assert label.change.min() >= 0
            assert label.change.sum() >= MIN_CALLS
            assert label.culprit is not None
        else:
            assert label.change.max() <= 0
            assert label.culprit is None


@pytest.mark.slow
def test_a_surge_has_its_factor() -> None:
    workload = make(seed=5, keys=120, weeks=3, incidents_per_key=2)
    ratios = [
        workload.counts[x.key, x.start : x.end].sum()
        / (workload.counts[x.key, x.start - 60 : x.end].sum() - x.change.sum())
        * (60 + x.end - x.start)
        / (x.end - x.start)
        / x.factor
        for x in of(workload, "surge")
    ]
    assert len(ratios) > 20
    assert 0.8 < np.median(ratios) < 1.25


def test_new_api_has_at_most_five_earlier_calls(workload: Workload) -> None:
    found = of(workload, "new API")
    assert found
    for label in found:
        assert workload.counts[label.key, : label.start].sum() <= 5


def test_error_storms_are_of_error_keys(workload: Workload) -> None:
    assert all(workload.error_rate[label.key] for label in of(workload, "error storm"))
    for name, is_error in zip(workload.names, workload.error_rate, strict=True):
        assert (name.error_code is not None) == is_error
    assert len(set(workload.names)) == workload.keys


def test_drops_and_doubled_traffic_are_never_plain(workload: Workload) -> None:
    assert not any(label.plain for label in of(workload, "drop"))
    assert not any(label.plain for label in of(workload, "surge") if label.factor == 2)


def test_a_plain_incident_triples_its_keys_usual_rate(
    workload: Workload,
) -> None:
    normal = without_incidents(workload)
    plain = [label for label in workload.labels if label.plain]
    assert 0.3 * len(workload.labels) < len(plain) < 0.8 * len(workload.labels)
    for label in plain:
        rows = normal[label.key].reshape(-1, DAY)
        others = np.delete(rows, range(label.start // DAY, (label.end - 1) // DAY + 1), axis=0)
        clock = np.arange(label.start - 60, label.end + 60) % DAY
        during = workload.counts[label.key, label.start : label.end]
        # Three times the largest sum of some window is more than the largest minute.
        assert during.sum() > others[:, clock].max()


def test_most_keys_are_sparse_and_few_are_busy(workload: Workload) -> None:
    per_day = without_incidents(workload).mean(axis=1) * DAY
    assert np.median(per_day) < 60
    assert np.percentile(per_day, 10) < 1
    assert per_day.max() > 2000


@pytest.mark.slow
def test_a_quiet_holiday_precedes_a_normal_day() -> None:
    workload = make(seed=9, keys=120, weeks=5)
    offices = np.array([kind in ("human", "monday") for kind in workload.kinds])
    days = without_incidents(workload)[offices].reshape(offices.sum(), -1, DAY).sum(axis=2)
    scored = [day for day in workload.holidays if day * DAY >= workload.scored_start]
    assert scored
    for day in scored:
        usual = np.median(days[:, day % 7 :: 7], axis=1)
        assert days[:, day].sum() < 0.4 * usual.sum()


def test_an_account_can_be_seen_some_days_earlier(workload: Workload) -> None:
    earlier = workload.until(scored_days=3)
    assert earlier.scored_start == workload.scored_start
    assert earlier.minutes == workload.scored_start + 3 * DAY
    assert np.array_equal(earlier.counts, workload.counts[:, : earlier.minutes])
    assert all(label.end <= earlier.minutes for label in earlier.labels)


def test_less_than_three_weeks_are_refused() -> None:
    with pytest.raises(ValueError, match="weeks is 2"):
        make(seed=1, keys=10, weeks=2)
