"""Third-party programs, each installed from the package index into a new environment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def installed(folder: Path, *packages: str) -> Path:
    """Installs packages, and returns the folder of their commands and of `python`.

    The test is skipped if they cannot be installed.
    """
    uv = Path(sys.executable).parent / "uv"
    environment = folder / "env"
    python = environment / "bin" / "python"
    for command in (
        [str(uv), "venv", "-q", "--python", sys.executable, str(environment)],
        [str(uv), "pip", "install", "-q", "--python", str(python), *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            pytest.skip(f"{packages[0]} cannot be installed: {done.stderr.strip()}")
    return python.parent
