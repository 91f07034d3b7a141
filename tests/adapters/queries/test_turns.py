"""Processes take turns, and none is left stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from opentrail.adapters.queries import turns
from opentrail.adapters.queries.turns import Turns, free_cores
from tests.fakes import asynchronous

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stops processes on Linux only")


async def started(count: int) -> list[asyncio.subprocess.Process]:
    return [await asyncio.create_subprocess_exec("sleep", "600") for _ in range(count)]


def state(process: asyncio.subprocess.Process) -> str:
    """Returns the kernel's letter of a process's state: T if it is stopped."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


async def until(processes: list[asyncio.subprocess.Process], running: int) -> None:
    """Returns when this number of processes is not stopped."""
    while sum(state(each) != "T" for each in processes) != running:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@asynchronous
async def test_all_run_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN", 0.01)
    processes, scheduler = await started(4), Turns(2)
    seen: set[int] = set()
    with ExitStack() as members:
        for process in processes:
            members.enter_context(scheduler.member(process.pid))
        await until(processes, 2)
        while len(seen) < 4:
            seen |= {each.pid for each in processes if state(each) != "T"}
            await asyncio.sleep(0.005)
    await until(processes, 4)
    for process in processes:
        process.kill()
        assert await process.wait() == -signal.SIGKILL


@asynchronous
async def test_few_processes_are_never_stopped() -> None:
    processes, scheduler = await started(2), Turns(2)
    with scheduler.member(processes[0].pid), scheduler.member(processes[1].pid):
        for _ in range(10):
            await asyncio.sleep(0)
            assert "T" not in map(state, processes)
    for process in processes:
        process.kill()
        await process.wait()


@asynchronous
async def test_others_go_on_when_one_ends() -> None:
    processes, scheduler = await started(2), Turns(1)
    with scheduler.member(processes[0].pid):
        with scheduler.member(processes[1].pid):
            await until(processes, 1)
            processes[1].kill()
            await processes[1].wait()
        await until(processes[:1], 1)
    processes[0].kill()
    await processes[0].wait()


@asynchronous
async def test_all_run_where_the_system_has_no_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    processes, scheduler = await started(2), Turns(1)  # Python may open descriptors, too
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with scheduler.member(processes[0].pid), scheduler.member(processes[1].pid):
        await asyncio.sleep(0)
        assert "T" not in map(state, processes)
    for process in processes:
        process.kill()
        await process.wait()


def test_one_core_stays_free() -> None:
    assert free_cores() >= 1
