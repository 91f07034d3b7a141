from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from math import lgamma, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from opentrail.insights.baseline import DAY
from opentrail.insights.detector import PRESETS, Detector, DetectorState, Transition, score

pytestmark = pytest.mark.slow

#: A Monday.
START = 28_401_120
#: A minute of the fifth week.
BURST = 28 * DAY + 10 * 60
Counts = NDArray[np.int64]
#: An account over its budget reports no later incidents.
LATER = START + 15 * DAY


def detector_of(keys: int, preset: str = "balanced", budget: float = 1e9) -> Detector:
    detector = Detector(PRESETS[preset], START, budget)
    for _ in range(keys):
        detector.add("123456789012")
    return detector


def feed(detector: Detector, counts: Counts, first: int = START) -> list[Transition]:
    """Closes minutes, whose calls are the columns, and returns all changes."""
    changes: list[Transition] = []
    for minute in range(counts.shape[1]):
        rows = np.nonzero(counts[:, minute])[0]
        calls = counts[rows, minute].astype(np.float32)
        changes += detector.close(first + minute, rows, calls)
    return changes


def known(changes: list[Transition]) -> list[Transition]:
    """Returns the changes of keys known for at least a week."""
    return [change for change in changes if change.start >= START + 7 * DAY]


def office(days: int, per_minute: float = 0.3, keys: int = 1, seed: int = 1) -> Counts:
    """Returns random calls in working hours, a few on other days."""
    minute = np.arange(days * DAY)
    works = (minute % DAY >= 8 * 60) & (minute % DAY < 18 * 60) & (minute // DAY % 7 < 5)
    rate = np.where(works, per_minute, per_minute / 50)
    return np.random.default_rng(seed).poisson(rate, (keys, len(minute)))


@pytest.fixture(scope="module")
def four_weeks() -> list[list[Transition]]:
    """Returns the changes of four keys that one detector watches: an office, a new API,
    a steady key and a nightly batch. Each minute costs as much for one key as for four.
    """
    counts = np.zeros((4, 29 * DAY), np.int64)
    counts[0] = office(29, 4.0)
    counts[0, BURST : BURST + 20] += 20
    counts[1, 9 * DAY : 9 * DAY + 5] = 10
    counts[2] = 2
    counts[2, BURST : BURST + 120] = 0
    for day in range(29):
        late = 40 if day == 26 else 0
        counts[3, day * DAY + 120 + late : day * DAY + 130 + late] = 30
    changes = feed(detector_of(4), counts)
    return [[change for change in changes if change.row == row] for row in range(4)]


def test_a_fivefold_rate_is_found_within_three_minutes(
    four_weeks: list[list[Transition]],
) -> None:
    start, end = known(four_weeks[0])
    assert start.rises
    assert start.end is None
    assert start.start == START + BURST
    assert start.found < START + BURST + 3
    assert end.start == start.start
    assert end.end is not None
    assert abs(end.end - (START + BURST + 20)) <= 5
    assert end.found <= START + BURST + 20 + 15


@pytest.mark.campaign
def test_ordinary_days_are_never_unusual() -> None:
    assert known(feed(detector_of(3), office(40, 1.0, keys=3))) == []


def test_the_first_burst_of_an_api_is_found(four_weeks: list[list[Transition]]) -> None:
    start, end = four_weeks[1]
    assert start.start == START + 9 * DAY
    assert end.end == START + 9 * DAY + 5


def test_a_steady_key_that_falls_silent_is_found(four_weeks: list[list[Transition]]) -> None:
    start, end = known(four_weeks[2])
    assert not start.rises
    assert abs(start.start - (START + BURST)) <= 1
    assert start.found <= START + BURST + 60
    assert end.end is not None
    assert abs(end.end - (START + BURST + 120)) <= 1


def test_a_late_nightly_batch_is_usual(four_weeks: list[list[Transition]]) -> None:
    assert known(four_weeks[3]) == []


@pytest.mark.campaign
def test_an_incident_does_not_become_the_norm() -> None:
    counts = office(18, 4.0)
    for day in (14, 15):
        at = day * DAY + 10 * 60
        counts[0, at : at + 20] += 30
    assert [c.start for c in known(feed(detector_of(1), counts)) if c.end is None] == [
        START + 14 * DAY + 600,
        START + 15 * DAY + 600,
    ]


@pytest.mark.campaign
def test_strict_reports_less_than_balanced_and_aws_more() -> None:
    starts = {}
    counts = office(19, 1.0)
    for number, size in enumerate((2, 3, 5, 8, 20)):
        at = (14 + number) * DAY + 600
        counts[0, at : at + 6] += size
    for preset in PRESETS:
        changes = feed(detector_of(1, preset), counts)
        starts[preset] = sum(change.end is None for change in changes)
    assert starts["strict"] <= starts["balanced"] <= starts["aws"]
    assert starts["strict"] < starts["aws"]


@pytest.mark.campaign
def test_account_over_its_budget_reports_its_largest_incidents() -> None:
    keys = 12
    counts = office(18, 1.0, keys)
    for key in range(keys):
        for day, size in ((9, 14), (16, 8)):
            at = day * DAY + 600 + key
            counts[key, at : at + 10] += size
    counts[0, 16 * DAY + 600 : 16 * DAY + 610] += 90
    many, few = (
        {c.row for c in feed(detector_of(keys, budget=budget), counts) if c.found > LATER}
        for budget in (1e9, 0.5)
    )
    assert 0 in few < many


@pytest.mark.campaign
def test_dropped_keys_do_not_change_the_others() -> None:
    """Even in the middle of an incident."""
    counts = office(12, 1.0, 4)
    for key, day in ((0, 9), (2, 9), (3, 9), (2, 10), (3, 11)):
        counts[key, day * DAY + 600 : day * DAY + 620] += 40
    kept, now = [0, 2, 3], 9 * DAY + 610
    expected = [change for change in feed(detector_of(4), counts) if change.row in kept]
    assert len(known(expected)) == 10
    detector = Detector(PRESETS["balanced"], START)
    assert [detector.add("123456789012") for _ in range(4)] == [0, 1, 2, 3]
    changes = [each for each in feed(detector, counts[:, :now]) if each.row in kept]
    detector.keep(np.array(kept))
    numbers = dict(enumerate(kept))
    changes += [
        replace(each, row=numbers[each.row])
        for each in feed(detector, counts[kept, now:], START + now)
    ]
    assert changes == expected


@pytest.mark.campaign
def test_lasting_higher_rate_becomes_usual_after_five_days() -> None:
    change_at = 9 * DAY + 10 * 60
    counts = np.random.default_rng(1).poisson(1.0, (1, change_at + 7 * DAY))
    counts[0, change_at:] += 10
    found = known(feed(detector_of(1), counts))
    starts = [change.start - START - change_at for change in found if change.end is None]
    assert [round(start / DAY) for start in starts] == [0, 1, 2, 3, 4]


@pytest.mark.campaign
def test_a_burst_of_every_day_becomes_usual() -> None:
    counts = office(26, 4.0)
    for day in range(14, 26):
        counts[0, day * DAY + 1200 : day * DAY + 1220] += 20
    days = [(each.start - START) // DAY for each in known(feed(detector_of(1), counts))]
    assert 14 in days
    assert max(days) < 24


@pytest.mark.parametrize("day", [1, 9])
def test_less_is_known_in_the_first_days(day: int) -> None:
    counts = office(day + 1, 1.0)
    counts[0, day * DAY + 600 : day * DAY + 605] += 8
    starts = [
        each.start for each in feed(detector_of(1), counts) if each.start >= START + day * DAY
    ]
    assert bool(starts) == (day == 9)


def workloads(days: int) -> st.SearchStrategy[Counts]:
    """Draws a few keys with ordinary calls and bursts."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Counts:
        counts = office(days, draw(st.sampled_from([0.05, 0.5, 3.0])), 3, draw(st.integers(0, 99)))
        for _ in range(draw(st.integers(0, 4))):
            at = draw(st.integers(0, days * DAY - 40))
            size, width = draw(st.integers(3, 60)), draw(st.integers(1, 30))
            counts[draw(st.integers(0, 2)), at : at + width] += size
        return counts

    return drawn()


@pytest.mark.campaign
@pytest.mark.hypothesis
@settings(max_examples=8, deadline=None)
@given(workloads(3), st.integers(1, 3 * DAY - 1), st.integers(0, 200))
def test_later_calls_never_change_earlier_findings(counts: Counts, now: int, later: int) -> None:
    other = counts.copy()
    other[:, now:] = later
    limit = START + now
    found = [change for change in feed(detector_of(3), counts) if change.found < limit]
    assert [change for change in feed(detector_of(3), other) if change.found < limit] == found


@pytest.mark.hypothesis
@settings(max_examples=8, deadline=None)
@given(workloads(3), st.integers(1, 3 * DAY - 1))
def test_late_calls_count_in_their_own_minute(counts: Counts, at: int) -> None:
    """A late burst is found at its time, not at its arrival."""
    at = min(at, 3 * DAY - 200)
    counts[:, at : at + 150] = 0
    detector = detector_of(3)
    feed(detector, counts[:, : at + 100])
    late = detector.add_late(
        [
            (START + minute, np.array([1]), np.array([40.0], np.float32))
            for minute in range(at + 20, at + 25)
        ]
    )
    starts = [change for change in late if change.end is None]
    assert all(START + at + 20 <= change.start < START + at + 25 for change in starts)
    assert feed(detector, counts[:, at + 100 :], START + at + 100) is not None


@pytest.mark.parametrize(
    "later", [15, *(pytest.param(late, marks=pytest.mark.campaign) for late in (60, 170))]
)
def test_a_late_burst_is_the_same_incident(later: int) -> None:
    burst = 9 * DAY + 600
    counts = office(9, 1.0) if later < 60 else np.zeros((1, 9 * DAY), np.int64)
    counts = np.concatenate([counts, np.zeros((1, DAY), np.int64)], axis=1)
    calls = [20, 8, 30, 0, 25]
    in_time = counts.copy()
    in_time[0, burst : burst + 5] += calls
    expected = [(each.start, each.end) for each in known(feed(detector_of(1), in_time))]
    assert [start for start, end in expected if end is None] == [START + burst]
    detector = detector_of(1)
    changes = known(feed(detector, counts[:, : burst + later]))
    row, minutes = np.array([0]), enumerate(calls, START + burst)
    changes += detector.add_late(
        [(minute, row, np.array([each], np.float32)) for minute, each in minutes if each]
    )
    changes += feed(detector, counts[:, burst + later :], START + burst + later)
    assert [(each.start, each.end) for each in changes] == expected


def log_likelihood(count: int, mean: float, dispersion: float) -> float:
    """Returns the logarithm of the probability of a count, negative binomial with this mean."""
    together = mean + dispersion
    return (
        lgamma(count + dispersion)
        - lgamma(dispersion)
        - lgamma(count + 1)
        + dispersion * log(dispersion / together)
        + (count * log(mean / together) if count else 0.0)
    )


@pytest.mark.parametrize("expected", [0.2, 3.0, 40.0])
@pytest.mark.parametrize("dispersion", [0.5, 4.0])
def test_the_score_compares_likelihoods_of_the_two_means(
    expected: float, dispersion: float
) -> None:
    counts = [0, 1, 7, 40, 300]
    wanted = [
        log_likelihood(count, count, dispersion) - log_likelihood(count, expected, dispersion)
        for count in counts
    ]
    scores = score(
        np.array(counts, float), np.full(len(counts), expected), np.full(len(counts), dispersion)
    )
    assert scores.tolist() == pytest.approx(wanted)


#: The first minute after `NINE_DAYS`, and its day.
NOW = START + 9 * DAY
TODAY = NOW // DAY


@pytest.fixture(scope="module")
def nine_days() -> Detector:
    """A detector that knows a key with a call every ten minutes for nine days."""
    counts = np.zeros((1, 9 * DAY), np.int64)
    counts[0, ::10] = 1
    detector = detector_of(1)
    assert feed(detector, counts) == []
    return detector


def with_state(detector: Detector, **changes: object) -> Detector:
    """Returns a copy of a detector with another state."""
    copy = deepcopy(detector)
    state = copy.state()
    for name, value in changes.items():
        assert hasattr(state, name)
        setattr(state, name, value)
    assert isinstance(state, DetectorState)
    copy.restore(copy.baselines, state)
    return copy


def burst_at(detector: Detector, first: int, minutes: int = 3) -> list[Transition]:
    """Closes minutes with 50 calls each."""
    return feed(detector, np.full((1, minutes), 50, np.int64), first)


@pytest.mark.parametrize(
    ("past", "masked", "learned"),
    [
        ([], (0, 0), False),
        ([1, 2, 3], (0, 0), False),
        ([1, 2, 3, 4], (0, 0), True),
        ([2, 3, 4, 5], (0, 0), False),
        ([0, 1, 2, 3], (0, 0), False),
        ([1, 1, 2, 3], (0, 0), False),
        ([], (0, 900), False),
        ([], (0, 901), True),
        ([], (1, 901), False),
    ],
)
def test_an_incidents_calls_are_learned_after_enough_days(
    nine_days: Detector, past: list[int], masked: tuple[int, int], learned: bool
) -> None:
    """`past` are days ago, like the first of `masked`; its second are minutes."""
    detector = with_state(
        nine_days,
        past={0: [TODAY - days for days in past]},
        masked={0: (TODAY - masked[0], masked[1])},
    )
    (start,) = burst_at(detector, NOW)
    assert start == Transition(0, NOW, NOW, rises=True)
    assert detector.incidents[0].learned is learned
    known_calls = detector.baselines.calls(0, 3, NOW + 2).tolist()
    if learned:
        assert known_calls == [50, 50, 50]
    else:
        assert max(known_calls) < 1, "the baseline counts the usual rate instead"


def test_unlearned_incident_minutes_are_counted_by_day(nine_days: Detector) -> None:
    detector = deepcopy(nine_days)
    burst_at(detector, NOW, 5)
    assert detector.state().masked == {0: (TODAY, 4)}, "the first minute began it"
    detector = with_state(nine_days, masked={0: (TODAY - 1, 700)})
    burst_at(detector, NOW, 2)
    assert detector.state().masked == {0: (TODAY, 1)}


def test_incident_over_midnight_belongs_to_its_first_day(
    nine_days: Detector,
) -> None:
    detector = deepcopy(nine_days)
    feed(detector, np.zeros((1, DAY - 3), np.int64), NOW)
    changes = burst_at(detector, NOW + DAY - 3, 6)
    changes += feed(detector, np.zeros((1, 30), np.int64), NOW + DAY + 3)
    start, end = changes
    assert (start.start, end.end) == (NOW + DAY - 3, NOW + DAY + 3)
    assert detector.state().past == {0: [TODAY]}


@pytest.mark.parametrize(("keys", "dial"), [(1, 4.0), (2, 3.0)])
def test_dial_is_the_highest_ratio_beyond_the_budget(keys: int, dial: float) -> None:
    """A budget of 0.4985 a week, and 0.001 for each key, allows one or two in four weeks."""
    detector = detector_of(keys, budget=0.4985)
    other = detector.add("999999999999")
    days = range(TODAY - 3, TODAY)
    ratios = [(day, 0, ratio) for day, ratio in zip(days, (3.0, 5.0, 4.0), strict=True)]
    ratios += [(TODAY - 29, 0, 9.0), (TODAY - 28, 0, 2.0), (TODAY - 1, other, 1.2)]
    detector = with_state(detector, ratios=ratios)
    detector.close(NOW, np.zeros(0, np.intp), np.zeros(0, np.float32))
    state = detector.state()
    assert state.dials == [dial, 1.0]
    assert sorted(state.ratios) == sorted(each for each in ratios if each[0] >= TODAY - 28)


def test_account_threshold_suppresses_smaller_findings(nine_days: Detector) -> None:
    detector = with_state(nine_days, dials=[1e6])
    detector.close(NOW, np.zeros(0, np.intp), np.zeros(0, np.float32))
    assert len(burst_at(detector, NOW + 1)) == 1, "the dial is set anew each day"
    detector = deepcopy(nine_days)
    detector.close(NOW, np.zeros(0, np.intp), np.zeros(0, np.float32))
    detector = with_state(detector, dials=[1e6])
    assert burst_at(detector, NOW + 1) == []
    ((day, row, ratio),) = detector.state().ratios
    assert (day, row) == (TODAY, 0)
    assert 1 < ratio < 1e6
