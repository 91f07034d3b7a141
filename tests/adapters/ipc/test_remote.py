"""Methods of a port that run behind a link."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any, Protocol

import pytest

from opentrail.adapters.ipc.link import IpcRequest, Link, LinkError, handlers_of, remote
from tests.fakes import asynchronous


class Clerk(Protocol):
    """A port."""

    async def add(self, numbers: Sequence[int], start: int = 0, *, note: str | None = None) -> str:
        """Return the sum as text."""
        ...

    async def wait(self) -> None:
        """Never returns."""
        ...


class LocalClerk:
    """Runs the work."""

    def __init__(self) -> None:
        self.began, self.was_cancelled = asyncio.Event(), asyncio.Event()

    async def add(self, numbers: Sequence[int], start: int = 0, *, note: str | None = None) -> str:
        if note == "bad":
            raise ValueError(note)
        return f"{sum(numbers, start)}{note or ''}"

    async def wait(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.was_cancelled.set()


class RemoteClerk:
    """Runs the work behind a link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    add = remote(Clerk.add, 1.0, is_cancellable=True)
    wait = remote(Clerk.wait, 2.0, resend=False, is_cancellable=True)

    async def _ask(self, request: IpcRequest[Any], seconds: float, resend: bool) -> Any:
        assert (seconds, resend) in ((1.0, True), (2.0, False))
        return await self._link.ask(request)


async def clerks() -> tuple[RemoteClerk, LocalClerk, Link]:
    ours, theirs = socket.socketpair()
    local = LocalClerk()
    handlers = handlers_of(local, (Clerk.add, Clerk.wait))
    await Link.over(theirs, handlers)
    link = await Link.over(ours, {})
    return RemoteClerk(link), local, link


@asynchronous
async def test_arguments_and_result_arrive_in_every_form() -> None:
    clerk, _, link = await clerks()
    assert await clerk.add([1, 2]) == "3"
    assert await clerk.add((1, 2), 4, note=" in all") == "7 in all"
    assert await clerk.add(start=5, numbers=[]) == "5"
    link.close()


@asynchronous
async def test_wrong_arguments_fail_here_and_remote_failures_arrive() -> None:
    clerk, _, link = await clerks()
    with pytest.raises(TypeError, match="numbers"):
        await clerk.add()  # type: ignore[call-arg]
    with pytest.raises(LinkError, match="ValueError: bad"):
        await clerk.add([1], note="bad")
    with pytest.raises(LinkError, match="Expected `int`, got `str`"):
        await clerk.add(["one"])  # type: ignore[list-item]
    link.close()


@asynchronous
async def test_cancelled_wait_cancels_the_work() -> None:
    clerk, local, link = await clerks()
    waiting = asyncio.ensure_future(clerk.wait())
    await local.began.wait()
    waiting.cancel()
    await local.was_cancelled.wait()
    link.close()
