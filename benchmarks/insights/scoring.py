"""Compares a detector's findings with the labels of a workload."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from benchmarks.insights.incidents import Incident
from benchmarks.insights.workload import Workload

#: Minutes by which a finding may miss an incident and still match it.
GRACE = 10


@dataclass(frozen=True)
class Finding:
    """What a detector reports of a key: minutes from 0; `end` is exclusive, None while open."""

    key: int
    start: int
    end: int | None
    #: Minute at the end of which the detector decided.
    detected: int
    up: bool = True


@dataclass(frozen=True)
class Outcome:
    """How the findings of one workload and its scored labels match."""

    labels: list[Incident]
    #: Incident with the finding that matched it, in order of detection.
    matched: list[tuple[Incident, Finding]]
    false: list[Finding]
    #: Findings within incidents that another finding had matched already.
    repeated: int
    false_kinds: Counter[str]
    key_weeks: float


Class = Callable[[Incident], bool]

CLASSES: dict[str, Class] = {
    "all": lambda label: True,
    "plain": lambda label: label.plain,
    "x5 and up": lambda label: label.type == "surge" and label.factor >= 5,
    "x5 and up, plain": lambda label: label.type == "surge" and label.factor >= 5 and label.plain,
    "error storms": lambda label: label.type == "error storm",
    "new-API bursts": lambda label: label.type == "new API",
    "drops": lambda label: label.type == "drop",
    "surges x2": lambda label: label.type == "surge" and label.factor == 2,
    "surges x3": lambda label: label.type == "surge" and label.factor == 3,
    "spikes": lambda label: label.type == "spike",
    "ramps": lambda label: label.type == "ramp",
    "leaks": lambda label: label.type == "leak",
    "waves": lambda label: label.type == "wave",
    "neither plain nor drops": lambda label: not label.plain and label.up,
}


@dataclass(frozen=True)
class Scores:
    """Figures over one or more workloads; rates are shares, delays and errors are minutes."""

    incidents: int
    found: int
    false_starts: int
    repeated: int
    precision: float
    recall: float
    f1: float
    #: By class; NaN if no incident is in it.
    recalls: Mapping[str, float]
    numbers: Mapping[str, int]
    delay_median: Mapping[str, float]
    delay_p90: Mapping[str, float]
    start_error: float
    end_error: float
    false_per_1000_key_weeks: float
    #: False starts by the kind of key.
    false_by_kind: Mapping[str, int]


def score(workload: Workload, findings: Iterable[Finding]) -> Scores:
    return summarise([match(workload, findings)])


def match(workload: Workload, findings: Iterable[Finding]) -> Outcome:
    """Matches findings, in order of detection, with labels of the same key and direction.

    Findings from before the scored period do not count. A finding matches one label at most; a
    second one of the same label is neither a match nor a false start.
    """
    labels: dict[tuple[int, bool], list[Incident]] = defaultdict(list)
    scored = [label for label in workload.labels if label.scored]
    for label in scored:
        labels[label.key, label.up].append(label)
    matched: dict[int, tuple[Incident, Finding]] = {}
    false = []
    repeated = 0
    for finding in sorted(findings, key=lambda one: (one.detected, one.key, one.start)):
        if finding.detected < workload.scored_start:
            continue
        near = [one for one in labels[finding.key, finding.up] if _overlaps(finding, one)]
        new = [one for one in near if id(one) not in matched]
        if new:
            label = min(new, key=lambda one: abs(one.start - finding.start))
            matched[id(label)] = label, finding
        elif near:
            repeated += 1
        else:
            false.append(finding)
    return Outcome(
        scored,
        list(matched.values()),
        false,
        repeated,
        Counter(workload.kinds[finding.key] for finding in false),
        workload.keys * workload.scored_days / 7,
    )


def _overlaps(finding: Finding, label: Incident) -> bool:
    end = finding.detected + 1 if finding.end is None else finding.end
    return finding.start < label.end + GRACE and max(end, finding.start + 1) > label.start - GRACE


def summarise(outcomes: Sequence[Outcome]) -> Scores:
    """Returns the figures over all workloads together."""
    labels = [label for outcome in outcomes for label in outcome.labels]
    matched = [pair for outcome in outcomes for pair in outcome.matched]
    false = sum(len(outcome.false) for outcome in outcomes)
    key_weeks = sum(outcome.key_weeks for outcome in outcomes)
    recall = _share(len(matched), len(labels))
    # Who reports nothing reports nothing wrong, but an empty report has no merit either.
    precision = _share(len(matched), len(matched) + false) if matched or false else 0.0
    numbers = {name: sum(map(belongs, labels)) for name, belongs in CLASSES.items()}
    found = {
        name: [pair for pair in matched if belongs(pair[0])] for name, belongs in CLASSES.items()
    }
    delays = {
        name: [float(finding.detected - label.start) for label, finding in pairs]
        for name, pairs in found.items()
    }
    kinds = sum((outcome.false_kinds for outcome in outcomes), Counter[str]())
    return Scores(
        incidents=len(labels),
        found=len(matched),
        false_starts=false,
        repeated=sum(outcome.repeated for outcome in outcomes),
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0,
        recalls={name: _share(len(pairs), numbers[name]) for name, pairs in found.items()},
        numbers=numbers,
        delay_median={name: _percentile(values, 50) for name, values in delays.items()},
        delay_p90={name: _percentile(values, 90) for name, values in delays.items()},
        start_error=_percentile([abs(f.start - label.start) for label, f in matched], 50),
        end_error=_percentile(
            [abs(f.end - label.end) for label, f in matched if f.end is not None], 50
        ),
        false_per_1000_key_weeks=1000 * _share(false, key_weeks),
        false_by_kind=dict(kinds.most_common()),
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else nan


def _percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else nan


def count_changed_by_later_data(
    workload: Workload, detect: Callable[[Workload], list[Finding]], scored_days: int = 5
) -> int:
    """Returns how many decisions of the first scored days differ once later days are there too.

    A decision is that a finding begins; a detector that never looks ahead changes none.
    """
    earlier = workload.until(scored_days)
    begun = [
        {
            (one.key, one.start, one.detected, one.up)
            for one in detect(seen)
            if one.detected < earlier.minutes
        }
        for seen in (workload, earlier)
    ]
    return len(begun[0] ^ begun[1])


@dataclass(frozen=True)
class Target:
    """A figure with the value that it must reach and the one that would be very good."""

    measure: str
    figure: Callable[[Scores], float]
    must: float
    ambitious: float
    at_most: bool = False

    def verdict(self, scores: Scores) -> str:
        """Returns "ambitious", "must", "missed", or "-" if there is no such figure."""
        value = self.figure(scores)
        if value != value:
            return "-"
        sign = -1 if self.at_most else 1
        if sign * value >= sign * self.ambitious:
            return "ambitious"
        return "must" if sign * value >= sign * self.must else "missed"


def _recall(name: str, must: float, ambitious: float) -> Target:
    return Target(f"recall, {name}", lambda scores: scores.recalls[name], must, ambitious)


BALANCED = (
    Target("precision", lambda s: s.precision, 0.90, 0.95),
    Target("recall", lambda s: s.recall, 0.74, 0.82),
    Target("F1", lambda s: s.f1, 0.81, 0.88),
    _recall("plain", 0.93, 0.97),
    _recall("x5 and up", 0.97, 1),
    _recall("x5 and up, plain", 0.97, 1),
    _recall("error storms", 0.95, 0.98),
    _recall("new-API bursts", 0.93, 1),
    _recall("drops", 0.85, 0.95),
    Target("false starts per 1,000 key-weeks", lambda s: s.false_per_1000_key_weeks, 30, 10, True),
    Target("delay, median of all", lambda s: s.delay_median["all"], 3, 2, True),
    Target("delay, p90 of x5 and up", lambda s: s.delay_p90["x5 and up"], 5, 3, True),
    Target("delay, p90 of error storms", lambda s: s.delay_p90["error storms"], 3, 1, True),
    Target("start error, median", lambda s: s.start_error, 1, 0, True),
    Target("end error, median", lambda s: s.end_error, 2, 1, True),
)
STRICT = (
    _recall("x5 and up", 0.95, 0.95),
    _recall("x5 and up, plain", 0.95, 0.95),
    Target("false starts per 1,000 key-weeks", lambda s: s.false_per_1000_key_weeks, 7, 1, True),
)
AWS = (
    Target(
        "false starts per 1,000 key-weeks", lambda s: s.false_per_1000_key_weeks, 145, 100, True
    ),
)
SEVEN_DAYS = (Target("F1", lambda s: s.f1, 0.76, 0.82),)
ONE_DAY = (Target("F1", lambda s: s.f1, 0.55, 0.70),)


def targets(preset: str, history_days: int) -> tuple[Target, ...]:
    """Returns what a preset must reach with a history of 28, 7 or 1 days."""
    if preset == "balanced" and history_days < 28:
        return SEVEN_DAYS if history_days >= 7 else ONE_DAY
    return {"balanced": BALANCED, "strict": STRICT, "aws": AWS}[preset]


def table(scores: Mapping[str, Scores], against: Sequence[Target] = BALANCED) -> str:
    """Returns a Markdown table: a row for each figure, a column for each detector."""
    head = ["measure", "must", "ambitious", *scores]
    lines = [head, ["---"] * len(head)]
    for target in against:
        sign = "≤ " if target.at_most else ""
        cells = [
            f"{_figure(target.figure(one))} {_MARKS[target.verdict(one)]}".strip()
            for one in scores.values()
        ]
        bounds = [f"{sign}{target.must:g}", f"{sign}{target.ambitious:g}"]
        lines.append([target.measure, *bounds, *cells])
    named = {target.measure for target in against}
    numbers = next(iter(scores.values())).numbers if scores else {}
    for name, number in numbers.items():
        if name != "all" and f"recall, {name}" not in named:
            cells = [_figure(one.recalls[name]) for one in scores.values()]
            lines.append([f"recall, {name} (n={number})", "", "", *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


_MARKS = {"ambitious": "✓✓", "must": "✓", "missed": "✗", "-": ""}


def _figure(value: float) -> str:
    if value != value:
        return "-"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"
