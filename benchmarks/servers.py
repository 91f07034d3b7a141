"""opentrail under measurement, the calls that it is sent, and the machine that it runs on."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.processes import launch, resident_mb, stop
from benchmarks.wire import Connection
from opentrail.commands.sandbox import ADMIN_KEY_ID
from opentrail.core.version import __version__


@dataclass
class Server:
    """A running opentrail."""

    process: subprocess.Popen[str]
    port: int
    console: str
    seconds_to_ready: float
    data: Path

    @property
    def resident_mb(self) -> float:
        """Resident memory of the server process, in MB."""
        return resident_mb(self.process.pid)

    def positions(self) -> tuple[int, int]:
        """Returns how far journal and event history are."""
        port = int(self.console.rpartition(":")[2])
        state = json.loads(
            Connection(port).call(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        )
        return state["journal"]["position"], state["history"]["position"]

    def records(self) -> int:
        """Returns how many records the journal's files hold."""
        count = 0
        for file in (self.data / "journal").glob("*.db"):
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as reader:
                count += reader.execute("SELECT count(*) FROM entries").fetchone()[0]
        return count


@contextmanager
def opentrail(
    upstream: int,
    *flags: str,
    cpu: int | None = None,
    prepare: Callable[[Path], None] = lambda data: None,
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> Iterator[Server]:
    """Runs an opentrail server in front of a port; `prepare` may fill its data directory first."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder) / "data")
        started = time.perf_counter()
        process = launch(
            [
                *(python, "-m", "opentrail", "serve", "--data-dir", f"{folder}/data"),
                *("--upstream", f"http://127.0.0.1:{upstream}"),
                *("--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0", *flags),
            ],
            cpu,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("  data "):
                    break
            ready = time.perf_counter() - started
            described = json.loads(Path(f"{folder}/data/server.json").read_text())
            port = int(described["endpoint"].rpartition(":")[2])
            yield Server(process, port, described["console"], ready, Path(folder) / "data")
        finally:
            stop(process)


def create_user(name: str) -> bytes:
    """Returns a CreateUser request as boto3 would send it."""
    body = f"Action=CreateUser&Version=2010-05-08&UserName={name}"
    return post("iam", body, "application/x-www-form-urlencoded; charset=utf-8")


def lookup(name: str) -> bytes:
    """Returns a LookupEvents request for a user's name."""
    attribute = {"AttributeKey": "ResourceName", "AttributeValue": name}
    body = json.dumps({"LookupAttributes": [attribute], "MaxResults": 1})
    target = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents"
    return post("cloudtrail", body, "application/x-amz-json-1.1", f"X-Amz-Target: {target}\r\n")


def post(service: str, body: str, content_type: str, more: str = "") -> bytes:
    """Returns a POST request with the headers that boto3 sends."""
    scope = f"{ADMIN_KEY_ID}/20200101/us-east-1/{service}/aws4_request"
    return (
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: identity\r\n"
        "User-Agent: Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux#6.1 md/arch#x86_64 "
        "lang/python#3.11.7 md/pyimpl#CPython m/b,Z,D cfg/retry-mode#legacy Botocore/1.44.5\r\n"
        f"Content-Type: {content_type}\r\nX-Amz-Date: 20200101T000000Z\r\n{more}"
        f"Authorization: AWS4-HMAC-SHA256 Credential={scope}, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n"
        "amz-sdk-invocation-id: 7a62c49f-347e-4fc4-9331-6e8e6e8e6e8e\r\n"
        f"amz-sdk-request: attempt=1\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def machine() -> dict[str, str]:
    """Returns what the figures were measured on."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "cpu": f"{os.cpu_count()} x {cpu}",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()}, {_optimizations()}",
        "release": __version__,
        "commit": commit,
        "measured": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "load average": f"{os.getloadavg()[0]:.2f}",
    }


def _optimizations() -> str:
    """Returns how the interpreter was built; its optimization hardly changes calls a second."""
    if "deb_system" in sysconfig.get_scheme_names():
        return "Debian's, built with profile-guided optimization"
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    built = [name for name in ("--enable-optimizations", "--with-lto") if name in options]
    return f"built {' '.join(built)}" if built else "built without optimizations"
