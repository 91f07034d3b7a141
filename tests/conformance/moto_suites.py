"""Runs moto's own test suites against a moto server, directly or through opentrail.

The suites come from moto's source distribution, of the version that is installed here, and run in
a separate environment; both stay in a folder outside of the sources. Needs a package registry
for the first run.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.live.processes import TIMEOUT_SECONDS, clean_environment, opentrail_server

#: Time limit of a suite, in seconds.
MAX_SECONDS = 900.0
_SIDE = Path(__file__).parent / "in_moto"
#: The suites' imports in addition to moto and its extras.
_TEST_TOOLS = ("pytest>=9,<10", "freezegun>=1.5,<2", "pytest-order>=1.3,<2")
#: The same SDK on both sides.
_SAME_HERE = ("boto3", "botocore")
#: Messages of pip and uv when they reach no registry.
_UNREACHABLE = re.compile(
    r"name resolution|name or service not known|max retries exceeded|dns error"
    r"|connection (?:refused|reset|timed out)|error sending request|network is unreachable",
    re.I,
)
#: A request in werkzeug's access log, its first line in colours or not.
_LOGGED = re.compile(r'^\S+ - - \[[^\]]+\] "(?:\x1b\[\d+m)*\S+ (?P<target>\S+) .*" \d{3} \S+$')
#: Moto's own controls, which are no calls of AWS: reset, seed, state.
CONTROLS = "/moto-api/"
#: Notes of failed decoding in a record.
_TROUBLES = ("decodeError", "answerDecodeError", "failure")
#: A client may leave an answer unread, as some of moto's tests do with large objects.
_LEFT = "the client went away before its answer was complete"
#: Variables of our environment that would disturb moto or its tests.
_NOT_THEIRS = re.compile(r"_proxy$|^MOTO_|^TEST_|^PYTHONDONTWRITEBYTECODE$", re.I)
#: Markers of moto's for tests that start containers: without Docker they wait minutes, and fail.
_LEFT_OUT = "not requires_docker"


class NoRegistryError(Exception):
    """The package registry is unreachable."""


@dataclass(frozen=True, slots=True)
class Moto:
    """Moto's sources with its tests, and a Python with their dependencies."""

    source: Path
    python: Path


@dataclass(frozen=True, slots=True)
class Suite:
    """Tests of moto's, with the settings of server and SDK for them."""

    #: Files or folders in moto's sources.
    paths: tuple[str, ...]
    #: Minimum number of passing tests.
    least: int
    #: Environment of the moto server.
    server: Mapping[str, str] = field(default_factory=dict)
    #: The SDK's configuration file.
    sdk: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """The outcome of each test of a suite, and the number of the server's answers."""

    outcomes: Mapping[str, str]
    reasons: Mapping[str, str]
    targets: list[str]
    seconds: float
    records: list[Mapping[str, Any]] = field(default_factory=list)
    #: opentrail's own counters, summed over all labels.
    counters: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> set[str]:
        """Returns the tests that passed."""
        return {test for test, outcome in self.outcomes.items() if outcome == "passed"}

    @property
    def calls(self) -> int:
        """Returns the number of AWS calls that the server answered."""
        return sum(not target.startswith(CONTROLS) for target in self.targets)

    @property
    def undecoded(self) -> list[str]:
        """Returns the parts of AWS calls that opentrail failed to decode."""
        return [trouble for record in self.records for trouble in _troubles(record)]


def prepared(folder: Path) -> Moto:
    """Returns moto ready for its tests; fetches it once.

    Raises:
        NoRegistryError: it is missing, and cannot be fetched.
    """
    version = importlib.metadata.version("moto")
    home = folder / f"moto-{version}"
    moto = Moto(home / "source", home / "venv" / "bin" / "python")
    requirements = [f"moto[all,server]=={version}", *_TEST_TOOLS]
    requirements += [f"{name}=={importlib.metadata.version(name)}" for name in _SAME_HERE]
    wanted = "\n".join(requirements)
    stamp = home / "requirements.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return moto
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    _fetch_source(version, moto.source)
    uv = [sys.executable, "-m", "uv"]
    _run([*uv, "venv", "-q", "--python", sys.executable, str(home / "venv")])
    install = [*uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(moto.python)]
    _run([*install, *requirements])
    stamp.write_text(wanted)
    return moto


def _fetch_source(version: str, target: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "moto"]
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        _run([*pip, "-d", name, f"moto=={version}"])
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder / "unpacked", filter="data")
        (unpacked,) = (folder / "unpacked").iterdir()
        unpacked.rename(target)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode == 0:
        return
    unreachable = _UNREACHABLE.search(done.stderr)
    if unreachable is not None:
        raise NoRegistryError(unreachable.group())
    raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr}")


def run_directly(moto: Moto, suite: Suite, folder: Path, selection: Collection[str]) -> Run:
    """Returns the outcomes of tests that talk to a fresh moto server."""
    folder.mkdir()
    log = folder / "access.log"
    with _server(moto, suite, log) as port:
        started = time.monotonic()
        lines = _pytest(moto, suite, folder, port, selection)
        seconds = time.monotonic() - started
    return _run_of(lines, log, seconds)


def run_through(moto: Moto, suite: Suite, folder: Path, selection: Collection[str]) -> Run:
    """Returns the outcomes of tests that talk to an opentrail before a fresh moto server."""
    folder.mkdir()
    log, data = folder / "access.log", folder / "data"
    with (
        _server(moto, suite, log) as port,
        opentrail_server(data, "--upstream", f"http://127.0.0.1:{port}") as server,
    ):
        started = time.monotonic()
        endpoint_port = int(server.url.rpartition(":")[2])
        lines = _pytest(moto, suite, folder, endpoint_port, selection)
        seconds = time.monotonic() - started
        counters = _counters(server.console)
        server.stop()
    run = _run_of(lines, log, seconds)
    return replace(run, records=_records(data / "journal"), counters=counters)


@contextmanager
def _server(moto: Moto, suite: Suite, log: Path) -> Iterator[int]:
    """Runs a moto server and yields its port."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [str(moto.python), str(_SIDE / "moto_side.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(**suite.server),
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"the moto server did not start: {log.read_text()}"
        yield int(line)
    finally:
        process.stdin.close()
        try:
            process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _pytest(
    moto: Moto, suite: Suite, folder: Path, port: int, selection: Collection[str]
) -> list[dict[str, str]]:
    """Runs pytest over moto's tests; returns its reports, one for each phase of each test."""
    outcomes, output, sdk = folder / "outcomes", folder / "pytest.txt", folder / "sdk.ini"
    sdk.write_text(suite.sdk)
    environment = _environment(
        TEST_SERVER_MODE="true",
        TEST_SERVER_MODE_ENDPOINT=f"http://localhost:{port}",
        OPENTRAIL_MOTO_OUTCOMES=str(outcomes),
        AWS_ACCESS_KEY_ID="FOOBARKEY",
        AWS_SECRET_ACCESS_KEY="FOOBARSECRET",
        AWS_CONFIG_FILE=str(sdk),
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    )
    pytest = [str(moto.python), "-m", "pytest", "-q", "-p", "moto_side", "-p", "no:cacheprovider"]
    with output.open("wb") as said:
        done = subprocess.run(
            [*pytest, "--tb=short", "-m", _LEFT_OUT, *selection],
            cwd=moto.source,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=MAX_SECONDS,
            check=False,
        )
    # 1: some tests failed. Any other code means that the suite has not run.
    assert done.returncode in (0, 1), output.read_text()[-4_000:]
    return [json.loads(line) for line in outcomes.read_text().splitlines()]


def _environment(**extra: str) -> dict[str, str]:
    """Returns an environment without proxies, Docker and opentrail's own modules."""
    kept = clean_environment(**extra)
    kept = {k: v for k, v in kept.items() if not _NOT_THEIRS.search(k)}
    return {
        **kept,
        **extra,
        "PYTHONPATH": str(_SIDE),
        "DOCKER_HOST": f"unix://{os.devnull}/docker.sock",
    }


def _run_of(lines: list[dict[str, str]], log: Path, seconds: float) -> Run:
    outcomes: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for line in lines:
        test, outcome = line["test"], line["outcome"]
        # A test has passed if all its phases have; the worst one counts.
        outcomes[test] = outcome if outcomes.get(test, "passed") == "passed" else outcomes[test]
        reasons[test] = reasons.get(test, "") + line["why"]
    logged = log.read_text(errors="replace").splitlines()
    matches = [match for line in logged if (match := _LOGGED.match(line))]
    return Run(outcomes, reasons, [match["target"] for match in matches], seconds)


def _counters(console: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{console}/metrics", timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
        text = answer.read().decode()
    found: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] += sample.value
    return found


def _records(journal: Path) -> list[Mapping[str, Any]]:
    found = []
    for file in sorted(journal.glob("*.db")):
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT record FROM entries ORDER BY position")
            found += [json.loads(raw) for (raw,) in rows]
    return found


def _troubles(record: Mapping[str, Any]) -> Iterator[str]:
    own = (record.get("additionalEventData") or {}).get("opentrail") or {}
    if own.get("request", {}).get("path", "").startswith(CONTROLS):
        return
    for name in _TROUBLES:
        is_left = own.get(name) == _LEFT and record["eventName"] == "GetObject"
        if name in own and not is_left:
            call = f"{record['eventSource']} {record['eventName']}"
            yield f"{call}: {name}: {own[name]!r} of {own.get('request')}"
