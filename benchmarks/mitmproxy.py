"""mitmproxy, which records calls to a file: the recorder that opentrail is compared with.

Its dependencies exclude ours, so it gets a virtual environment of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import find_program, free_port, launch, stop, wait_for_port
from opentrail.core.errors import UsageError

#: The last version for Python 3.11, so that the comparison is the same everywhere.
VERSION = "11.0.2"
_CACHE = Path(__file__).parent / ".cache"


def installed() -> Path:
    """Returns the program `mitmdump`, installed from PyPI the first time.

    Raises:
        UsageError: it cannot be installed.
    """
    folder = _CACHE / f"mitmproxy-{VERSION}"
    program = folder / "bin" / "mitmdump"
    if program.exists():
        return program
    uv = find_program("uv", "make check, which installs it into .venv")
    print(f"  installing mitmproxy {VERSION} from PyPI", flush=True)
    python = str(folder / "bin" / "python")
    for arguments in (
        ["venv", "-q", "--clear", "--python", sys.executable, str(folder)],
        ["pip", "install", "-q", "--python", python, f"mitmproxy=={VERSION}"],
    ):
        ended = subprocess.run([uv, *arguments], capture_output=True, text=True, check=False)
        if ended.returncode:
            raise UsageError(f"mitmproxy {VERSION} cannot be installed: {ended.stderr.strip()}")
    return program


@contextmanager
def mitmproxy(upstream: int, cpu: int) -> Iterator[tuple[int, Path]]:
    """Runs mitmdump in front of a port; yields its own port and the file of recorded flows."""
    program, port = installed(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        flows = Path(folder) / "flows"
        child = launch(
            [
                *(str(program), "-q", "--mode", f"reverse:http://127.0.0.1:{upstream}"),
                *("--listen-host", "127.0.0.1", "--listen-port", str(port), "-w", str(flows)),
                *("--set", f"confdir={folder}"),
            ],
            cpu,
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for_port(port, 30)
            yield port, flows
        finally:
            stop(child)
