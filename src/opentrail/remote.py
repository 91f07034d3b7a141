"""Asking a running server, over HTTP on its console port."""

from __future__ import annotations

import argparse
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
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        raise _refusal(error) from error
    except OSError as error:
        raise OpentrailError(f"no server answers at {console}: {error}") from error


def _find(options: argparse.Namespace) -> tuple[str, str]:
    folder = Path(options.data_dir or os.environ.get("OPENTRAIL_DATA_DIR") or "opentrail-data")
    try:
        described = json.loads((folder / "server.json").read_text())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no server runs on data directory {folder}; name its folder with --data-dir DIR"
        ) from error
    return (options.endpoint or described["console"]).rstrip("/"), described["token"]


def _refusal(error: urllib.error.HTTPError) -> OpentrailError:
    try:
        said = json.load(error)
    except ValueError:
        said = {"error": f"HTTP status {error.code}"}
    if said.get("code") in _CODES_OF_WRONG_USE:
        return UsageError(said["error"])
    return OpentrailError(said["error"])
