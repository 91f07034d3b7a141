"""Child processes: started, watched, replaced, and killed at crash points with the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from opentrail.adapters.ipc import child as child_module
from opentrail.adapters.ipc.child import ChildProcess
from opentrail.adapters.ipc.link import Link
from opentrail.core.errors import StorageFailed
from tests.fakes import TIMEOUT_SECONDS, asynchronous

# A server that starts a history process, which starts a child that reaches the point.
SERVER = """
import subprocess, sys
sys.exit(subprocess.run([sys.executable, "-c", sys.argv[1], sys.argv[2]]).returncode)
"""
HISTORY = """
import subprocess, sys
from opentrail.adapters.ipc.child import arm_in_child
arm_in_child(("history.merged",))
print(subprocess.run([sys.executable, "-c", sys.argv[1]]).returncode)
"""
CHILD = """
from opentrail.adapters.ipc.child import arm_in_child
from opentrail.core.faults import crash_point
arm_in_child(("history.sealed",))
crash_point("history.sealed")
crash_point("history.sealed")
print("survived")
"""


def run(point: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SERVER, HISTORY, CHILD],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        env={"OPENTRAIL_CRASH_AT": point, "PYTHONPATH": ":".join(sys.path)},
    )


@pytest.mark.slow
def test_the_whole_family_dies_at_an_armed_point() -> None:
    done = run("history.sealed:2")
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == ""


@pytest.mark.slow
def test_other_crash_points_do_not_kill_the_process() -> None:
    done = run("journal.committed:1")
    assert done.returncode == 0
    assert done.stdout == "survived\n0\n"


# A process that ends, or does not finish loading, while a file requests it.
MODULE = """
import os, sys
from opentrail.adapters.ipc.child import run_child, until_gone
from opentrail.adapters.ipc.link import Link

async def serve(ends, arguments):
    import asyncio
    await until_gone(await Link.over(ends[0], {}), asyncio.Event())

if __name__ == "__main__":
    if os.path.exists(sys.argv[2] + "/broken"):
        sys.exit(1)
    if os.path.exists(sys.argv[2] + "/slow"):
        open(sys.argv[2] + "/slow").read()  # a FIFO
    run_child(serve, ends=1)
"""


@asynccontextmanager
async def a_child(folder: Path, silence_seconds: float) -> AsyncIterator[ChildProcess]:
    (folder / "a_child_module.py").write_text(MODULE)
    child = ChildProcess(
        "a_child_module",
        (str(folder),),
        {},
        Link.ping,
        prepare_seconds=TIMEOUT_SECONDS,
        silence_seconds=silence_seconds,
        environment={"PYTHONPATH": ":".join((str(folder), *sys.path))},
    )
    try:
        yield child
    finally:
        await child.stop()


@pytest.mark.slow
@asynchronous
async def test_a_loading_child_may_be_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "_PING_SECONDS", 0.05)
    os.mkfifo(tmp_path / "slow")
    async with a_child(tmp_path, silence_seconds=0.1) as child:
        starting = asyncio.create_task(child.start())
        opened = await asyncio.to_thread(open, tmp_path / "slow", "w")
        with opened:
            await asyncio.wait({starting}, timeout=1)  # ten times as long as it may hang later
            loading = child.pid
            assert not child.is_responding
        monkeypatch.setattr(child, "_silence_seconds", TIMEOUT_SECONDS)
        await starting
        assert child.pid == loading
        assert child.is_responding


@pytest.mark.slow
@asynchronous
async def test_required_child_gives_up(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    async with a_child(tmp_path, TIMEOUT_SECONDS) as child:
        with pytest.raises(StorageFailed, match="did not get ready"):
            await child.start()


@pytest.mark.slow
@asynchronous
async def test_other_child_is_started_until_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "_MIN_BACKOFF_SECONDS", 0.01)
    (tmp_path / "broken").touch()
    async with a_child(tmp_path, TIMEOUT_SECONDS) as child:
        starting = asyncio.create_task(child.start(is_required=False))
        pids: set[int | None] = set()
        while len(pids) < 5:
            await asyncio.sleep(0.01)
            pids.add(child.pid)
        assert child.failure is not None
        assert not child.is_responding
        (tmp_path / "broken").unlink()
        await starting
        assert child.failure is None
        assert child.is_responding


@pytest.mark.slow
@asynchronous
async def test_cancelled_start_kills_the_child(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "slow")
    async with a_child(tmp_path, TIMEOUT_SECONDS) as child:
        starting = asyncio.create_task(child.start(is_required=False))
        with await asyncio.to_thread(open, tmp_path / "slow", "w"):
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            assert child._process is not None
            assert await child._process.wait() == -signal.SIGKILL
