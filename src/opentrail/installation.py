"""How opentrail was installed, and so how more is installed beside it."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path


def command_for(extra: str) -> str:
    """Returns the command that installs an extra into the environment that runs opentrail."""
    path = shlex.quote(f"opentrail[{extra}]")
    if (Path(sys.prefix) / "pipx_metadata.json").exists():
        return f"pipx runpip opentrail install {path}"
    python = shlex.quote(sys.executable)
    if importlib.util.find_spec("pip") is None:  # as in tools and environments of uv
        return f"uv pip install --python {python} {path}"
    return f"{python} -m pip install {path}"
