"""Runs the benchmarks and writes their figures to benchmarks/results/: `make bench`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import main_job
from benchmarks.servers import machine

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Runs all benchmarks, or those whose names hold one of the arguments."""
    about = machine()
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    results: dict[str, dict[str, float]] = {}
    for name, benchmark in main_job.BENCHMARKS.items():
        if len(sys.argv) > 1 and not any(part.lower() in name.lower() for part in sys.argv[1:]):
            continue
        print(f"\n{name}", flush=True)
        results[name] = {label: round(value, 3) for label, value in benchmark().items()}
        for label, value in results[name].items():
            print(f"  {label:<28} {value:>10}")
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    file = RESULTS / f"{day}-{about['commit']}.json"
    file.write_text(json.dumps({**about, "results": results}, indent=2) + "\n")
    print(f"\nwritten to {file.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
