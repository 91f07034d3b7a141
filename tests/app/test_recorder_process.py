"""A single recorder process: its sockets, its signals, its end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from opentrail.app.recorder_process import GetSamples
from opentrail.ports.metrics import Sample
from tests.live.processes import TIMEOUT_SECONDS

pytestmark = pytest.mark.live


@contextmanager
def a_process() -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """Starts a process and yields the server's end of its link."""
    ours, theirs = socket.socketpair()
    passing, taking = socket.socketpair()
    with ours, passing:
        with theirs, taking:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "opentrail.app.recorder_process"),
                    *(str(theirs.fileno()), str(taking.fileno())),
                ],
                pass_fds=(theirs.fileno(), taking.fileno()),
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        ours.settimeout(TIMEOUT_SECONDS)
        try:
            yield process, ours
        finally:
            process.kill()
            process.communicate()


def ask(link: socket.socket, request: object) -> tuple[int, bytes]:
    """Sends a request; returns the kind of the response's frame and its payload."""
    payload = msgspec.msgpack.encode(request)
    link.sendall(len(payload).to_bytes(4, "big") + b"\0" + (7).to_bytes(4, "big") + payload)
    head = link.recv(9, socket.MSG_WAITALL)
    assert int.from_bytes(head[5:], "big") == 7
    return head[4], link.recv(int.from_bytes(head[:4], "big"), socket.MSG_WAITALL)


def test_it_ends_with_its_server() -> None:
    with a_process() as (process, link):
        assert ask(link, GetSamples())[0] == 1
        link.close()
        assert process.wait(TIMEOUT_SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_for_the_server_do_not_end_it(number: signal.Signals) -> None:
    with a_process() as (process, link):
        assert ask(link, GetSamples())[0] == 1
        process.send_signal(number)
        kind, counted = ask(link, GetSamples())
        assert kind == 1
        assert msgspec.msgpack.decode(counted, type=list[Sample])
        assert process.poll() is None


def test_an_unknown_question_fails() -> None:
    with a_process() as (_, link):
        kind, reason = ask(link, {"type": "Nonsense"})
        assert kind == 2
        assert b"Nonsense" in reason


def test_it_loads_neither_database_nor_console() -> None:
    wanted = "import sys, opentrail.app.recorder_process as p; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", wanted],
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_SECONDS,
    )
    heavy = {
        "duckdb",
        "opentrail.adapters.sql.control_store",
        "boto3",
        "starlette",
        "uvicorn",
        "moto",
    }
    assert heavy & set(done.stdout.split()) == set()
