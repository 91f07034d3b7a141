"""A server stops, or is cut off, within a fenced transaction; another one takes over."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import opentrail
from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.adapters.sql.control_store import SqlControl
from tests.anomaly.fenced_server import Mode, Point, fenced_server
from tests.factories import some_new_entries
from tests.fakes import TIMEOUT_SECONDS, SettableClock, run
from tests.postgres import database_in, shared_server

pytestmark = [pytest.mark.anomaly, pytest.mark.slow, pytest.mark.campaign]

#: The guarantee: maximum seconds until another server has taken over.
TAKEOVER_SECONDS = 10.0
#: Number of concurrent points, each in a new database.
_AT_ONCE = 6
_SOCKET = ".s.PGSQL.5432"


class Relay:
    """A socket between a server and PostgreSQL that can stop forwarding without closing."""

    def __init__(self, target: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="relay-"))
        self._target = target / _SOCKET
        self._is_cut, self._is_over = threading.Event(), threading.Event()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self.folder / _SOCKET))
        self._listening.listen(50)
        self._sockets = [self._listening]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Forwards half of the clients' next bytes, and then nothing in either direction."""
        self._is_cut.set()

    def close(self) -> None:
        self._is_over.set()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        shutil.rmtree(self.folder)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                self._sockets += [client, server]
                server.connect(str(self._target))
                for source, sink in ((client, server), (server, client)):
                    forward = (source, sink, source is client)
                    threading.Thread(target=self._forward, args=forward, daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, is_client: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if self._is_cut.is_set():
                    sink.sendall(data[: len(data) // 2 if is_client else 0])
                    self._is_over.wait()
                    return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@cache
def _template() -> str:
    """Returns a database with a journal whose oldest partition can be dropped."""
    url = shared_server().new_database()

    async def fill() -> None:
        clock = SettableClock(SystemClock().now() - timedelta(days=10))
        journal = PostgresJournal(url, clock=clock)
        await journal.append(some_new_entries(2, 1_000))
        await journal.close()

    run(fill())
    run(SqlControl(url).close())
    return database_in(url)


_copying = threading.Lock()


def _new_database() -> str:
    """Returns the name of a copy of the template."""
    with _copying:
        name = database_in(shared_server().new_database())
        shared_server().execute("postgres", f"DROP DATABASE {name}")
        shared_server().execute("postgres", f"CREATE DATABASE {name} TEMPLATE {_template()}")
    return name


@contextmanager
def _server(url: str, mode: Mode, point: Point | None) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.anomaly.fenced_server", json.dumps([url, mode, point])]
    root = Path(__file__).parents[2]
    pipes: Mapping[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=root, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


@cache
def _discovered() -> Mapping[str, Any]:
    """Returns the points of a server that works once, and the callers of `fence`."""
    url = shared_server().url(_new_database())
    with _server(url, "stop", None) as process:
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    found: Mapping[str, Any] = json.loads(output.splitlines()[-1])
    return found


def _is_taken_over(mode: Mode, point: Point) -> bool:
    """Returns whether another server does everything in time."""
    database = _new_database()
    url = shared_server().url(database)
    with ExitStack() as stack:
        relay = Relay(shared_server().folder)
        stack.callback(relay.close)
        own = url.replace(str(shared_server().folder), str(relay.folder))
        process = stack.enter_context(_server(own, mode, point))
        assert process.stdout is not None
        assert process.stdout.readline() == "at\n", f"the point was not passed: {point}"
        if mode == "cut":
            relay.cut()
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return asyncio.run(_works(url))


async def _works(url: str) -> bool:
    """Returns whether a starting server does everything in time."""
    try:
        async with asyncio.timeout(TAKEOVER_SECONDS) as limit:
            async with fenced_server(url, "second", 10) as journal:
                limit.reschedule(None)
                await journal.newest()
                entries = await journal.read(journal.first - 1, 1_000)
                ids = [entry.event_id for entry in entries]
                assert len(ids) == len(set(ids))
                assert set(ids) >= {entry.event_id for entry in some_new_entries(3, 10)}
                return True
    except TimeoutError:
        return False


def _last(point: Sequence[str]) -> str:
    return (
        f"after {len(point) - 1} statements, the last {point[-2][:60]!r}, before {point[-1][:60]!r}"
    )


def test_every_fenced_transaction_is_tested() -> None:
    source = Path(opentrail.__file__).parent
    calls = {
        (str(file.resolve()), number)
        for file in source.rglob("*.py")
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if re.search(r"\.fence\(", line)
    }
    assert {tuple(caller) for caller in _discovered()["callers"]} == calls


@pytest.mark.parametrize("mode", ["stop", "cut"])
def test_another_server_takes_over_at_each_statement(mode: Mode) -> None:
    points = _discovered()["points"]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        in_time = list(pool.map(lambda point: _is_taken_over(mode, point), points))
    late = [_last(point) for point, is_taken in zip(points, in_time, strict=True) if not is_taken]
    assert not late, "\n".join(late)
