"""Runs the benchmarks and writes their figures to benchmarks/results/: `make bench`."""

from __future__ import annotations

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import (
    attributes,
    cluster,
    code_of_a_call,
    console,
    console_pages,
    decoding,
    delivery,
    detecting,
    enforced,
    history,
    history_in_s3,
    leaving_out,
    main_job,
    mitmproxy,
    policies,
    principal,
    recorder,
    sealing,
    selectors,
    sessions,
    signatures,
    starting,
    stores,
    streaming,
    trees,
    validating,
    watching,
)
from benchmarks.figures import RESULTS
from benchmarks.neighbours import neighbours
from benchmarks.processes import busy_cpus, find_program, two_cpus
from benchmarks.required import REQUIRED, is_met
from benchmarks.servers import machine
from opentrail.core.errors import UsageError

BENCHMARKS = {
    **main_job.BENCHMARKS,
    **recorder.BENCHMARKS,
    **sealing.BENCHMARKS,
    **watching.BENCHMARKS,
    **detecting.BENCHMARKS,
    **streaming.BENCHMARKS,
    **decoding.BENCHMARKS,
    **code_of_a_call.BENCHMARKS,
    **attributes.BENCHMARKS,
    **selectors.BENCHMARKS,
    **signatures.BENCHMARKS,
    **policies.BENCHMARKS,
    **enforced.BENCHMARKS,
    **leaving_out.BENCHMARKS,
    **delivery.BENCHMARKS,
    **sessions.BENCHMARKS,
    **starting.BENCHMARKS,
    **stores.BENCHMARKS,
    **history.BENCHMARKS,
    **history_in_s3.BENCHMARKS,
    **console.BENCHMARKS,
    **principal.BENCHMARKS,
    **console_pages.BENCHMARKS,
    **validating.BENCHMARKS,
    **cluster.BENCHMARKS,
}


def main() -> None:
    """Runs all benchmarks, or those whose names hold one of the arguments; or `trees`."""
    if sys.argv[1:2] == ["trees"]:
        trees.main(sys.argv[2:])
        return
    names = [name for name in BENCHMARKS if _is_wanted(name)]
    if not names:
        raise UsageError(f"no benchmark is named so; there are: {'; '.join(BENCHMARKS)}")
    is_whole = names == list(BENCHMARKS)
    if is_whole:
        check_tools()
    command = ["python", "-m", "benchmarks", *sys.argv[1:]]
    about: dict[str, Any] = {**machine(), "command": shlex.join(command)}
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    results: dict[str, dict[str, float]] = {}
    busy: dict[str, float] = {}
    slowed: dict[str, float] = {}
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    # A part never takes the place of a whole run's file.
    part = "" if is_whole else "-part"
    file = RESULTS / f"{day}-{about['commit']}{part}.json"
    for name in names:
        busy[name] = round(busy_cpus(), 2)
        slowed[name] = round(neighbours.wait_until_at_rest(both=True), 2)
        before = f"CPUs busy before it: {busy[name]}, slowed by others: {slowed[name]:.0%}"
        print(f"\n{name}  ({before})", flush=True)
        results[name] = {label: round(value, 3) for label, value in BENCHMARKS[name]().items()}
        for label, value in results[name].items():
            print(f"  {label:<48} {value:>12}{_verdict(label, value)}", flush=True)
        # After each: what is measured is kept when a later one fails.
        disturbed = {"CPUs busy before": busy, "slowed by others before": slowed}
        document = {**about, **disturbed, "results": results, **_required(results)}
        file.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\nwritten to {file.relative_to(Path.cwd())}")


def check_tools() -> None:
    """Raises `UsageError` at once if something is missing that a benchmark needs later.

    Those that are run by name look for their own tools when they begin.
    """
    two_cpus()
    find_program("nginx", "apt-get install nginx-light")
    find_program("wrk", "apt-get install wrk")
    mitmproxy.installed()


def _is_wanted(name: str) -> bool:
    parts = sys.argv[1:]
    return not parts or any(part.lower() in name.lower() for part in parts)


def _verdict(label: str, value: float) -> str:
    if label not in REQUIRED:
        return ""
    return f"   {REQUIRED[label]:<8} {'met' if is_met(label, value) else 'NOT MET'}"


def _required(results: dict[str, dict[str, float]]) -> dict[str, Any]:
    figures = {label: value for group in results.values() for label, value in group.items()}
    met = {
        label: {"required": REQUIRED[label], "met": is_met(label, value)}
        for label, value in figures.items()
        if label in REQUIRED
    }
    return {"required": met}


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(str(error))
