"""The page of figures belongs to this release."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.figures import PAGE, RESULTS, figures, short, table, with_table
from opentrail.core.version import __version__


def test_page_shows_the_newest_figures_of_this_release() -> None:
    """If it fails: `python -m benchmarks.figures`, and the benchmarks that it names."""
    page = PAGE.read_text()
    assert page == with_table(page, figures(RESULTS, __version__))


def results(folder: Path, name: str, release: str | None, measured: str, **found: float) -> None:
    document = {"commit": name, "measured": measured, "results": {"a group": found}}
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
    assert "31,000 records/s | old, 2026-01-03 |" in found
    assert found.count("\n") == 3
    results(tmp_path, "anew", "1.0.0", "2026-01-05T00:00:00Z", **{"import records/s": 29_000})
    assert "29,000 records/s | anew, 2026-01-05 |" in table(figures(tmp_path, "1.0.0"))


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
