"""The machine's clock, memory of a process, priority of its threads."""

from __future__ import annotations

import fcntl
import gc
import os
import stat
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.system import (
    SystemClock,
    cpu_count,
    is_running,
    low_priority_thread,
    restore_garbage_collection,
    sync,
    tune_garbage_collection,
    write_private,
)


def test_time_is_the_machines_aware_and_in_utc() -> None:
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert before <= now <= datetime.now(UTC)
    assert now.tzinfo is UTC


def niceness() -> int:
    """Returns the niceness of this thread."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_thread_of_low_priority_has_a_higher_niceness() -> None:
    own = niceness()
    with low_priority_thread("background") as thread:
        assert thread.submit(niceness).result() == min(19, own + 5)
    assert niceness() == own


def test_sync_reaches_the_disk_by_a_full_sync(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on macOS, with its F_FULLFSYNC of 51."""
    calls: list[tuple[str, int, int]] = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda file, number: calls.append(("full", file, number)))
    monkeypatch.setattr(os, "fsync", lambda file: calls.append(("plain", file, 0)))
    sync(7)
    assert calls == [("full", 7, 51)]


def test_an_unsupported_full_sync_becomes_a_plain_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)  # Linux refuses this number
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with tempfile.TemporaryFile() as file:
        sync(file.fileno())
        assert synced == [file.fileno()]


@pytest.mark.parametrize("before", [None, 0o644])
def test_private_file_is_its_owners_alone(tmp_path: Path, before: int | None) -> None:
    file = tmp_path / "file"
    if before is not None:
        file.write_text("longer than the new content")
        file.chmod(before)
    write_private(file, b"new")
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", 0o600)


def test_private_file_may_be_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pipe.chmod(0o644)  # whatever the umask is
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_private(pipe, b"new")
        assert os.read(reading, 10) == b"new"
        assert stat.S_IMODE(pipe.stat().st_mode) == 0o644
    finally:
        os.close(reading)


def test_a_process_runs_until_it_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert is_running(process.pid)
    assert not is_running(process.pid)
    assert is_running(1), "of another user"
    assert not any(map(is_running, (0, -1, 1 << 70)))


def test_the_machine_has_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= cpu_count() <= (os.cpu_count() or 1)
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cpu_count() == os.cpu_count()


@pytest.mark.slow
def test_settled_memory_is_not_searched() -> None:
    before = gc.get_freeze_count(), gc.get_threshold()
    try:
        tune_garbage_collection()
        assert gc.get_freeze_count() > before[0]
        assert gc.get_threshold()[0] > before[1][0]
        restore_garbage_collection()
        assert gc.get_freeze_count() == 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before[1])
