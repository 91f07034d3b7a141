"""A private server of a command or a test session, and the variables of its clients.

It runs as a child process; a test session restarts it after tests that changed it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opentrail.adapters.data_directory.system import write_private
from opentrail.adapters.ipc import parent
from opentrail.commands.client import Console, find
from opentrail.commands.sandbox import ADMIN, ADMIN_KEY_ID, ADMIN_SECRET, ReservedPort
from opentrail.core.errors import OpentrailError

#: Credentials of the server's known user.
ADMIN_ACCESS = {"AWS_ACCESS_KEY_ID": ADMIN_KEY_ID, "AWS_SECRET_ACCESS_KEY": ADMIN_SECRET}
_REGION = "us-east-1"
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.02
#: Maximum lines of the server's output in an error.
_SHOWN_LINES = 20
#: Kinds of documents that every server writes, or that it learns from calls.
_OWN_KINDS = frozenset({"event-bus", "iam-user", "identity", "place", "upstream"})
_OWN_MARKS = frozenset({("mark", "journal"), ("mark", "store")})


def environment_of(endpoint: str, access: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables that make an AWS client call an endpoint and read no files."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        **access,
        "AWS_REGION": _REGION,
        "AWS_DEFAULT_REGION": _REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def reached_directly(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables that make a client reach this machine without a proxy."""
    names = ("NO_PROXY", "no_proxy")
    hosts = {name: [environment[name]] if environment.get(name) else [] for name in names}
    return {name: ",".join([*hosts[name], "127.0.0.1", "localhost"]) for name in names}


class ServerProcess:
    """A server in front of upstreams, with its data in `folder`; its endpoint has `port`.

    An upstream is a URL, or `SERVICE=URL` for one service. `restart` starts a server at the same
    addresses, without data.
    """

    def __init__(self, folder: Path, upstreams: Sequence[str], port: ReservedPort) -> None:
        self._folder = folder
        self._upstreams = upstreams
        self._port = port
        self._console_port = ReservedPort()
        self._count = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data_dir(self) -> Path:
        """The data directory of the running server."""
        return self._folder / ("data" if self._count < 2 else f"data-{self._count}")

    def start(self) -> Console:
        """Starts a server without data and returns its address once it answers.

        Raises:
            OpentrailError: the server did not start.
        """
        self._count += 1
        log, config = self._folder / "server.log", self._folder / "opentrail.toml"
        names = "\n".join(f'{name} = "{value}"' for name, value in ADMIN.items())
        write_private(config, f"[directory.{ADMIN_KEY_ID}]\n{names}\n".encode())
        write_private(log, b"")
        # -P, so that the server does not import modules of pytest's folder.
        command = [sys.executable, "-P", "-m", parent.__name__, "serve"]
        command += ["--data-dir", str(self.data_dir), "--listen", self._port.address]
        command += ["--console-listen", self._console_port.address]
        command += [part for each in self._upstreams for part in ("--upstream", each)]
        command += ["--config", str(config), "--insights", "off", "--upstream-check", "off"]
        others = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "OPENTRAIL_"))}
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - this package in this environment
                command,
                stdin=subprocess.PIPE,  # the server ends with this pipe, see `parent`
                stdout=output,
                stderr=output,
                env=others,
                start_new_session=True,  # Ctrl-C reaches only the parent, which then stops it
            )
        return _when_ready(self._process, self.data_dir, log)

    def is_changed(self) -> bool:
        """Returns whether trails, keys, policies, users or other state was changed."""
        from opentrail.adapters.sql.at_rest import stored_keys

        keys = stored_keys(self.data_dir / "state.db")
        return any(kind not in _OWN_KINDS and (kind, key) not in _OWN_MARKS for kind, key in keys)

    def restart(self) -> Console:
        """Stops the server and starts one without data at the same addresses.

        Raises:
            OpentrailError: the server did not start.
        """
        self._end(signal.SIGKILL)  # its data and pending deliveries are not needed
        return self.start()

    def stop(self, discards: bool = False) -> None:
        """Stops the server, and frees its console's port.

        With `discards`, it does not wait for deliveries, since its data are no longer needed.
        """
        self._end(signal.SIGKILL if discards else signal.SIGTERM)
        self._console_port.release()

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _when_ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> Console:
    """Returns the address of a server once it answers."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if (data / "server.json").exists():
            try:
                console = find(argparse.Namespace(endpoint=None, data_dir=str(data)))
                console.health()
            except OpentrailError:
                pass  # the file is incomplete, or the server does not answer yet
            else:
                return console
        time.sleep(_POLL_SECONDS)
    outcome = (
        "did not answer" if process.poll() is None else f"ended with code {process.returncode}"
    )
    lines = log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]
    raise OpentrailError(f"the opentrail server {outcome}:\n" + "\n".join(lines))


def mark(console: Console) -> int:
    """Returns the position of the newest record."""
    return int(console.ask("/api/v1/marks", body={})["position"])


def records_between(
    console: Console, after: int, until: int | None = None
) -> tuple[int, list[dict[str, Any]]]:
    """Returns the records between two marks, oldest first, and the position reached."""
    query = None if until is None else {"until": str(until)}
    records: list[dict[str, Any]] = []
    while True:
        answer = console.ask(f"/api/v1/marks/{after}/records", query)
        records += answer["records"]
        after = int(answer["position"])
        if answer["complete"]:
            return after, records
