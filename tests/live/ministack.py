"""MiniStack, in the environment that scripts/set_up.sh makes for it."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live.processes import clean_environment, eventually, free_port

PROGRAM = Path(sys.prefix) / "ministack" / "bin" / "ministack"


@contextmanager
def ministack(**environment: str) -> Iterator[str]:
    """Yields the URL of a new MiniStack."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [str(PROGRAM)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clean_environment(GATEWAY_PORT=str(port), BIND_HOST="127.0.0.1", **environment),
    )

    def answers() -> bool:
        assert process.poll() is None, "MiniStack ended"
        try:
            with urllib.request.urlopen(f"{url}/_ministack/health", timeout=10):  # noqa: S310
                return True
        except (urllib.error.URLError, ConnectionError):
            return False

    try:
        eventually(answers, "MiniStack answers")
        yield url
    finally:
        process.terminate()
        process.wait(30)
