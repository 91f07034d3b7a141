"""Prose and commit messages are English that a native engineer would write."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts.commit_message import problems
from scripts.english import ROOT, hits_in, rates

#: Hits of `scripts/english.py` per 1,000 words, at most. Lower a limit once its part is below it.
LIMITS = {
    "README.md": 0.1,
    "CONTRIBUTING.md": 0.1,
    "CHANGELOG.md": 0.1,
    "docs": 0.5,
    "src": 0.6,
    "console/src": 0.2,
    "tests": 0.3,
}
#: A rate so far below its limit must lower it.
SLACK = 0.3


def test_no_part_has_more_odd_constructions_than_before() -> None:
    found = rates()
    assert found.keys() == LIMITS.keys()
    worse = {part: rate for part, rate in found.items() if rate > LIMITS[part]}
    assert worse == {}, "python scripts/english.py --list PART shows them"
    better = {part: rate for part, rate in found.items() if rate < LIMITS[part] - SLACK}
    assert better == {}, "lower their limits"


@pytest.mark.parametrize(
    "line",
    [
        "What one has answered, what a lookup needs",
        "need one server at a time: the one that holds the lease",
        "A disk that is full makes them slower",
        "calls are recorded all the same",
        "the record is asked for again",
        "of its own",
        "def test_what_is_late_is_not_waited_for",
    ],
)
def test_odd_constructions_are_found(line: str) -> None:
    assert [*hits_in(line)]


@pytest.mark.parametrize(
    "line",
    [
        "A full disk only slows lookups down.",
        "What is a trail?",
        "The server retries after a second.",
        "def test_wait_times_out",
    ],
)
def test_plain_sentences_are_not_found(line: str) -> None:
    assert [*hits_in(line)] == []


@pytest.mark.parametrize(
    "subject",
    [
        "journal: retry a commit after a full disk",
        "api, ports: merge modules that have one importer",
        "tests: process one page at a time",
        "Merge branch 'main'",
    ],
)
def test_good_subjects_pass(subject: str) -> None:
    assert [*problems(subject)] == []


@pytest.mark.parametrize(
    ("subject", "problem"),
    [
        ("retry a commit", "area: verb"),
        ("journal: retries a commit", "imperative"),
        ("tests: no busy machine decides what they find", "imperative"),
        ("journal: Retry a commit", "imperative"),
        ("journal: retry a commit.", "final period"),
        ("journal: retry a commit; rename a file", "for each purpose"),
        (f"journal: retry {'a commit ' * 10}", "at most 72 characters"),
    ],
)
def test_other_subjects_are_refused(subject: str, problem: str) -> None:
    assert any(problem in found for found in problems(subject))


def test_the_hook_reads_the_message_that_git_passes(tmp_path: Path) -> None:
    message = tmp_path / "message"
    for text, code in (("journal: retry\n\nWhy.\n", 0), ("# comment\nretry\n", 1)):
        message.write_text(text)
        ran = subprocess.run(
            [ROOT / "scripts" / "commit_message.py", message], capture_output=True, check=False
        )
        assert ran.returncode == code


def test_commits_have_good_subjects() -> None:
    """Reads commits after the check; a service that squashes them may use one word."""
    git = ["git", "log", "--format=%s"]
    added = subprocess.run(
        [*git[:2], "--format=%H", "--diff-filter=A", "--", "scripts/commit_message.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if not added:
        pytest.skip("this is not a clone with the history")
    subjects = subprocess.run(
        [*git, "--no-merges", f"{added[-1]}..HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    wrong = {each: [*problems(each)] for each in subjects if " " in each}
    assert {each: found for each, found in wrong.items() if found} == {}
