"""Load on many connections: as much as a server takes (wrk), or at a rate (ours)."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import tempfile
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import find_program, launch

CONNECTIONS = 64
#: A rate that cannot be kept ends after so many times the planned duration.
_PATIENCE = 4

_SCRIPT = """
wrk.method = {method}
wrk.path = {path}
wrk.body = [==[{body}]==]
{headers}
function done(summary, latency, requests)
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format('\\n{{"calls": %d, "microseconds": %d, "errors": %d}}\\n',
    summary.requests, summary.duration, errors))
end
"""


def calls_per_second(port: int, request: bytes, seconds: int, cpu: int | None) -> float:
    """Returns how many calls wrk had answered each second; all with 200.

    Raises:
        RuntimeError: a call was not answered, or not well.
    """
    program = find_program("wrk", "apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "call.lua"
        script.write_text(_script(request))
        command = [
            *(program, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "20s"),
            *("-s", str(script), f"http://127.0.0.1:{port}/"),
        ]
        child = launch(command, cpu, stdout=subprocess.PIPE, text=True)
        told, _ = child.communicate(timeout=seconds + 60)
    if child.returncode:
        raise RuntimeError(f"wrk failed: {told}")
    summary = json.loads(told.strip().rpartition("\n")[2])
    if summary["errors"] or "Non-2xx" in told:
        raise RuntimeError(f"not every call was answered well: {told}")
    return float(summary["calls"] / summary["microseconds"] * 1e6)


def _script(request: bytes) -> str:
    """Returns a script of wrk that sends a request over and over."""
    head, _, body = request.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ")
    pairs = [line.split(": ", 1) for line in lines]
    own = ("host", "content-length")
    headers = [
        f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}"
        for name, value in pairs
        if name.lower() not in own
    ]
    return _SCRIPT.format(
        method=json.dumps(method), path=json.dumps(path), body=body, headers="\n".join(headers)
    )


def latencies_at(port: int, request: bytes, rate: float, seconds: int, cpu: int) -> list[float]:
    """Returns the milliseconds of calls that are due at a steady rate, whatever the server does.

    Each is counted from the moment its call was due: a server that stalls delays the calls behind
    it, and all of that counts (no coordinated omission).
    """
    with ProcessPoolExecutor(1, initializer=os.sched_setaffinity, initargs=(0, {cpu})) as pool:
        return pool.submit(_offer, port, request, rate, seconds).result()


@dataclass(slots=True)
class _Line:
    """One connection and the call that is under way on it."""

    socket: socket.socket
    due: float = 0.0
    received: bytearray = field(default_factory=bytearray)

    def is_answered(self) -> bool:
        """Reads what came; tells whether the answer is whole."""
        more = self.socket.recv(65536)
        if not more:
            raise ConnectionError("closed")
        self.received += more
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self.received[:end]).lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(head.decode("latin-1"))
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self.received) < end + 4 + length:
            return False
        self.received.clear()
        return True


def _offer(port: int, request: bytes, rate: float, seconds: int) -> list[float]:
    free = deque(_Line(_connected(port)) for _ in range(CONNECTIONS))
    busy: dict[socket.socket, _Line] = {}
    taken: list[float] = []
    total, sent = int(rate * seconds), 0
    start = time.perf_counter() + 0.01
    while len(taken) < total:
        now = time.perf_counter()
        if now - start > seconds * _PATIENCE:
            raise RuntimeError(f"only {len(taken)} of {total} calls were answered in time")
        while free and sent < total and start + sent / rate <= now:
            line = free.popleft()
            line.due = start + sent / rate
            line.socket.sendall(request)
            busy[line.socket] = line
            sent += 1
        # select waits with microseconds, epoll with milliseconds.
        due_next = start + sent / rate if free and sent < total else now + 1
        pause = max(0.0, due_next - time.perf_counter())
        readable, _, _ = select.select(list(busy), [], [], pause)
        for ready in readable:
            line = busy[ready]
            if line.is_answered():
                taken.append((time.perf_counter() - line.due) * 1000)
                free.append(busy.pop(ready))
    for line in free:
        line.socket.close()
    return taken


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
