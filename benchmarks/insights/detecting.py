"""Insights' own detector on a synthetic account."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from math import inf
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from benchmarks.insights.scoring import Finding
from benchmarks.insights.workload import Workload
from opentrail.insights.detector import PRESETS, Detector

#: Minutes by which late calls are late.
_LATE = (3, 175)
Late = tuple[int, NDArray[np.intp], NDArray[np.float32]]


def detect(workload: Workload, preset: str, history_days: int, late: float = 0.0) -> list[Finding]:
    """Returns what the detector finds if its history begins so many days before the scored period.

    There is no budget of alerts: accounts have far more incidents here than anywhere else. `late`
    is the share of minutes whose calls all arrive late together.
    """
    first = workload.history_start(history_days)
    detector = Detector(PRESETS[preset], workload.start + first, budget=inf)
    for _ in range(workload.keys):
        detector.add("")
    by_minute = np.ascontiguousarray(workload.counts[:, first:].T)
    found: dict[int, Finding] = {}
    findings: list[Finding] = []
    rng = np.random.default_rng(workload.seed)
    held: dict[int, list[Late]] = defaultdict(list)
    for minute, counts in enumerate(by_minute, workload.start + first):
        rows = np.nonzero(counts)[0]
        calls = counts[rows].astype(np.float32)
        changes = detector.add_late(sorted(held.pop(minute, []), key=itemgetter(0)))
        if late and rng.random() < late:
            held[minute + int(rng.integers(*_LATE))].append((minute, rows, calls))
            rows, calls = rows[:0], calls[:0]
        changes += detector.close(minute, rows, calls)
        for change in changes:
            start = change.start - workload.start
            if change.end is None:
                detected = change.found - workload.start
                found[change.row] = Finding(change.row, start, None, detected, change.rises)
            else:
                began = found.pop(change.row)
                findings.append(replace(began, end=change.end - workload.start))
    return [*findings, *found.values()]
