"""Runs pytest on the oldest and on the newest Python of this machine that opentrail supports.

Builds other than the one in .venv get their own environments in .venv/pythons. Arguments are passed
to pytest.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from scripts.check_python import NEWEST_TESTED  # noqa: E402

#: Environments of the other Pythons.
ENVIRONMENTS = Path(".venv") / "pythons"
_NAME = re.compile(r"python3(\.\d+)?")
_DESCRIBE = "import sys; print(*sys.version_info[:3], sys.version)"


@dataclass(frozen=True, order=True)
class Build:
    """A build of Python.

    Attributes:
        version: major, minor and patch version.
        text: `sys.version`, which also names the compiler and the date of the build.
        path: the interpreter.
    """

    version: tuple[int, ...]
    text: str
    path: str

    @property
    def name(self) -> str:
        """The version as people write it."""
        return ".".join(map(str, self.version))


def others(builds: Iterable[Build], main: Build) -> list[Build]:
    """Returns the oldest and the newest build, without the main one and untested versions."""
    ordered = sorted(build for build in (*builds, main) if build.version[:2] <= NEWEST_TESTED)
    ends = {build.text: build for build in (*ordered[:1], *ordered[-1:])}
    ends.pop(main.text, None)
    return list(ends.values())


def builds_here() -> list[Build]:
    """Returns the builds on the path and of pyenv and uv that opentrail can use."""
    home = Path.home()
    folders = [Path(name) for name in (*os.get_exec_path(), "/usr/bin", "/usr/local/bin")]
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    for installed in (pyenv / "versions", home / ".local/share/uv/python"):
        folders += sorted(installed.glob("*/bin"))
    files = {
        file.resolve()
        for folder in dict.fromkeys(folders)
        if folder.is_dir()
        for file in folder.iterdir()
        if _NAME.fullmatch(file.name)
    }
    return [build for file in sorted(files) if (build := described(str(file))) is not None]


def described(path: str) -> Build | None:
    """Returns the build of an interpreter; None if opentrail cannot use it."""
    usable = _output(path, str(ROOT / "scripts/check_python.py"))
    words = _output(path, "-c", _DESCRIBE)
    if usable is None or words is None:
        return None
    major, minor, patch, text = words.split(maxsplit=3)
    return Build((int(major), int(minor), int(patch)), text, path)


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def main() -> int:
    """Runs the tests; returns the exit code."""
    own = described(sys.executable)
    assert own is not None, "this Python runs opentrail"
    builds = others(builds_here(), own)
    if not builds:
        print(f"==> no older and no newer supported Python than {own.name} is on this machine")
    for build in builds:
        folder = ENVIRONMENTS / build.name
        print(f"==> testing Python {build.name}: {build.path}", flush=True)
        subprocess.run(
            [ROOT / "scripts/set_up.sh", "dev", folder],
            env={**os.environ, "PYTHON": build.path},
            cwd=ROOT,
            check=True,
        )
        tests = [str(folder / "bin/python"), "-m", "pytest", *sys.argv[1:]]
        code = subprocess.run(tests, cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
