"""Code for moto's own environment: its server, and a pytest plugin for its test suites.

Imports nothing of opentrail. Names end at this machine in both: `localhost` and whatever ends in
`.localhost` is 127.0.0.1 (RFC 6761; not every resolver knows), and no other name is found, so that
no suite talks to AWS or to example.com, and none depends on a network. Some tests have the port of
a moto server written into them: in the plugin it leads to the endpoint under test.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

#: Names the file to which the plugin writes outcomes, as lines of JSON.
OUTCOMES = "OPENTRAIL_MOTO_OUTCOMES"
_LOOPBACK = "127.0.0.1"
#: The port that a moto server has by default.
_WRITTEN_PORT = 5000


def stay_at_home(endpoint_port: int | None = None) -> None:
    """Resolves only names of this machine; port 5000 becomes `endpoint_port`."""
    resolve = socket.getaddrinfo

    def look_up(host: Any, port: Any, *arguments: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is None or _is_address(name):
            return resolve(host, port, *arguments, **named)
        if name != "localhost" and not name.endswith(".localhost"):
            raise socket.gaierror(socket.EAI_NONAME, f"{name} is not this machine")
        where = endpoint_port if endpoint_port and port == _WRITTEN_PORT else port
        return resolve(_LOOPBACK, where, *arguments, **named)

    socket.getaddrinfo = look_up


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdigit()


# The plugin


def pytest_configure() -> None:
    stay_at_home(int(os.environ["TEST_SERVER_MODE_ENDPOINT"].rpartition(":")[2]))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Writes the outcome of a phase of a test; the reader puts the phases together."""
    line = {"test": report.nodeid, "when": report.when, "outcome": report.outcome}
    line["why"] = str(report.longrepr)[-2_000:] if report.failed else ""
    with Path(os.environ[OUTCOMES]).open("a") as file:
        file.write(json.dumps(line) + "\n")


# The server


def main() -> None:
    """Serves until standard input ends; prints its port, and each request on standard error."""
    from moto.server import ThreadedMotoServer

    stay_at_home()
    server = ThreadedMotoServer(ip_address=_LOOPBACK, port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    os.environ["MOTO_PORT"] = str(port)  # by which moto calls itself
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
