"""SIGKILL under load: excluded calls with an answer are all counted."""

from __future__ import annotations

import http.client
import os
import random
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.files import is_locked
from opentrail.adapters.data_directory.unrecorded_counts import count_files, counts_in
from tests.capture.proxy.wires import scope
from tests.live.processes import (
    TIMEOUT_SECONDS,
    Opentrail,
    eventually,
    free_port,
    opentrail_server,
    runs,
)
from tests.live.test_record_setting import selectors
from tests.stub_upstream import StubUpstream

pytestmark = [pytest.mark.anomaly, pytest.mark.live, pytest.mark.slow]

CLIENTS, KILLS = 4, 4
HEADERS = {"Authorization": scope("s3")}


@dataclass
class Reads:
    """Clients that read objects until they are stopped."""

    port: int
    sent: int = 0
    answered: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for _ in range(CLIENTS):
            self._threads.append(threading.Thread(target=self._read_on, daemon=True))
            self._threads[-1].start()

    def go_on(self, calls: int) -> None:
        """Returns once that number of further calls has an answer."""
        wanted = self.answered + calls
        eventually(lambda: self.answered >= wanted, "calls are answered")

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS)
            assert not thread.is_alive()

    def _read_on(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        while not self._stopped.is_set():
            try:
                if connection.sock is None:
                    connection.connect()
                with self._lock:
                    self.sent += 1
                connection.request("GET", "/backups/a", headers=HEADERS)
                answer = connection.getresponse()
                answer.read()
                with self._lock:
                    self.answered += answer.status == 200
            except (OSError, http.client.HTTPException):
                connection.close()
                self._stopped.wait(0.02)


@pytest.mark.parametrize("recorders", [1, 2])
def test_counts_are_exact_after_any_kill(tmp_path: Path, recorders: int) -> None:
    chance = random.Random(os.environ.get("OPENTRAIL_KILL_SEED", f"{recorders}"))
    folder = tmp_path / "data" / "left-out"
    flags = ("--recorders", str(recorders), *selectors(tmp_path))
    with (
        StubUpstream() as upstream,
        opentrail_server(
            tmp_path / "data", "--upstream", upstream.url, *flags, port=free_port()
        ) as server,
    ):
        reads = Reads(int(server.url.rpartition(":")[2]))
        reads.start()
        for number in range(KILLS):
            reads.go_on(chance.randint(50, 500))
            if recorders > 1 and number % 2:
                kill_a_recorder(server)
            else:
                server.kill()
                server.start()
        reads.go_on(50)
        reads.stop()
        server.kill()
        children_end(folder)
        counted = counts_in(count_files(folder)).total()
        assert reads.answered <= counted <= reads.sent
        assert upstream.count <= counted
        for file in count_files(folder):  # their hour is over
            file.rename(file.with_name(f"20200101T07-{file.name.partition('-')[2]}"))
        server.start()
        eventually(lambda: server.count("EventName=EventsLeftOut"), "the hour is recorded")
        (record,) = server.records("EventName=EventsLeftOut")
        assert record["serviceEventDetails"]["leftOutCalls"] == counted
        assert server.count("EventName=GetObject") == 0


def kill_a_recorder(server: Opentrail) -> None:
    pid = server.children(b"recorder_process")[0]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not runs(pid), "the recorder has ended")


def children_end(folder: Path) -> None:
    """Returns once no process counts: recorders end automatically after the server."""
    eventually(lambda: not any(map(is_locked, count_files(folder))), "all processes have ended")
