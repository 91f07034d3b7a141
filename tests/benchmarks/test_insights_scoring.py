from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.insights.incidents import Incident
from benchmarks.insights.schedule import DAY
from benchmarks.insights.scoring import (
    BALANCED,
    GRACE,
    Finding,
    count_changed_by_later_data,
    match,
    score,
    summarise,
    table,
    targets,
)
from benchmarks.insights.workload import Name, Workload

MINUTES = 21 * DAY
FIRST = 7 * DAY


def incident(key: int, start: int, end: int, type_: str = "surge", **changes: object) -> Incident:
    label = Incident(
        key, start, end, type_, 5.0, type_ != "drop", True, True, "x", np.ones(end - start, int)
    )
    return replace(label, **changes)  # type: ignore[arg-type]


def account(*labels: Incident, keys: int = 2) -> Workload:
    return Workload(
        seed=1,
        start=0,
        minutes=MINUTES,
        counts=np.zeros((keys, MINUTES), np.uint16),
        kinds=["human", "cron"][:keys],
        error_rate=np.zeros(keys, bool),
        labels=list(labels),
        names=[Name("s3.amazonaws.com", f"Put{key}", None) for key in range(keys)],
    )


LABELS = (
    incident(0, FIRST + 100, FIRST + 130),
    incident(0, FIRST + 2000, FIRST + 2060, "drop", plain=False),
    incident(1, FIRST + 500, FIRST + 505, "spike"),
)


def perfect(*labels: Incident) -> list[Finding]:
    return [Finding(x.key, x.start, x.end, x.start, x.up) for x in labels]


def test_a_perfect_detector_scores_one() -> None:
    scores = score(account(*LABELS), perfect(*LABELS))
    assert (scores.precision, scores.recall, scores.f1) == (1, 1, 1)
    assert (scores.start_error, scores.end_error, scores.false_starts) == (0, 0, 0)
    assert scores.recalls["plain"] == scores.recalls["drops"] == 1
    assert all(target.verdict(scores) in ("ambitious", "-") for target in BALANCED)


def test_a_silent_detector_scores_zero() -> None:
    scores = score(account(*LABELS), [])
    assert (scores.precision, scores.recall, scores.f1) == (0, 0, 0)
    assert scores.false_per_1000_key_weeks == 0


def test_findings_elsewhere_are_false_starts() -> None:
    elsewhere = [
        Finding(1, FIRST + 100, FIRST + 130, FIRST + 101),
        Finding(0, FIRST + 9000, FIRST + 9001, FIRST + 9000),
    ]
    scores = score(account(*LABELS), [*perfect(*LABELS), *elsewhere])
    assert scores.false_starts == 2
    assert scores.precision == 3 / 5
    assert scores.recall == 1
    # Two keys for two weeks are four key-weeks.
    assert scores.false_per_1000_key_weeks == 500
    assert scores.false_by_kind == {"cron": 1, "human": 1}


def test_second_finding_of_an_incident_is_not_counted() -> None:
    label = LABELS[0]
    second = Finding(0, label.start + 20, label.end, label.start + 21)
    scores = score(account(label), [*perfect(label), second])
    assert (scores.precision, scores.false_starts, scores.repeated) == (1, 0, 1)


def test_the_other_direction_does_not_match() -> None:
    label = LABELS[0]
    scores = score(account(label), [replace(perfect(label)[0], up=False)])
    assert (scores.found, scores.false_starts) == (0, 1)


@pytest.mark.parametrize(
    ("start", "end", "matches"),
    [
        (100 - GRACE - 5, 100 - GRACE, False),
        (100 - GRACE - 5, 100 - GRACE + 1, True),
        (130 + GRACE - 1, 150, True),
        (130 + GRACE, 150, False),
    ],
)
def test_finding_may_miss_an_incident_by_ten_minutes(start: int, end: int, matches: bool) -> None:
    finding = Finding(0, FIRST + start, FIRST + end, FIRST + start)
    assert score(account(LABELS[0]), [finding]).found == matches


def test_an_open_finding_reaches_to_its_detection() -> None:
    label = LABELS[0]
    early = Finding(0, label.start - 60, None, label.start - 40)
    late = Finding(0, label.start - 60, None, label.start - 5)
    assert score(account(label), [early]).found == 0
    assert score(account(label), [late]).found == 1


def test_one_long_finding_matches_one_incident_only() -> None:
    two = incident(0, FIRST + 400, FIRST + 430)
    long = Finding(0, FIRST, FIRST + DAY, FIRST + 101)
    assert score(account(LABELS[0], two), [long]).found == 1


def test_two_findings_match_two_incidents_that_both_overlap() -> None:
    two = incident(0, FIRST + 400, FIRST + 430)
    long = Finding(0, FIRST + 100, FIRST + DAY, FIRST + 101)
    second = Finding(0, FIRST + 400, FIRST + DAY, FIRST + 401)
    assert score(account(LABELS[0], two), [long, second]).found == 2


def test_findings_and_incidents_of_history_do_not_count() -> None:
    past = incident(0, 1000, 1030, scored=False)
    findings = [*perfect(LABELS[0]), Finding(0, 1000, 1030, 1001), Finding(1, 50, 60, 50)]
    scores = score(account(past, LABELS[0]), findings)
    assert (scores.incidents, scores.found, scores.false_starts) == (1, 1, 0)


def test_delays_and_errors_are_in_minutes() -> None:
    label = LABELS[0]
    finding = Finding(0, label.start + 2, label.end - 3, label.start + 6)
    scores = score(account(label), [finding])
    assert scores.delay_median["all"] == scores.delay_p90["x5 and up"] == 6
    assert (scores.start_error, scores.end_error) == (2, 3)


def test_a_class_without_incidents_has_no_recall() -> None:
    scores = score(account(LABELS[0]), [])
    assert np.isnan(scores.recalls["error storms"])
    assert "| recall, error storms | 0.95 | 0.98 | - |" in table({"none": scores})


def test_scores_of_two_accounts_count_all_incidents_alike() -> None:
    found, missed = account(LABELS[0], LABELS[2]), account(LABELS[0])
    outcomes = [match(found, perfect(LABELS[0], LABELS[2])), match(missed, [])]
    assert summarise(outcomes).recall == 2 / 3


def test_the_table_marks_the_reached_targets() -> None:
    missing_one = perfect(*LABELS[:2])
    text = table({"some": score(account(*LABELS), missing_one)})
    assert "| measure | must | ambitious | some |" in text
    assert "| precision | 0.9 | 0.95 | 1.00 ✓✓ |" in text
    assert "| recall | 0.74 | 0.82 | 0.67 ✗ |" in text


def test_targets_depend_on_preset_and_history() -> None:
    assert targets("balanced", 28) == BALANCED
    assert [target.must for target in targets("balanced", 7)] == [0.76]
    assert [target.must for target in targets("balanced", 1)] == [0.55]
    assert {target.measure for target in targets("strict", 28)} == {
        "recall, x5 and up",
        "recall, x5 and up, plain",
        "false starts per 1,000 key-weeks",
    }


def test_a_detector_that_looks_ahead_is_detected() -> None:
    def fixed(workload: Workload) -> list[Finding]:
        return [Finding(0, FIRST + 50, FIRST + 60, FIRST + 51)]

    def knows_the_end(workload: Workload) -> list[Finding]:
        return [Finding(0, FIRST + workload.scored_days, None, FIRST + 51)]

    assert count_changed_by_later_data(account(), fixed) == 0
    assert count_changed_by_later_data(account(), knows_the_end) == 2
