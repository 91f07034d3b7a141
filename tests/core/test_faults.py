"""Named points at which a test may kill the process."""

import re
from pathlib import Path

import pytest

from opentrail.core import faults


@pytest.fixture(autouse=True)
def _nothing_armed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The register belongs to the process: each test starts and ends with an empty one."""
    monkeypatch.setattr(faults, "_armed", {})
    monkeypatch.setattr(faults, "_die", None)


def test_an_unarmed_point_is_passed() -> None:
    for name in faults.POINTS:
        faults.crash_point(name)


def test_a_point_kills_at_its_armed_passage() -> None:
    deaths: list[str] = []
    faults.arm("journal.committed", 3, lambda: deaths.append("dead"))
    faults.crash_point("journal.committed")
    faults.crash_point("journal.committed")
    assert deaths == []
    faults.crash_point("journal.committed")
    assert deaths == ["dead"]


def test_only_the_armed_point_kills() -> None:
    deaths: list[str] = []
    faults.arm("journal.committed", 1, lambda: deaths.append("dead"))
    faults.crash_point("digest.put")
    assert deaths == []


def test_an_unknown_point_cannot_be_armed() -> None:
    with pytest.raises(KeyError):
        faults.arm("journal.nowhere", 1, lambda: None)


def test_the_list_has_every_point_of_the_code() -> None:
    root = Path(faults.__file__).parents[1]
    used = set()
    for file in root.rglob("*.py"):
        used.update(re.findall(r"\bcrash_point\(\s*\"([^\"]+)\"", file.read_text()))
    assert used == set(faults.POINTS)
