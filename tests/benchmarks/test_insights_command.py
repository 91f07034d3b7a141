from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.insights.__main__ import run
from benchmarks.insights.scoring import Finding
from benchmarks.insights.workload import Workload

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.campaign
@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    arguments = [
        "--keys",
        "10",
        "--weeks",
        "3",
        "--seeds",
        "1",
        "--preset",
        "aws",
        "--json",
        str(file),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.insights", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "| measure | must | ambitious |" in done.stdout
    figures = json.loads(file.read_text())
    assert figures["options"]["keys"] == "10"
    scores = figures["scores"]["seasonal negative binomial, 16"]
    # An account of 10 keys with 0.75 incidents a key.
    assert scores["incidents"] <= 10
    assert 0 < scores["precision"] < 1
    assert figures["changed_by_later_data"] == 0
    assert all(figures["aws_examples"].values())


def _perfect(workload: Workload) -> list[Finding]:
    return [Finding(x.key, x.start, x.end, x.start, x.up) for x in workload.labels]


@pytest.mark.slow
def test_scores_cover_all_seeds() -> None:
    scores, cost = run({"perfect": _perfect}, [1, 2], keys=50, weeks=3, incidents_per_key=0.3)
    assert scores["perfect"].f1 == 1
    assert scores["perfect"].incidents > 20
    assert cost["perfect"] > 0
