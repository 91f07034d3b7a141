"""Real processes for tests: an opentrail server, moto, aws-cli. All end with their test."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import boto3
import botocore.loaders
import botocore.session
import pytest
from botocore.config import Config

from opentrail.cli import main, parser
from opentrail.commands.client import ask
from opentrail.commands.conditions import conditions_of
from opentrail.commands.sandbox import (
    ADMIN_KEY_ID,
    ADMIN_SECRET,
    BuiltInUpstream,
    ReservedPort,
    start_moto,
)

T = TypeVar("T")

#: Limit of everything in these tests.
TIMEOUT_SECONDS = 120.0
BIN = Path(sys.executable).parent
#: Reads each of botocore's models once for all clients.
_LOADER = botocore.loaders.create_loader()
#: Ports stay reserved until the tests end: their servers may restart at any time.
_reserved: list[ReservedPort] = []


def free_port(below: int = 65_536) -> int:
    """Returns a reserved port for servers that must restart on it."""
    while True:
        reserved = ReservedPort()
        if reserved.number < below:
            _reserved.append(reserved)
            return reserved.number
        reserved.release()


def clean_environment(**extra: str) -> dict[str, str]:
    """Returns this process's environment without AWS and opentrail settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "OPENTRAIL_"))}
    return {**kept, "AWS_EC2_METADATA_DISABLED": "true", "PYTHONUNBUFFERED": "1", **extra}


class Opentrail:
    """A server process on a data directory; it may be stopped, killed and started again."""

    def __init__(
        self,
        data_dir: Path,
        *flags: str,
        command: str = "serve",
        port: int = 0,
        python: str = sys.executable,
    ) -> None:
        #: A command that runs the server, such as `sh -c "ulimit …"`.
        self.prefix: tuple[str, ...] = ()
        self.data_dir = data_dir
        self.flags = flags
        self.command = command
        self.port = port
        self.python = python
        self.process: subprocess.Popen[str] | None = None
        self.output = ""

    def start(self, **environment: str) -> Opentrail:
        """Starts the server and returns once it is ready."""
        arguments = [
            *self.prefix,
            *(self.python, "-m", "opentrail", self.command, "--data-dir", str(self.data_dir)),
            *("--listen", f"127.0.0.1:{self.port}", "--console-listen", "127.0.0.1:0"),
            *self.flags,
        ]
        self.process = subprocess.Popen(
            arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # An upstream's stub gets only the calls of its test.
            env=clean_environment(**{"OPENTRAIL_UPSTREAM_CHECK": "off", **environment}),
        )
        self.output = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if line.startswith("  data "):
                break
        else:
            code = self.process.wait(TIMEOUT_SECONDS)
            raise AssertionError(f"server ended with {code}:\n{self.output}")
        described = json.loads((self.data_dir / "server.json").read_text())
        self.url, self.console = described["endpoint"], described["console"]
        self.token = described["token"]
        return self

    def stop(self, within: float = TIMEOUT_SECONDS) -> int:
        """Stops the server as an operator would, within some seconds; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._wait(within)

    def kill(self) -> None:
        """Kills the server as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self._wait()

    def wait(self) -> int:
        """Waits until the server has exited."""
        return self._wait()

    def _wait(self, timeout: float = TIMEOUT_SECONDS) -> int:
        assert self.process is not None
        said, _ = self.process.communicate(timeout=timeout)
        self.output += said
        return self.process.returncode

    def close(self) -> None:
        """Stops all processes."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def children(self, named: bytes) -> list[int]:
        """Returns the ids of the server's child processes with this in their command line."""
        assert self.process is not None
        listed = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [int(pid) for task in listed for pid in of_process(task).split()]
        return [pid for pid in pids if named in of_process(Path(f"/proc/{pid}/cmdline"))]

    def open_files(self) -> dict[str, bytes]:
        """Returns the content of all files that the server's processes have open, also deleted."""
        assert self.process is not None
        contents = {}
        for pid in (self.process.pid, *self.children(b"")):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if link.is_file():
                        contents[f"{link}: {link.readlink()}"] = link.read_bytes()
        return contents

    def boto(
        self, service: str, key: str = ADMIN_KEY_ID, secret: str = ADMIN_SECRET, **more: Any
    ) -> Any:
        """Returns a client of this endpoint."""
        core = botocore.session.Session()
        core.register_component("data_loader", _LOADER)
        region = more.pop("region", "us-east-1")
        token = more.pop("token", None)
        session = boto3.session.Session(
            key, secret, token, region_name=region, botocore_session=core
        )
        config = Config(retries={"total_max_attempts": more.pop("attempts", 1)}, **more)
        return session.client(service, endpoint_url=self.url, config=config)

    def aws(self, *arguments: str, key: str = ADMIN_KEY_ID, secret: str = ADMIN_SECRET) -> str:
        """Runs the real aws-cli against this endpoint and returns its output."""
        return self.try_aws(*arguments, key=key, secret=secret, check=True).stdout

    def try_aws(
        self,
        *arguments: str,
        key: str = ADMIN_KEY_ID,
        secret: str = ADMIN_SECRET,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Runs the real aws-cli; it may fail."""
        environment = clean_environment(**self.access(key, secret), AWS_PAGER="")
        done = subprocess.run(
            [str(BIN / "aws"), *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=TIMEOUT_SECONDS * 3,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"aws {arguments} ended with {done.returncode}: {done.stderr}")
        return done

    def access(self, key: str = ADMIN_KEY_ID, secret: str = ADMIN_SECRET) -> dict[str, str]:
        """Returns the environment for SDKs and commands that use this endpoint."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def validate(self, arn: str) -> subprocess.CompletedProcess[str]:
        """Runs `opentrail validate` on a trail of this server."""
        folder = str(self.data_dir)
        return run_opentrail("validate", arn, "--data-dir", folder, **self.access())

    def opentrail(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs an opentrail command against this server.

        It runs in this process: another process would take ten times as long.
        """
        said, warned = io.StringIO(), io.StringIO()
        command = [*arguments, "--data-dir", str(self.data_dir)]
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(warned),
        ):
            for name in os.environ.keys() - clean_environment().keys():
                patch.delenv(name)
            try:
                code = main(command)
            except SystemExit as ended:  # argparse found an error
                code = int(ended.code or 0)
        return subprocess.CompletedProcess(command, code, said.getvalue(), warned.getvalue())

    def records(self, *expression: str) -> list[Mapping[str, Any]]:
        """Returns every record that `opentrail lookup` finds, of all Regions and categories."""
        found = self._ask_history("/api/v1/events", "--limit", "10000", *expression)
        assert not found.get("truncated"), "the records are too large for one answer"
        return [json.loads(event["CloudTrailEvent"]) for event in found["events"]]

    def count(self, *expression: str) -> int:
        """Returns the number of matching records, up to 10,000."""
        return int(self._ask_history("/api/v1/events/count", *expression)["value"])

    def _ask_history(self, path: str, *arguments: str) -> Any:
        everything = ("--all-accounts", "--all-regions", "--all-categories")
        folder = ("--data-dir", str(self.data_dir))
        options = parser("lookup").parse_args(["lookup", *arguments, *everything, *folder])
        return ask(options, path, conditions_of(options))


def eventually(question: Callable[[], T], what: str, seconds: float = TIMEOUT_SECONDS) -> T:
    """Asks with increasing pauses until the answer is true, and returns it."""
    began = time.monotonic()
    pause = threading.Event()
    while (passed := time.monotonic() - began) < seconds:
        if answer := question():
            return answer
        pause.wait(min(0.5, 0.02 + passed / 10))
    raise AssertionError(f"never happened: {what}")


def is_throttled(answer: str | bytes) -> bool:
    """Returns whether an answer means that its call was neither forwarded nor recorded."""
    reason = "calls come faster than they can be recorded"
    return reason in (answer if isinstance(answer, str) else answer.decode("utf-8", "replace"))


def unthrottled(call: Callable[[], T], text_of: Callable[[T], str | bytes]) -> T:
    """Repeats a call while it is throttled, and returns its answer."""
    answers: list[T] = []

    def is_answered() -> bool:
        answers.append(call())
        return not is_throttled(text_of(answers[-1]))

    eventually(is_answered, "a call that is not throttled")
    return answers[-1]


def health(server: Opentrail) -> dict[str, Any]:
    """Returns the server's health report."""
    try:
        with urllib.request.urlopen(f"{server.console}/health", timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - of this machine
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        return dict(json.load(error))


def until_well(server: Opentrail) -> None:
    """Returns once the server is well: on a busy machine its parts may be slow at first."""
    try:
        eventually(lambda: health(server)["status"] == "ok", "the server is well")
    except AssertionError:
        raise AssertionError(health(server)) from None


@contextmanager
def stalled_disk(server: Opentrail) -> Iterator[None]:
    """Holds the journal's write lock in another process, so that nothing becomes durable."""
    file = max((server.data_dir / "journal").glob("*.db"))
    holder = sqlite3.connect(file, isolation_level=None, timeout=30)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def runs(pid: int) -> bool:
    """Returns whether a process runs; it may be another one's child."""
    stat = of_process(Path(f"/proc/{pid}/stat"))
    return stat != b"" and stat.rpartition(b")")[2].split()[0] != b"Z"


def of_process(file: Path) -> bytes:
    """Returns the content of a file in `/proc`, or nothing if the process has ended."""
    try:
        return file.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def files_in(folder: Path) -> dict[Path, bytes]:
    """Returns the content of all files of a folder; reads again if a server moves one."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def run_opentrail(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `opentrail` in a separate process, and returns its exit code and output."""
    return subprocess.run(
        [sys.executable, "-m", "opentrail", *arguments],
        capture_output=True,
        text=True,
        env=clean_environment(**environment),
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


#: Unused moto servers of this process; they end with it.
_idle_motos: list[BuiltInUpstream] = []


@contextmanager
def moto_server(*, ends: bool = False) -> Iterator[str]:
    """Yields the URL of an empty moto server; with `ends`, the server ends afterwards."""
    child = _idle_motos.pop() if _idle_motos else start_moto()
    emptied = urllib.request.Request(f"{child.url}/moto-api/reset", method="POST")  # noqa: S310
    with urllib.request.urlopen(emptied, timeout=TIMEOUT_SECONDS):  # noqa: S310 - of this machine
        pass
    try:
        yield child.url
    finally:
        if ends:
            child.stop()
        else:
            _idle_motos.append(child)


@contextmanager
def opentrail_server(data_dir: Path, *flags: str, **options: Any) -> Iterator[Opentrail]:
    """Runs a server during a test."""
    server = Opentrail(data_dir, *flags, **options)
    try:
        yield server.start()
    finally:
        server.close()
