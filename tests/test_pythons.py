"""The supported Pythons: which are tested, and what set-up says about others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scripts.check_python import NEWEST_TESTED, OLDEST
from scripts.test_pythons import ROOT, Build, described, others

CHANGE = """import platform, runpy, sys
{}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def build(*version: int, path: str = "/usr/bin/python3") -> Build:
    return Build(version, f"{version} built here", path)


def set_up(python: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts/set_up.sh", "run", folder],
        env={**os.environ, "PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )


def changed_python(folder: Path, change: str) -> Path:
    """Returns a Python that claims to be another one."""
    (folder / "change.py").write_text(CHANGE.format(change))
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {folder}/change.py "$@"\n')
    python.chmod(0o755)
    return python


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("sys.version_info = (3, 10, 13)", "it is 3.10.13, and opentrail needs 3.11 or newer"),
        ("platform.python_implementation = lambda: 'PyPy'", "it is PyPy, and opentrail needs"),
        ("sys.modules['sqlite3'] = sys.modules['ssl'] = None", "it was built without sqlite3, ssl"),
        ("sys._is_gil_enabled = lambda: False", "it is free-threaded"),
        ("sys.exit(127)", "it does not start"),
    ],
)
def test_set_up_names_unusable_pythons(tmp_path: Path, change: str, reason: str) -> None:
    python = changed_python(tmp_path, change)
    done = set_up(python, tmp_path / "venv")
    assert done.returncode == 2
    assert f"cannot use {python}: {reason}" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_set_up_refuses_another_python_than_before(tmp_path: Path) -> None:
    made = tmp_path / "venv" / "bin" / "python"
    made.parent.mkdir(parents=True)
    made.write_text("#!/bin/sh\necho 3.11.0\n")
    made.chmod(0o755)
    done = set_up(Path(sys.executable), tmp_path / "venv")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"has another Python than PYTHON={sys.executable}; remove it first" in done.stderr


def test_oldest_and_newest_build_are_tested() -> None:
    main, oldest, newest = build(3, 11, 7), build(3, 11, 2), build(*NEWEST_TESTED, 9)
    untested = build(NEWEST_TESTED[0], NEWEST_TESTED[1] + 1, 0)
    again = build(3, 11, 2, path="/usr/bin/python3.11")
    assert others([newest, untested, oldest, build(3, 12, 0)], main) == [oldest, newest]
    assert others([oldest, again, main], main) in ([oldest], [again])
    assert others([main], main) == others([], main) == []
    assert others([build(3, 12, 0)], untested) == [build(3, 12, 0)]


def test_this_python_is_described() -> None:
    own = described(sys.executable)
    assert own is not None
    assert (own.version, own.text) == (sys.version_info[:3], sys.version)
    assert described("/no/python") is None


def test_documents_name_the_tested_pythons() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    classified = [
        (int(text.split(".")[0]), int(text.split(".")[1]))
        for text in re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    ]
    assert (classified[0], classified[-1]) == (OLDEST, NEWEST_TESTED)
    assert project["requires-python"] == ">={}.{}".format(*OLDEST)
    readme = (ROOT / "README.md").read_text()
    assert "CPython {}.{} to {}.{} are tested".format(*OLDEST, *NEWEST_TESTED) in readme
