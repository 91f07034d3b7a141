"""A whole server process: it starts, prints its addresses, answers, and stops in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.app.core import start_history
from opentrail.core.event import format_time
from opentrail.core.version import DATA_VERSION, __version__
from opentrail.settings import Settings
from tests.app.opened import opened_engines
from tests.factories import a_new_entry, some_records
from tests.fakes import TIMEOUT_SECONDS, fill, run, small_disk
from tests.live.processes import clean_environment, eventually

UPSTREAM = ("--upstream", "http://127.0.0.1:9")
ADDRESSES = ("--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0")


def start(
    data_dir: Path, *flags: str, stdin: int = subprocess.DEVNULL, **environment: str
) -> subprocess.Popen[str]:
    """Starts `opentrail serve`."""
    return subprocess.Popen(
        [sys.executable, "-m", "opentrail", "serve", "--data-dir", str(data_dir), *flags],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(**environment),
    )


def run_to_end(data_dir: Path, *flags: str, **environment: str) -> tuple[int, str]:
    """Returns the exit code of a server that cannot start, and its error message."""
    with start(data_dir, *flags, stdin=subprocess.DEVNULL, **environment) as process:
        try:
            _, complaint = process.communicate(timeout=TIMEOUT_SECONDS)
        finally:
            process.kill()
        return process.returncode, complaint


class Server:
    """A running server."""

    def __init__(self, data_dir: Path, *flags: str, stdin: int = subprocess.DEVNULL) -> None:
        self.data_dir = data_dir
        self.process = start(data_dir, *UPSTREAM, *ADDRESSES, *flags, stdin=stdin)
        assert self.process.stdout is not None
        self.said = ""
        while not self.said.endswith(f"{data_dir.resolve()}\n"):
            line = self.process.stdout.readline()
            assert line, self.process.communicate(timeout=TIMEOUT_SECONDS)
            self.said += line
        self.described: dict[str, Any] = json.loads((data_dir / "server.json").read_text())

    def get(self, path: str, token: str | None = None) -> tuple[int, Any]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(self.described["console"] + path, headers=headers)  # noqa: S310 - http
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=TIMEOUT_SECONDS)
        return self.process.returncode


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "data")
    yield made
    if made.process.poll() is None:
        made.end(signal.SIGKILL)


@pytest.mark.live
def test_a_server_publishes_addresses_answers_and_stops(server: Server) -> None:
    file = server.data_dir / "server.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    described = server.described
    assert set(described) == {"pid", "endpoint", "console", "token", "certificate", "version"}
    assert described["pid"] == server.process.pid
    assert described["version"] == __version__
    assert described["endpoint"] in server.said
    assert described["console"] in server.said
    assert described["token"] not in server.said

    # On a busy machine a part of the server may answer late.
    status, health = eventually(
        lambda: (said := server.get("/health"))[1]["status"] == "ok" and said, "the server is well"
    )
    assert status == 200
    assert health["onRecordFailure"] == "refuse"
    checked = health["journal"].pop("checked")
    assert checked in (True, False)
    whole: dict[str, Any] = {"position": 0, "failure": None, "backlogSeconds": 0.0, "lost": []}
    engine = {"engine": "sqlite", "quorumCommit": None}
    assert health["journal"] == {**whole, **engine, "unverified": None}
    assert server.get("/api/v1/events")[0] == 401
    assert server.get("/api/v1/events", described["token"]) == (
        200,
        {"events": [], "missing": []},
    )

    assert server.end() == 0
    assert not file.exists()


@pytest.mark.slow
def test_a_server_loads_only_its_own_libraries() -> None:
    """Each takes megabytes and start time in the process that answers calls."""
    others = ("boto3", "botocore.session", "duckdb", "httpx", "moto", "numpy", "psycopg")
    shown = subprocess.run(
        [sys.executable, "-c", "import sys, opentrail.app.server; print(*sys.modules)"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=TIMEOUT_SECONDS,
    )
    loaded = shown.stdout.split()
    assert "opentrail.adapters.sql.control_store" in loaded
    assert [name for name in others if name in loaded] == []


@pytest.mark.live
def test_stored_files_are_private(server: Server) -> None:
    server.get("/api/v1/events", server.described["token"])
    assert server.end() == 0
    for path in (server.data_dir, *server.data_dir.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, (path, oct(mode))


@pytest.mark.campaign
@pytest.mark.live
def test_one_server_may_use_a_data_directory(
    server: Server,
) -> None:
    code, complaint = run_to_end(server.data_dir, *UPSTREAM, *ADDRESSES)
    assert code == 3
    assert f"process id {server.process.pid}" in complaint
    assert (server.data_dir / "server.json").exists()
    assert server.end(signal.SIGINT) == 0
    again = Server(server.data_dir)
    assert again.get("/health")[0] == 200
    assert again.described["token"] != server.described["token"]
    assert again.end() == 0


@pytest.mark.campaign
@pytest.mark.live
def test_a_server_ends_with_its_terminal(tmp_path: Path) -> None:
    try:
        ours, its = os.openpty()
    except OSError as error:
        pytest.skip(f"this machine has no pseudoterminals: {error}")
    server = Server(tmp_path / "data", stdin=its)
    os.close(its)
    os.close(ours)
    assert server.end(signal.SIGHUP) == 0
    assert not (server.data_dir / "server.json").exists()


@pytest.mark.campaign
@pytest.mark.live
def test_a_service_continues_after_a_hangup(server: Server) -> None:
    server.process.send_signal(signal.SIGHUP)
    assert server.get("/health")[0] == 200
    assert server.end() == 0


@pytest.mark.campaign
@pytest.mark.live
@pytest.mark.anomaly
def test_server_without_control_store_restores_from_event_history(
    tmp_path: Path,
) -> None:
    settings = Settings(data_dir=tmp_path, insights="off", history_seal_records=20)

    async def write() -> None:
        data = DataDirectory(tmp_path)
        data.open()
        journal = SqliteJournal(data.journal, segment_bytes=24 * 1024)
        now = datetime.now(UTC)
        for record in some_records(100):
            record["eventTime"] = format_time(now)
            await journal.append([a_new_entry(record, recorded_at=now)])
        await journal.close()
        data.close()

    async def trim() -> None:
        async with opened_engines(settings) as (stack, engines, _):
            await start_history(stack, engines)
            while (await engines.store.refresh()).sealed < 80:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.01)
            assert await engines.trimmed_journal.trim(80)
            assert await engines.identities.cursor() == 100

    run(write())
    run(trim())
    for file in tmp_path.glob("state.db*"):
        file.unlink()
    server = Server(tmp_path, "--insights", "off")
    try:
        status, events = server.get("/api/v1/events?limit=1000", server.described["token"])
        assert (status, len(events["events"])) == (200, 100)
    finally:
        server.end(signal.SIGKILL)


@pytest.mark.live
@pytest.mark.anomaly
def test_next_server_replaces_a_killed_ones_file(server: Server) -> None:
    assert server.end(signal.SIGKILL) == -signal.SIGKILL
    assert (server.data_dir / "server.json").exists()
    again = Server(server.data_dir)
    assert again.described["pid"] == again.process.pid
    assert again.get("/health")[0] == 200
    assert again.end() == 0


@pytest.mark.live
@pytest.mark.parametrize("point", ["nonsense", "journal.committed:x"])
def test_an_unknown_crash_point_is_wrong_use(tmp_path: Path, point: str) -> None:
    flags = (*UPSTREAM, *ADDRESSES)
    code, complaint = run_to_end(tmp_path / "data", *flags, OPENTRAIL_CRASH_AT=point)
    assert code == 2
    assert "OPENTRAIL_CRASH_AT" in complaint
    assert "journal.committed" in complaint


@pytest.mark.live
def test_without_an_upstream_serve_fails(tmp_path: Path) -> None:
    code, complaint = run_to_end(tmp_path / "data", *ADDRESSES)
    assert code == 2
    assert "--upstream" in complaint
    assert not (tmp_path / "data").exists()


@pytest.mark.campaign
@pytest.mark.live
def test_an_address_in_use_is_wrong_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for flag, other in (("--listen", "--console-listen"), ("--console-listen", "--listen")):
            flags = (*UPSTREAM, flag, address, other, "127.0.0.1:0")
            code, complaint = run_to_end(tmp_path / "data", *flags)
            assert code == 2
            assert address in complaint
            assert f"{flag} HOST:PORT" in complaint


@pytest.mark.live
def test_data_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "version").write_text(f"{DATA_VERSION + 1}\n")
    code, complaint = run_to_end(data, *UPSTREAM, *ADDRESSES)
    assert code == 4
    assert "upgrade opentrail" in complaint
    assert not (data / "state.db").exists()


@pytest.mark.live
def test_an_impossible_data_directory_is_failed_storage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, complaint = run_to_end(tmp_path / "file" / "data", *UPSTREAM, *ADDRESSES)
    assert code == 74
    assert str(tmp_path / "file" / "data") in complaint
    assert "Traceback" not in complaint


@pytest.mark.live
@pytest.mark.anomaly
def test_full_disk_at_the_start_gives_no_traceback(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 600) as disk:
        fill(disk, leave_kilobytes=24)
        code, complaint = run_to_end(disk / "data", *UPSTREAM, *ADDRESSES)
    assert code == 74
    assert "Traceback" not in complaint


@pytest.mark.live
@pytest.mark.anomaly
def test_an_invalid_state_store_fails_by_name(
    tmp_path: Path,
) -> None:
    damaged = tmp_path / "data" / "state.db"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"this is not a database " * 500)
    code, complaint = run_to_end(tmp_path / "data", *UPSTREAM, *ADDRESSES)
    assert code == 74
    assert "state store" in complaint
    assert "Traceback" not in complaint
