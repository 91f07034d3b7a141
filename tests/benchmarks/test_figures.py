"""The page of figures belongs to this release."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.figures import BEGIN, END, PAGE, RESULTS, figures, short, table, with_table
from benchmarks.records import ROOT
from opentrail.core.version import __version__


def test_page_shows_the_newest_figures_of_this_release() -> None:
    """If it fails: `python -m benchmarks.figures`, and the benchmarks that it names."""
    page = PAGE.read_text()
    assert page == with_table(page, figures(RESULTS, __version__))


#: A rate, a fraction of a second, or a duration after a verb that measures.
SPEED = re.compile(
    r"\d ?(?:ms|µs|us|milliseconds|microseconds)\b"
    r"|\d ?(?:[a-z]+|[KMG]i?B)?/s\b|\d [a-z]+ (?:per|a|each) second\b"
    r"|\b(?:takes?|took|in|after|within|than|costs?) (?:about |only )?[\d.,]+ ?(?:s|seconds)\b"
)
#: Durations and rates that a setting, a limit or an example gives, by page.
NOT_MEASURED = {
    "docs/explanation/guarantees.md": ("less than 500 bytes per second", "within 15 seconds"),
    "docs/howto/journal-on-postgresql.md": (
        "throttled after 0.5 s",
        "; after 15 s",
        "its session after 3 s",
    ),
    "docs/howto/operate-a-cluster.md": ("rejected after 15 seconds",),
    "docs/howto/runbook.md": ("`ThrottlingException` after 7 seconds", "503 response after 15 s"),
    "docs/howto/size-a-cluster.md": ("300 calls a second",),
}


def speeds(text: str) -> list[str]:
    """Returns the speeds in a page's sentences and tables, each with the words before it."""
    prose = re.sub(
        r"^```.*?^```|<!-- figures .*<!-- end of figures -->", "", text, flags=re.M | re.S
    )
    prose = re.sub(r"\s+", " ", prose)
    return [prose[max(0, found.start() - 40) : found.end()] for found in SPEED.finditer(prose)]


@pytest.mark.parametrize(
    "text",
    [
        "adds 0.5 ms to a call",
        "5,300/s",
        "records 2,500 calls/s",
        "1,300 MB/s down",
        "4,900 records per second",
        "It takes about 6 s to start.",
    ],
)
def test_speeds_are_found(text: str) -> None:
    assert len(speeds(text)) == 1
    assert not speeds(f"Look:\n```\n{text}\n```\n{BEGIN}{text}\n{END}\n")


def test_speeds_are_on_the_page_of_figures_only() -> None:
    """Decisions keep the figures of the alternatives that they compared."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = {
        (str(page.relative_to(ROOT)), speed)
        for page in pages
        if page.parent.name != "decisions"
        for speed in speeds(page.read_text())
    }
    excused = {
        (page, speed)
        for page, speed in found
        if any(phrase in speed for phrase in NOT_MEASURED.get(page, ()))
    }
    assert found == excused
    for page, phrases in NOT_MEASURED.items():
        for phrase in phrases:
            assert any(phrase in speed for name, speed in found if name == page), phrase


def results(folder: Path, name: str, release: str | None, measured: str, **found: float) -> None:
    document: dict[str, object] = {"cpu": "2 x a CPU", "python": "3.11.2"}
    document |= {"commit": name, "measured": measured, "results": {"a group": found}}
    if release is not None:
        document["release"] = release
    (folder / f"{name}.json").write_text(json.dumps(document))


def test_figures_of_other_releases_are_left_out(tmp_path: Path) -> None:
    results(tmp_path, "before", None, "2026-01-01T00:00:00Z", **{"import records/s": 1})
    results(tmp_path, "other", "0.9.0", "2026-01-02T00:00:00Z", **{"import records/s": 2})
    assert figures(tmp_path, "1.0.0") == {}
    results(tmp_path, "old", "1.0.0", "2026-01-03T00:00:00Z", **{"import records/s": 31_234})
    results(tmp_path, "half", "1.0.0", "2026-01-04T00:00:00Z", **{"EventId p99 ms": 4})
    found = table(figures(tmp_path, "1.0.0"))
    assert "31,000 records/s | 1 |" in found
    assert "1. `2 x a CPU`, Python 3.11.2, commit old, 2026-01-03\n" in found
    assert found.count("|\n") == 3
    results(tmp_path, "anew", "1.0.0", "2026-01-05T00:00:00Z", **{"import records/s": 29_000})
    found = table(figures(tmp_path, "1.0.0"))
    assert "29,000 records/s | 1 |" in found
    assert "commit anew, 2026-01-05\n" in found
    assert "commit old" not in found


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.385, "0.39"),
        (0.0031, "0.0031"),
        (9.96, "10"),
        (35.19, "35"),
        (98_765, "99,000"),
    ],
)
def test_figures_have_two_digits(value: float, shown: str) -> None:
    assert short(value) == shown
