"""Refusal of calls to other hosts than the tests' server: a client may hold real credentials."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.httpsession import URLLib3Session

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
        allowed: hosts that may be called all the same, `HOST` or `HOST:PORT`; `*` is any.
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
