"""Asking a running server, over HTTP on its console port."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opentrail.core.errors import OpentrailError, UsageError

_SECONDS = 120.0
_CODES_OF_WRONG_USE = (
    "InvalidLookupAttributesException",
    "InvalidMaxResultsException",
    "InvalidParameterException",
    "InvalidTimeRangeException",
)


def ask(
    options: argparse.Namespace,
    path: str,
    query: Mapping[str, str | None],
    body: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the server's JSON answer; a body makes it a POST.

    Raises:
        UsageError: no server is found, or the request is wrong.
        OpentrailError: the server cannot be reached, or says no.
    """
    console, token = _find(options)
    given = {name: value for name, value in query.items() if value is not None}
    url = f"{console}{path}?{urllib.parse.urlencode(given)}"
    request = urllib.request.Request(  # noqa: S310 - http to our own server
        url,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=_SECONDS) as answer:
            return _document(answer.read(), console)
    except urllib.error.HTTPError as error:
        raise _refusal(error) from error
    except (OSError, http.client.HTTPException) as error:
        raise OpentrailError(f"no server answers at {console}: {error!r}") from error


def _document(body: bytes, console: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise OpentrailError(f"what answers at {console} is no opentrail server") from error
    if not isinstance(document, dict):
        raise OpentrailError(f"what answers at {console} is no opentrail server")
    return document


def _find(options: argparse.Namespace) -> tuple[str, str]:
    folder = Path(options.data_dir or os.environ.get("OPENTRAIL_DATA_DIR") or "opentrail-data")
    try:
        described = json.loads((folder / "server.json").read_text())
        console, token = str(described["console"]), str(described["token"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"no server runs on data directory {folder}; name its folder with --data-dir DIR"
        ) from error
    console = (options.endpoint or console).rstrip("/")
    if not console.startswith(("http://", "https://")):
        raise UsageError(f"--endpoint must be a URL like http://127.0.0.1:4748, not {console!r}")
    return console, token


def _refusal(error: urllib.error.HTTPError) -> OpentrailError:
    said: Any = None
    with contextlib.suppress(ValueError):
        said = json.load(error)
    reason = said.get("error") if isinstance(said, dict) else None
    if not isinstance(reason, str):
        return OpentrailError(f"the server answered with HTTP status {error.code}")
    return UsageError(reason) if said.get("code") in _CODES_OF_WRONG_USE else OpentrailError(reason)
