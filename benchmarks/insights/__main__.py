"""Scores Insights on synthetic accounts: `python -m benchmarks.insights`."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections import defaultdict
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.insights.aws_examples import examples
from benchmarks.insights.baselines import BASELINES, Detector
from benchmarks.insights.detecting import detect
from benchmarks.insights.scoring import (
    Finding,
    Outcome,
    Scores,
    count_changed_by_later_data,
    match,
    summarise,
    table,
    targets,
)
from benchmarks.insights.workload import Workload, make
from benchmarks.servers import machine

#: The share of minutes whose calls arrive late.
_LATE = 0.02


def main() -> None:
    """Prints the figures of baselines and detector, and which of AWS's examples it passes."""
    options = _options()
    detectors: dict[str, Detector] = {} if options.no_baselines else dict(BASELINES)
    name = f"Insights, {options.preset}"
    detectors[name] = partial(detect, preset=options.preset, history_days=options.history)
    scores, cost = run(
        detectors, options.seeds, options.keys, options.weeks, options.incidents_per_key
    )
    print(table(scores, targets(options.preset, options.history)))
    for detector, one in scores.items():
        kinds = ", ".join(f"{kind} {number}" for kind, number in one.false_by_kind.items())
        print(f"\n{detector}: {cost[detector]:.2f} µs a key-minute; false starts by kind: {kinds}")
    first = make(options.seeds[0], min(options.keys, 200), options.weeks)
    changed = count_changed_by_later_data(first, detectors[name])
    print(f"\nlook-ahead: {changed} decisions change with later data")
    late = late_delivery(first, detectors[name], options.preset, options.history)
    print(f"late delivery: {late}")
    passed = run_examples(options.preset)
    for example, is_passed in passed.items():
        print(f"{'✓' if is_passed else '✗'} {example}")
    if options.json:
        about = {
            **machine(),
            "command": shlex.join(["python", "-m", "benchmarks.insights", *sys.argv[1:]]),
        }
        figures: dict[str, Any] = {
            "about": about,
            "options": {key: str(value) for key, value in vars(options).items()},
            "scores": {key: asdict(value) for key, value in scores.items()},
            "us_per_key_minute": cost,
            "changed_by_later_data": changed,
            "late_delivery": late,
            "aws_examples": passed,
        }
        # orjson writes NaN as null.
        options.json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))


def run(
    detectors: dict[str, Detector],
    seeds: list[int],
    keys: int,
    weeks: int,
    incidents_per_key: float,
) -> tuple[dict[str, Scores], dict[str, float]]:
    """Returns each detector's scores over all seeds together, and its µs of CPU a key-minute."""
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    for seed in seeds:
        workload = make(seed, keys, weeks, incidents_per_key)
        for name, detector in detectors.items():
            began = time.process_time()
            findings = detector(workload)
            seconds[name] += time.process_time() - began
            outcomes[name].append(match(workload, findings))
    key_minutes = len(seeds) * keys * weeks * 7 * 1440
    return (
        {name: summarise(all_) for name, all_ in outcomes.items()},
        {name: 1e6 * spent / key_minutes for name, spent in seconds.items()},
    )


def late_delivery(
    workload: Workload, detector: Detector, preset: str, history_days: int
) -> dict[str, float]:
    """Returns what changes if the calls of some minutes arrive up to three hours late."""
    late = detect(workload, preset, history_days, late=_LATE)
    in_time, later = (
        summarise([match(workload, findings)]) for findings in (detector(workload), late)
    )
    return {
        "share of minutes": _LATE,
        "recall lost": in_time.recall - later.recall,
        "more false starts": later.false_starts - in_time.false_starts,
        "false starts in time": in_time.false_starts,
    }


def run_examples(preset: str) -> dict[str, bool]:
    """Returns which of AWS's examples a detector passes.

    It sees them as the keys of one account, in a quarter of the time, and finds the same.
    """
    all_ = examples()
    account = replace(
        all_[0].workload,
        counts=np.concatenate([one.workload.counts for one in all_]),
        kinds=[kind for one in all_ for kind in one.workload.kinds],
    )
    findings = defaultdict[int, list[Finding]](list)
    for finding in detect(account, preset, 28):
        findings[finding.key].append(replace(finding, key=0))
    return {one.name: one.passes(findings[key]) for key, one in enumerate(all_)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.insights", description=__doc__)
    parser.add_argument(
        "--seeds",
        type=lambda text: [int(seed) for seed in text.split(",")],
        default=[1, 2, 3],
        help="seeds of the accounts, with commas (default: 1,2,3)",
    )
    parser.add_argument("--keys", type=int, default=1000, help="keys of each (default: 1000)")
    parser.add_argument("--weeks", type=int, default=6, help="weeks of each (default: 6)")
    parser.add_argument(
        "--incidents-per-key",
        type=float,
        default=0.75,
        help="incidents in the scored fortnight, divided by keys (default: 0.75)",
    )
    parser.add_argument(
        "--history",
        type=int,
        choices=(28, 7, 1),
        default=28,
        help="days that the detector sees before the scored fortnight (default: 28)",
    )
    parser.add_argument("--preset", choices=("balanced", "strict", "aws"), default="balanced")
    parser.add_argument("--no-baselines", action="store_true", help="run only the detector")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    return parser.parse_args()


if __name__ == "__main__":
    main()
