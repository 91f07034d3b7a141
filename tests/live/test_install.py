"""Opentrail as it is installed: wheels from a source tree and from a source distribution."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from tests.live.processes import Opentrail, clean_environment

pytestmark = [pytest.mark.live, pytest.mark.slow]

ROOT = Path(__file__).parents[2]

_SECONDS = 300


def _run(*command: str, folder: Path, **environment: str) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=clean_environment(OPENTRAIL_REQUIRE_CONSOLE="1", **environment),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the files that git knows, so without a built console."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / "source" / name)
    return tmp_path / "source"


def _without_node(folder: Path) -> str:
    """Returns a PATH on which there is a shell and no Node."""
    folder.mkdir()
    (folder / "sh").symlink_to("/bin/sh")
    return str(folder)


def _wheel(source: Path, folder: Path, path: str) -> Path:
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--disable-pip-version-check")
    _run(*pip, "--wheel-dir", str(folder), str(source), folder=source.parent, PATH=path)
    (wheel,) = folder.glob("opentrail-*.whl")
    return wheel


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    return set(names)


def test_a_wheel_has_the_console_with_and_without_node(source: Path, tmp_path: Path) -> None:
    bare = _wheel(source, tmp_path / "bare", _without_node(tmp_path / "path"))
    names = _names(bare)
    assert "opentrail/console_static/index.html" in names
    assert not [name for name in names if name.startswith("console/")]
    _serve(bare, tmp_path)
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: only the build without it was tried")
    with_node = _wheel(source, tmp_path / "with-node", os.environ["PATH"])
    assert _names(with_node) == names


def test_a_source_distribution_makes_the_same_wheel(source: Path, tmp_path: Path) -> None:
    path = _without_node(tmp_path / "path")
    hatch = (sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path))
    static = ROOT / "src/opentrail/console_static"
    shutil.copytree(static, source / "src/opentrail/console_static")
    _run(*hatch, folder=source, PATH=path)
    (distribution,) = tmp_path.glob("opentrail-*.tar.gz")
    from_distribution = _wheel(distribution, tmp_path / "chain", path)
    direct = _wheel(source, tmp_path / "direct", path)
    assert _names(from_distribution) == _names(direct)


def _serve(wheel: Path, folder: Path) -> None:
    """Installs a wheel beside this environment's packages, and asks it for the console."""
    made = folder / "installed"
    venv.create(made, with_pip=False)
    python = str(made / "bin/python")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps")
    _run(*pip, "--disable-pip-version-check", str(wheel), folder=folder)
    (packages,) = made.glob("lib/python*/site-packages")
    (here,) = Path(sys.executable).parent.parent.glob("lib/python*/site-packages")
    (packages / "beside.pth").write_text(f"{here}\n")
    server = Opentrail(folder / "data", "--upstream", "http://127.0.0.1:9", python=python)
    try:
        server.start()
        page = f"{server.console}/console/"
        with urllib.request.urlopen(page, timeout=30) as answer:  # noqa: S310 - http
            assert b'<div id="root">' in answer.read()
    finally:
        server.close()
