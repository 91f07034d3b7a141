"""The history process as a process; the event store's contract tests its answers."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path

import pytest

from opentrail.adapters.ipc.link import Link
from opentrail.adapters.ipc.messages import CloseStore, GetState, OpenStore
from tests.fakes import asynchronous

pytestmark = pytest.mark.slow


async def started(root: Path) -> tuple[asyncio.subprocess.Process, Link]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "opentrail.adapters.duckdb.process", str(theirs.fileno())),
            *(str(root), str(root), "100", "1000000"),
            pass_fds=(theirs.fileno(),),
            stdin=asyncio.subprocess.PIPE,
        )
    link = await Link.over(ours, {})
    await link.ask(OpenStore(0))
    return process, link


@asynchronous
async def test_it_ends_with_its_server(tmp_path: Path) -> None:
    process, link = await started(tmp_path)
    link.close()
    assert await process.wait() == 0


@asynchronous
async def test_group_signals_do_not_end_it(tmp_path: Path) -> None:
    process, link = await started(tmp_path)
    for number in (signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    await link.ask(GetState())
    await link.ask(CloseStore())
    assert await process.wait() == 0
