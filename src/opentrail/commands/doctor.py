"""`opentrail doctor`: checks for common problems, and fixes some of them."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import stat
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opentrail.adapters.data_directory.backup import abandoned_snapshots
from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.data_directory.inventory import ACCEPTED
from opentrail.adapters.data_directory.system import is_running
from opentrail.adapters.sql.at_rest import control_at_rest
from opentrail.app.inventory import STORE_KINDS, Standing, standing_of
from opentrail.app.journals import journal_place
from opentrail.app.rebuilding import rebuild_trails
from opentrail.app.upstreams import UpstreamCheck
from opentrail.commands.arguments import add_client
from opentrail.commands.client import Console, data_dir_of, find
from opentrail.commands.rendering import print_findings, print_json
from opentrail.commands.verify_store import files_of_stores, key_problems
from opentrail.core.errors import OpentrailError
from opentrail.core.version import __version__
from opentrail.setting_sources import from_environment
from opentrail.settings import Settings

#: Free bytes on the disk below which doctor warns.
_LITTLE_SPACE = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of a check: `ok`, `warning` or `problem`; `mend` fixes it, and may say how."""

    level: str
    subject: str
    text: str
    mend: Callable[[], str | None] | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fix", action="store_true", help="fix what can be fixed")
    text = "continue without lost data, such as a lost control store"
    parser.add_argument("--accept-losses", action="store_true", help=text)
    add_client(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the findings; the exit code is 1 if a problem remains."""
    folder = data_dir_of(options)
    findings = [
        _mend(finding) if options.fix else finding for finding in _findings(options, folder)
    ]
    if options.json:
        documents = [{"level": f.level, "subject": f.subject, "text": f.text} for f in findings]
        print_json({"findings": documents})
    else:
        print_findings([(finding.level, finding.subject, finding.text) for finding in findings])
        if any(finding.mend for finding in findings):
            print("\n'opentrail doctor --fix' fixes what can be fixed")
    return 1 if any(finding.level == "problem" for finding in findings) else 0


def _mend(finding: Diagnosis) -> Diagnosis:
    if finding.mend is None:
        return finding
    try:
        result = finding.mend()
    except OSError as error:
        return Diagnosis("problem", finding.subject, f"{finding.text}: {error.strerror}")
    except OpentrailError as error:
        return Diagnosis("problem", finding.subject, f"{finding.text}: {error}")
    return Diagnosis("ok", finding.subject, f"fixed: {result or finding.text}")


def _findings(options: argparse.Namespace, folder: Path) -> Iterator[Diagnosis]:
    if folder.is_dir():
        yield Diagnosis("ok", "data directory", str(folder.resolve()))
        yield from _permissions(folder)
        yield from _keys(folder)
        yield from _inventory(folder, options.accept_losses)
        yield from _stores(folder)
        yield from _leftovers(folder)
        yield from _disk(folder)
    elif not options.endpoint:
        text = f"there is no {folder}; name one with --data-dir DIR, or start a server"
        yield Diagnosis("problem", "data directory", text)
    try:
        console = find(options)
        status = console.ask("/api/v1/status")
    except OpentrailError as error:
        yield Diagnosis("problem", "server", str(error))
        return
    yield from _server(console, status)
    yield from _upstreams(status)
    yield from _trails(status)
    yield from _environment(console, os.environ)


def _permissions(folder: Path) -> Iterator[Diagnosis]:
    for path in (folder, folder / "keys", *sorted((folder / "keys").glob("*"))):
        if not path.exists() or not path.stat().st_mode & 0o077:
            continue
        mode = 0o700 if path.is_dir() else 0o600
        text = f"{path} may be read by others (mode {stat.S_IMODE(path.stat().st_mode):o})"
        yield Diagnosis("problem", "permissions", text, partial(path.chmod, mode))


def _keys(folder: Path) -> Iterator[Diagnosis]:
    try:
        for problem in asyncio.run(key_problems(folder)):
            yield Diagnosis("problem", "signing keys", problem)
    except OpentrailError as error:
        yield Diagnosis("problem", "signing keys", str(error))


def _inventory(folder: Path, accepts: bool) -> Iterator[Diagnosis]:
    """Compares the folder with its inventory (`app/inventory.py`)."""
    data = DataDirectory(folder)
    try:
        standing = asyncio.run(_standing(data))
    except (OpentrailError, OSError) as error:
        yield Diagnosis("problem", "data directory", str(error))
        return
    if not standing.problems:
        return
    for text in standing.problems:
        yield Diagnosis("problem", "data directory", text)
    if any(file.kind in STORE_KINDS for file in standing.lost):
        text = "trails can be rebuilt from recorded calls while no server runs"
        yield Diagnosis("warning", "data directory", text, partial(_rebuild, data))
    if not standing.lost:
        text = "the server rebuilds these files at its next start"
        yield Diagnosis("ok", "data directory", text)
    elif accepts:
        (folder / ACCEPTED).touch(mode=0o600)
        text = "losses accepted; a running server applies this within seconds"
        yield Diagnosis("ok", "data directory", text)
    else:
        text = "restore the lost files, or accept the loss: opentrail doctor --accept-losses"
        yield Diagnosis("warning", "data directory", text)


def _stores(folder: Path) -> Iterator[Diagnosis]:
    """Compares event data stores with the list of their files; `verify-store` reads them."""
    data = DataDirectory(folder)
    try:
        listed = asyncio.run(files_of_stores(data.state, data.is_in_use))
    except (OpentrailError, OSError):
        return  # `_inventory` says so
    for file in listed or ():
        if file.name and not (folder / file.name).exists():
            text = f"{file.name} is missing: restore it from a backup"
            yield Diagnosis("problem", "event data stores", text)


async def _standing(data: DataDirectory) -> Standing:
    is_live = data.is_in_use
    async with control_at_rest(data.state, is_live) as control:
        return await standing_of(data, control, is_live)


def _rebuild(data: DataDirectory) -> str:
    settings = from_environment({"data_dir": str(data.root)}, None)
    trails = asyncio.run(rebuild_trails(data, journal_place(settings, data).source()))
    names = ", ".join(sorted(trail.arn for trail in trails)) or "none"
    return f"trails rebuilt from recorded calls: {names}"


def _leftovers(folder: Path) -> Iterator[Diagnosis]:
    described = folder / "server.json"
    process = _process_of(described)
    if process is not None and not is_running(process):
        text = f"{described} was left by a killed server"
        yield Diagnosis("problem", "left over", text, described.unlink)
    for path in abandoned_snapshots(folder):
        text = f"{path} was left by a killed backup"
        yield Diagnosis("warning", "left over", text, partial(shutil.rmtree, path))


def _process_of(described: Path) -> int | None:
    try:
        return int(json.loads(described.read_text())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _disk(folder: Path) -> Iterator[Diagnosis]:
    free = shutil.disk_usage(folder).free
    level = "ok" if free >= _LITTLE_SPACE else "warning"
    yield Diagnosis(level, "disk", f"{free / 1e9:,.1f} GB free in {folder}")


def _server(console: Console, status: Mapping[str, Any]) -> Iterator[Diagnosis]:
    is_ok = status["status"] == "ok"
    more = "" if is_ok else "; 'opentrail status' says why"
    yield Diagnosis(
        "ok" if is_ok else "problem", "server", f"{console.url} is {status['status']}{more}"
    )
    if status["version"] != __version__:
        text = f"the server runs version {status['version']}, this is {__version__}: restart it"
        yield Diagnosis("warning", "version", text)
    if failure := status.get("controlStore", {}).get("failure"):
        text = f"{failure}: trails, keys and policies cannot be read or changed"
        yield Diagnosis("problem", "control store", text)
    problem = status["lastProblem"]
    if problem is not None:
        yield Diagnosis("warning", "log", f"{problem['time']} {problem['message']}")


def _upstreams(status: Mapping[str, Any]) -> Iterator[Diagnosis]:
    upstream = {("" if name == "*" else name): url for name, url in status["upstreams"].items()}
    for line in UpstreamCheck(Settings(upstream=upstream)).lines():
        yield Diagnosis("problem" if "nothing answers" in line else "ok", "upstream", line)


def _trails(status: Mapping[str, Any]) -> Iterator[Diagnosis]:
    for trail in status["trails"]:
        if trail["status"] == "Failing":
            yield Diagnosis("problem", "trail", f"{trail['name']}: {trail['reason']}")
        else:
            yield Diagnosis("ok", "trail", f"{trail['name']}: {trail['status']}")


def _environment(console: Console, environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Checks the settings of aws-cli and SDKs in this terminal."""
    endpoint = console.aws_endpoint
    if endpoint is None:
        return
    address = environment.get("AWS_ENDPOINT_URL")
    if not address:
        text = f"AWS_ENDPOINT_URL is not set here: export AWS_ENDPOINT_URL={endpoint}"
        yield Diagnosis("warning", "environment", text)
    elif address.rstrip("/") != endpoint.rstrip("/"):
        text = f"AWS_ENDPOINT_URL is {address}, which is not this server: {endpoint}"
        yield Diagnosis("warning", "environment", text)
    else:
        yield Diagnosis("ok", "environment", f"AWS_ENDPOINT_URL is {address}")
    url = urlsplit(endpoint)
    is_by_proxy = url.scheme in urllib.request.getproxies()
    if is_by_proxy and not urllib.request.proxy_bypass(url.hostname or ""):
        text = f"calls of {endpoint} go to a proxy: export NO_PROXY={url.hostname}"
        yield Diagnosis("problem", "environment", text)
    if shutil.which("aws") is None:
        yield Diagnosis("warning", "aws-cli", "the command aws is not installed, or not on PATH")
