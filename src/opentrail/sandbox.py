"""A moto upstream in a child process that ends with us."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass

from opentrail.core.errors import OpentrailError, UsageError
from opentrail.core.identity import DEFAULT_ACCOUNT, key_for_account

ADMIN_KEY_ID = key_for_account(DEFAULT_ACCOUNT)
#: moto checks no signatures, so any secret would do.
ADMIN_SECRET = "opentrail-sandbox"  # noqa: S105 - of a sandbox on this machine alone


@dataclass(slots=True)
class MotoChild:
    """A running moto server."""

    process: subprocess.Popen[str]
    url: str

    def stop(self) -> None:
        """Ends it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_moto() -> MotoChild:
    """Starts moto on a free port; its standard input is the thread its life hangs by.

    Raises:
        UsageError: the extra `opentrail[sandbox]` is not installed.
        OpentrailError: it did not come up.
    """
    if importlib.util.find_spec("moto") is None:
        raise UsageError("the sandbox needs moto: pip install 'opentrail[sandbox]'")
    process = subprocess.Popen(
        [sys.executable, "-m", "opentrail.sandbox"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, "AWS_ENDPOINT_URL": ""},
    )
    url = process.stdout.readline().strip() if process.stdout else ""
    if not url.startswith("http://"):
        process.kill()
        raise OpentrailError("the sandbox's moto server did not start")
    return MotoChild(process, url)


def main() -> None:
    """Runs as the child: serves until standard input ends, as it does when the parent dies."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    sys.stdout.write(f"http://{host}:{port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
