"""The server behind the fixtures: opentrail in front of moto, or a running server."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.httpsession import URLLib3Session

from opentrail.commands.client import Console, find
from opentrail.commands.sandbox import ReservedPort, reset_moto, start_moto
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

#: Advice in messages about calls that do not reach the server.
HINT = "Make clients after the fixture 'opentrail', and without endpoint_url"
#: Packages whose frames are not where a call was made.
_SDKS = ("aiobotocore", "boto3", "botocore", "s3transfer", "opentrail")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class OtherHostError(AssertionError):
    """A call that did not go to the tests' server, and was not sent."""


def refuse_other_hosts(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, allowed: Sequence[str] = ()
) -> None:
    """Makes calls of AWS clients fail that go elsewhere than to the endpoint, until the test ends.

    Args:
        monkeypatch: pytest's fixture.
        endpoint: the address of the server.
        allowed: hosts that calls may still reach, `HOST` or `HOST:PORT`; `*` is any.
    """
    sessions: list[Any] = [URLLib3Session]
    if (module := sys.modules.get("aiobotocore.httpsession")) is not None:
        sessions.append(module.AIOHTTPSession)
    for session in sessions:
        monkeypatch.setattr(session, "send", _checked(session.send, endpoint, tuple(allowed)))


def _checked(send: Any, endpoint: str, allowed: tuple[str, ...]) -> Any:
    def checked_send(self: Any, request: Any) -> Any:
        __tracebackhide__ = True
        if not is_allowed(request.url, endpoint, allowed):
            url = request.url.partition("?")[0]
            raise OtherHostError(
                f"{request.method} {url}{_place()} is refused: it is not the server of the fixture "
                f"'opentrail', {endpoint}. The client was made before the fixture, or for another "
                f"endpoint. {HINT}; 'opentrail_allowed_hosts' lists other hosts that may be called"
            )
        return send(self, request)

    return checked_send


def is_allowed(url: str, endpoint: str, allowed: Sequence[str] = ()) -> bool:
    """Returns whether a URL is of the endpoint, also with a bucket in its host, or is allowed.

    >>> is_allowed("http://reports.localhost:4566/a", "http://localhost:4566")
    True
    >>> is_allowed("https://s3.amazonaws.com/", "http://localhost:4566", ["s3.amazonaws.com"])
    True
    """
    parts, own = urlsplit(url), urlsplit(endpoint)
    host, own_host = parts.hostname or "", own.hostname or ""
    if _port(parts) == _port(own):
        if host == own_host or host.endswith(f".{own_host}"):
            return True
        if own_host in _LOOPBACK and (host in _LOOPBACK or host.endswith(".localhost")):
            return True
    return any(name in ("*", host, f"{host}:{_port(parts)}") for name in map(str.lower, allowed))


def _port(url: Any) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _place() -> str:
    """Returns the line that made the call, outside of SDKs."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in _SDKS:
            return f" ({frame.f_code.co_filename}:{frame.f_lineno})"
        frame = frame.f_back
    return ""


#: Variables left unchanged if the server runs already.
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
    #: Variables of AWS for the caller and the trusted certificate.
    access: Mapping[str, str] = field(default_factory=lambda: ADMIN_ACCESS)
    #: The process of the server, if it was started for these tests.
    process: ServerProcess | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables for an AWS client to call this server."""
        return environment_of(self.endpoint, self.access)

    def apply_to(self, monkeypatch: pytest.MonkeyPatch, allowed: Sequence[str] = ()) -> None:
        """Makes AWS clients call this server until the test ends, with no other AWS settings.

        Calls of clients that were made for another host are refused unless `allowed` lists it.
        """
        apply_environment(monkeypatch, self.environment)
        refuse_other_hosts(monkeypatch, self.endpoint, allowed)

    def reset(self, is_fresh: bool = False) -> None:
        """Empties the server and moto, if they were started for these tests.

        A new server at the same addresses, without history, replaces a server with changed trails,
        keys, policies, users or other settings. `is_fresh`: in any case.
        """
        if self.process is not None and (is_fresh or self.process.is_changed()):
            self.console = self.process.restart()
        if self.moto is not None:
            reset_moto(self.moto)

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
    """Runs a server in front of an upstream, or of a new moto server.

    `port` is the port of its endpoint; by default a free port.

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
