"""What watching many keys costs: `python -m benchmarks.insights.cost`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson

from benchmarks.insights.workload import START
from benchmarks.servers import machine
from opentrail.insights.baseline import DAY
from opentrail.insights.findings import time_of
from opentrail.insights.watch import LATENESS, Watch
from opentrail.ports.event_store import CallCounts

#: Minutes that are closed; the last of them are timed.
_MINUTES, _TIMED = 2 * DAY + 40, 130


def main() -> None:
    """Prints seconds of CPU to close a minute, and bytes of memory a key."""
    options = _options()
    figures = run(options.keys)
    for name, figure in figures.items():
        print(f"{name:32} {figure:.4g}")
    if options.json:
        command = shlex.join(["python", "-m", "benchmarks.insights.cost", *sys.argv[1:]])
        about = {**machine(), "command": command}
        file = {"about": about, "keys": options.keys, "figures": figures}
        options.json.write_bytes(orjson.dumps(file, option=orjson.OPT_INDENT_2))


def run(keys: int) -> dict[str, float]:
    """Closes minutes of so many keys; one in thirteen has calls in a minute."""
    rng = np.random.default_rng(1)
    rates = np.exp(rng.normal(-4, 2, keys)).clip(0, 50)
    all_once = np.ones(keys, np.int64)
    resident = _resident()
    watch = Watch("balanced", START)
    ordinary, half_hours, whole_days = [], [], []
    for minute in range(START, START + _MINUTES):
        seconds = _close(watch, minute, rng.poisson(rates) if minute > START else all_once)
        if minute < START + _MINUTES - _TIMED:
            continue
        if minute % DAY == 0:
            whole_days.append(seconds)
        elif minute % 30 == 0:
            half_hours.append(seconds)
        else:
            ordinary.append(seconds)
    used = _resident() - resident
    began = time.process_time()
    snapshot = watch.snapshot()
    saving = time.process_time() - began
    return {
        "a minute, median, s": float(np.median(ordinary)),
        "a minute, maximum, s": max(ordinary),
        "end of a half-hour, maximum, s": max(half_hours),
        "end of a day, s": max(whole_days),
        "snapshot, s": saving,
        "snapshot, bytes a key": len(snapshot) / keys,
        "resident memory, bytes a key": used / keys,
    }


def _close(watch: Watch, minute: int, calls: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    """Counts the calls of each key in a minute; returns the seconds of CPU to close it."""
    watch.learn(
        CallCounts(
            "111122223333",
            "us-east-1",
            "Management",
            f"service{key % 200}.amazonaws.com",
            f"PutThing{key}",
            None,
            False,
            [minute],
            [int(calls[key])],
        )
        for key in np.nonzero(calls)[0].tolist()
    )
    began = time.process_time()
    watch.close_until(time_of(minute + 1) + LATENESS + timedelta(microseconds=1))
    return time.process_time() - began


def _resident() -> int:
    """Returns the bytes of memory that this process uses."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.insights.cost", description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000, help="default: 100000")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    return parser.parse_args()


if __name__ == "__main__":
    main()
