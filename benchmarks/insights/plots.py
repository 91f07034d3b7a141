"""Draws five findings for the documentation: `python -m benchmarks.insights.plots FILE.png`.

It needs matplotlib: `pip install --group plots`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from numpy.typing import NDArray

from benchmarks.insights.incidents import Incident
from benchmarks.insights.workload import Workload, make
from opentrail.insights.detector import PRESETS, Detector, Transition

#: What is drawn, and its title.
_TYPES = {
    "surge": "Surge: five times as many calls as usual",
    "error storm": "Error storm: errors of a kind that is rare",
    "ramp": "Ramp: more and more calls",
    "leak": "Leak: somewhat more calls for hours",
    "drop": "Drop: the calls of a steady client stop",
}
#: Minutes that are drawn before and after each incident.
_AROUND = 90


@dataclass
class Seen:
    """What is drawn of an incident."""

    incident: Incident
    #: Minutes after its beginning.
    found: int
    calls: NDArray[np.uint16]
    expected: NDArray[np.float32]


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.insights.plots")
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=302)
    options = parser.parse_args()
    workload = make(options.seed, keys=300)
    figure, panels = pyplot.subplots(len(_TYPES), figsize=(9, 12), layout="constrained")
    for panel, (type_, title) in zip(panels, _TYPES.items(), strict=True):
        _draw(panel, _first_found(workload, type_), title)
    panels[0].legend(loc="upper left", fontsize="small")
    panels[-1].set_xlabel("minutes since the incident began")
    figure.savefig(options.file, dpi=90)


def _first_found(workload: Workload, type_: str) -> Seen:
    """Returns the first plain incident of a type that is found."""
    for incident in workload.labels:
        wanted = incident.type == type_ and (type_ == "drop" or incident.plain)
        if type_ == "surge":
            wanted = wanted and incident.factor == 5
        if wanted and incident.scored and (seen := _follow(workload, incident)):
            return seen
    raise ValueError(f"no {type_} of this workload is found")


def _follow(workload: Workload, incident: Incident) -> Seen | None:
    """Runs the detector on the key of an incident alone; None if it is not found."""
    detector = Detector(PRESETS["balanced"], workload.start, inf)
    detector.add("")
    first, last = incident.start - _AROUND, incident.end + _AROUND
    calls = workload.counts[incident.key, :last]
    expected = []
    found: Transition | None = None
    row = np.zeros(1, np.intp)
    for minute, count in enumerate(calls):
        rows = row[: int(count > 0)]
        own = np.full(len(rows), count, np.float32)
        for change in detector.close(workload.start + minute, rows, own):
            if minute >= incident.start and change.end is None:
                found = found or change
        if minute >= first:
            at = detector.baselines.current(row)
            expected.append(float(detector.baselines.rate(at, incident.up)[0]))
    if found is None:
        return None
    after = found.found - workload.start - incident.start
    return Seen(incident, after, calls[first:], np.array(expected, np.float32))


def _draw(panel: Any, seen: Seen, title: str) -> None:
    minutes = np.arange(len(seen.calls)) - _AROUND
    length = seen.incident.end - seen.incident.start
    panel.axvspan(0, length, color="tab:orange", alpha=0.15, label="incident")
    panel.step(minutes, seen.calls, where="post", color="0.45", linewidth=0.9, label="calls")
    panel.plot(minutes, seen.expected, color="tab:blue", label="expected")
    panel.axvline(seen.found, color="tab:red", label="found")
    panel.set_title(title, loc="left", fontsize="medium")
    panel.set_ylabel("calls a minute")
    panel.set_xlim(minutes[0], minutes[-1])
    panel.set_ylim(bottom=0)


if __name__ == "__main__":
    main()
