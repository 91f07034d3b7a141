"""Insights' own detector on a synthetic account."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np

from benchmarks.insights.scoring import Finding
from benchmarks.insights.workload import Workload
from opentrail.insights.detector import PRESETS, Detector


def detect(workload: Workload, preset: str, history_days: int) -> list[Finding]:
    """Returns what the detector finds if its history begins so many days before the scored period.

    There is no budget of alerts: accounts have far more incidents here than anywhere else.
    """
    first = workload.history_start(history_days)
    detector = Detector(PRESETS[preset], workload.start + first, budget=inf)
    for _ in range(workload.keys):
        detector.add("")
    by_minute = np.ascontiguousarray(workload.counts[:, first:].T)
    found: dict[int, Finding] = {}
    findings: list[Finding] = []
    for minute, counts in enumerate(by_minute, workload.start + first):
        rows = np.nonzero(counts)[0]
        for change in detector.close(minute, rows, counts[rows].astype(np.float32)):
            start = change.start - workload.start
            if change.end is None:
                detected = change.found - workload.start
                found[change.row] = Finding(change.row, start, None, detected, change.rises)
            else:
                began = found.pop(change.row)
                findings.append(replace(began, end=change.end - workload.start))
    return [*findings, *found.values()]
