"""The server behind the fixtures: opentrail in front of moto, or one that runs already."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from opentrail.commands.client import Console, find
from opentrail.commands.sandbox import (
    ADMIN,
    ADMIN_KEY_ID,
    ADMIN_SECRET,
    end_with_parent,
    start_moto,
)
from opentrail.core.errors import OpentrailError, UsageError
from opentrail.installation import command_for

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.02
_REGION = "us-east-1"
#: The user that the server knows.
_ADMIN = {"AWS_ACCESS_KEY_ID": ADMIN_KEY_ID, "AWS_SECRET_ACCESS_KEY": ADMIN_SECRET}
#: Variables that are left as they are if the server runs already.
_ACCESS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE")
#: Lines of the server's output in an error.
_SHOWN_LINES = 20


@dataclass(frozen=True, slots=True)
class TestServer:
    """A server that records the calls of tests."""

    __test__ = False

    console: Console
    #: Address that AWS clients call.
    endpoint: str
    #: moto's address, if it was started for these tests.
    moto: str | None = None
    #: Variables of AWS that say who calls, and which certificate to trust.
    access: Mapping[str, str] = field(default_factory=lambda: _ADMIN)

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which an AWS client calls this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            **self.access,
            "AWS_REGION": _REGION,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def apply_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Makes AWS clients call this server until the test ends, with no other AWS settings."""
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        for name in ("NO_PROXY", "no_proxy"):
            hosts = [os.environ[name]] if os.environ.get(name) else []
            monkeypatch.setenv(name, ",".join([*hosts, "127.0.0.1", "localhost"]))
        # The session that boto3 keeps has read other credentials, and must not keep these.
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)

    def reset(self) -> None:
        """Empties moto, if it was started for these tests."""
        if self.moto is not None:
            request = urllib.request.Request(  # noqa: S310 - http to our own moto
                f"{self.moto}/moto-api/reset", method="POST"
            )
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            direct.open(request, timeout=_STOP_SECONDS).close()

    def mark(self) -> int:
        """Returns the position of the newest record."""
        return int(self.console.ask("/api/v1/marks", [])["position"])

    def records(self, after: int, until: int | None = None) -> tuple[int, list[dict[str, Any]]]:
        """Returns the records between two marks, oldest first, and the position reached."""
        query = "" if until is None else f"?until={until}"
        found: list[dict[str, Any]] = []
        while True:
            answer = self.console.ask(f"/api/v1/marks/{after}/records{query}")
            found += answer["records"]
            after = int(answer["position"])
            if answer["complete"]:
                return after, found


def connected(endpoint: str | None, data_dir: str | None) -> TestServer:
    """Returns a server that runs already; AWS's variables may name its endpoint and credentials.

    Raises:
        UsageError: no server is found, or its AWS endpoint is unknown.
        OpentrailError: it does not answer.
    """
    console = find(argparse.Namespace(endpoint=endpoint, data_dir=data_dir))
    console.health()
    aws = console.aws_endpoint or os.environ.get("AWS_ENDPOINT_URL")
    if not aws:
        raise UsageError(
            f"the AWS endpoint of the server at {console.url} is unknown: set AWS_ENDPOINT_URL to "
            "it, or name the server's data directory with --opentrail-data-dir"
        )
    access = {name: os.environ[name] for name in _ACCESS if os.environ.get(name)}
    if "AWS_ACCESS_KEY_ID" not in access:
        access = {**_ADMIN, **access}
    if console.certificate is not None:
        access = {"AWS_CA_BUNDLE": str(console.certificate), **access}
    return TestServer(console, aws, access=access)


@contextmanager
def running(folder: Path, upstream: str | None) -> Iterator[TestServer]:
    """Runs a server in front of an upstream, or of a moto server of its own.

    Raises:
        UsageError: moto is not installed.
        OpentrailError: it did not start.
    """
    if upstream is None and importlib.util.find_spec("moto") is None:
        raise UsageError(
            f"the fixture 'opentrail' needs moto: {command_for('pytest')}, "
            "or name another AWS-compatible endpoint with --opentrail-upstream URL"
        )
    with ExitStack() as stack:
        moto = None
        if upstream is None:
            child = start_moto()
            stack.callback(child.stop)
            moto = upstream = child.url
        console = stack.enter_context(_process(folder, upstream))
        if console.aws_endpoint is None:
            raise OpentrailError(f"{folder / 'data' / 'server.json'} names no endpoint")
        yield TestServer(console, console.aws_endpoint, moto)


@contextmanager
def _process(folder: Path, upstream: str) -> Iterator[Console]:
    """Runs a server as a child process until the end of the block."""
    data, log, config = folder / "data", folder / "server.log", folder / "opentrail.toml"
    names = "\n".join(f'{name} = "{value}"' for name, value in ADMIN.items())
    config.write_text(f"[directory.{ADMIN_KEY_ID}]\n{names}\n")
    # -P: modules of the folder that pytest runs in are not for the server.
    command = [sys.executable, "-P", "-m", "opentrail", "serve", "--data-dir", str(data)]
    command += ["--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0"]
    command += ["--upstream", upstream, "--config", str(config), "--insights", "off"]
    others = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "OPENTRAIL_"))}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - this package in this environment
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=others,
            start_new_session=True,  # Ctrl-C is for pytest, which then stops it
            preexec_fn=end_with_parent,
        )
    try:
        yield _when_ready(process, data, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _when_ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> Console:
    """Returns the address of a server once it answers."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if (data / "server.json").exists():
            try:
                console = find(argparse.Namespace(endpoint=None, data_dir=str(data)))
                console.health()
            except OpentrailError:
                pass  # the file is not whole yet, or the server does not answer yet
            else:
                return console
        time.sleep(_POLL_SECONDS)
    ended = "did not answer" if process.poll() is None else f"ended with code {process.returncode}"
    lines = log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]
    raise OpentrailError(f"the opentrail server for the tests {ended}:\n" + "\n".join(lines))
