"""The server behind the fixtures: opentrail in front of moto, or one that runs already."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from opentrail.commands.client import Console, find
from opentrail.commands.sandbox import ReservedPort, start_moto
from opentrail.commands.server_process import (
    ADMIN_ACCESS,
    ServerProcess,
    environment_of,
    mark,
    reached_directly,
    records_between,
)
from opentrail.core.errors import OpentrailError, UsageError
from opentrail.core.version import command_for
from opentrail.pytest_plugin.refusing import refuse_other_hosts
from opentrail.wire.pinning import direct_opener

_MOTO_SECONDS = 30.0
#: Variables that are left as they are if the server runs already.
_ACCESS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE")


def apply_environment(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    """Sets the variables of AWS, and removes all others."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name, value in reached_directly(os.environ).items():
        monkeypatch.setenv(name, value)
    # The session that boto3 keeps has read other credentials, and must not keep these.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


@dataclass(slots=True)
class TestServer:
    """A server that records the calls of tests."""

    __test__ = False

    console: Console
    #: Address that AWS clients call.
    endpoint: str
    #: moto's address, if it was started for these tests.
    moto: str | None = None
    #: Variables of AWS that say who calls, and which certificate to trust.
    access: Mapping[str, str] = field(default_factory=lambda: ADMIN_ACCESS)
    #: The process of the server, if it was started for these tests.
    process: ServerProcess | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which an AWS client calls this server."""
        return environment_of(self.endpoint, self.access)

    def apply_to(self, monkeypatch: pytest.MonkeyPatch, allowed: Sequence[str] = ()) -> None:
        """Makes AWS clients call this server until the test ends, with no other AWS settings.

        Calls of clients that were made for another host are refused unless `allowed` lists it.
        """
        apply_environment(monkeypatch, self.environment)
        refuse_other_hosts(monkeypatch, self.endpoint, allowed)

    def reset(self, is_fresh: bool = False) -> None:
        """Empties the server and moto, as far as they were started for these tests.

        A server in which trails, keys, policies, users or other settings were made is replaced by
        a new one at the same addresses, which has no history either. `is_fresh`: in any case.
        """
        if self.process is not None and (is_fresh or self.process.is_changed()):
            self.console = self.process.restart()
        if self.moto is not None:
            direct_opener().open(f"{self.moto}/moto-api/reset", b"", _MOTO_SECONDS).close()

    def mark(self) -> int:
        """Returns the position of the newest record."""
        return mark(self.console)

    def records(self, after: int, until: int | None = None) -> tuple[int, list[dict[str, Any]]]:
        """Returns the records between two marks, oldest first, and the position reached."""
        return records_between(self.console, after, until)


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
        access = {**ADMIN_ACCESS, **access}
    if console.certificate is not None:
        access = {"AWS_CA_BUNDLE": str(console.certificate), **access}
    return TestServer(console, aws, access=access)


@contextmanager
def running(
    folder: Path, upstream: str | None, port: ReservedPort | None = None
) -> Iterator[TestServer]:
    """Runs a server in front of an upstream, or of a moto server of its own.

    `port` is that of its endpoint; by default it has a free one.

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
        if port is None:
            port = ReservedPort()
            stack.callback(port.release)
        process = ServerProcess(folder, [upstream], port)
        stack.callback(process.stop)
        console = process.start()
        if console.aws_endpoint is None:
            raise OpentrailError(f"{process.data_dir / 'server.json'} names no endpoint")
        yield TestServer(console, console.aws_endpoint, moto, process=process)
