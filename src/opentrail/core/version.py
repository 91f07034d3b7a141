"""The installed version, its version of the data formats, and the command to install an extra."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path

__version__ = "0.3.0"

#: Version of the formats in the data directory; a server refuses newer data (exit code 4). Each
#: change of a format raises it, and adds a directory of the old format to the tests. In 2, the file
#: `written` has the revision of `state.db`, which `user_version` counts; names of files of merged
#: imported events have another hash; a sealed file may miss its expired data events. In 3, the
#: control store lists the files of event data stores, whose folders have no marks.
DATA_VERSION = 3


def command_for(extra: str) -> str:
    """Returns the command that installs an extra into the environment that runs opentrail."""
    path = shlex.quote(f"opentrail[{extra}]")
    if (Path(sys.prefix) / "pipx_metadata.json").exists():
        return f"pipx runpip opentrail install {path}"
    python = shlex.quote(sys.executable)
    if importlib.util.find_spec("pip") is None:  # as in tools and environments of uv
        return f"uv pip install --python {python} {path}"
    return f"{python} -m pip install {path}"
