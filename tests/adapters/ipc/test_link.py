"""Requests and responses between two ends of a socket pair."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from opentrail.adapters.ipc import link as module
from opentrail.adapters.ipc.link import MAX_FRAME_BYTES, Handlers, IpcRequest, Link, LinkError
from opentrail.core.errors import StoreUnreachable
from opentrail.core.identity import Identity
from opentrail.settings import Settings
from tests.factories import MOMENT, an_identity
from tests.fakes import asynchronous


class Echo(IpcRequest[bytes], frozen=True):
    body: bytes = b""


class Slow(IpcRequest[bytes], frozen=True):
    pass


class SlowCancellable(Slow, IpcRequest[bytes], frozen=True):
    is_cancellable = True


class Bad(IpcRequest[None], frozen=True):
    pass


class Everything(msgspec.Struct, frozen=True):
    path: Path
    moment: datetime
    identity: Identity
    settings: Settings


class SendEverything(IpcRequest[Everything], frozen=True):
    everything: Everything


async def echo(request: Echo) -> bytes:
    return request.body


ECHO: Handlers = {Echo: echo}


@asynccontextmanager
async def linked(left: Handlers = ECHO, right: Handlers = ECHO) -> AsyncIterator[tuple[Link, Link]]:
    ends = socket.socketpair()
    links = (await Link.over(ends[0], left), await Link.over(ends[1], right))
    try:
        yield links
    finally:
        for link in links:
            link.close()
        await asyncio.gather(*(link.gone for link in links))


@asynchronous
async def test_both_ends_may_ask_concurrently() -> None:
    async with linked() as (left, right):
        asked = [left.ask(Echo(b"a%d" % n)) for n in range(50)]
        asked += [right.ask(Echo(b"b%d" % n)) for n in range(50)]
        answers = await asyncio.gather(*asked)
        assert answers == [b"a%d" % n for n in range(50)] + [b"b%d" % n for n in range(50)]


@asynchronous
async def test_responses_may_arrive_in_another_order() -> None:
    go_on = asyncio.Event()

    async def slow(_request: Slow) -> bytes:
        await go_on.wait()
        return b"slow"

    async with linked(right={Echo: echo, Slow: slow}) as (left, _):
        waiting = asyncio.create_task(left.ask(Slow()))
        assert await left.ask(Echo(b"2")) == b"2"
        assert not waiting.done()
        go_on.set()
        assert await waiting == b"slow"


@pytest.mark.parametrize("size", [0, 1, 65_536, 5_000_000])
@asynchronous
async def test_bodies_of_every_size_and_content_pass(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"\n" * (size % 256)
    async with linked() as (left, _):
        assert await left.ask(Echo(body)) == body


@asynchronous
async def test_values_keep_their_types() -> None:
    async def same(request: SendEverything) -> Everything:
        return request.everything

    sent = Everything(
        Path("/a/b"), MOMENT, an_identity(), Settings(data_dir=Path("x"), upstream={"": "http://h"})
    )
    async with linked(right={SendEverything: same}) as (left, _):
        assert await left.ask(SendEverything(sent)) == sent


@asynchronous
async def test_failed_request_is_reported_and_the_link_continues() -> None:
    async def bad(_request: Bad) -> None:
        raise ValueError("no such thing")

    async with linked(right={Bad: bad, Echo: echo}) as (left, right):
        with pytest.raises(LinkError, match="ValueError: no such thing"):
            await left.ask(Bad())
        with pytest.raises(LinkError, match="ValidationError"):
            await right.ask(Bad())  # it has no handler there
        assert await left.ask(Echo(b"good")) == b"good"


@pytest.mark.parametrize("request_", [Slow(), SlowCancellable()])
@asynchronous
async def test_a_cancelled_wait_cancels_its_request(request_: Slow) -> None:
    begun, ended, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    how: list[str] = []

    async def slow(_request: Slow) -> bytes:
        begun.set()
        try:
            await go_on.wait()
            how.append("finished")
        except asyncio.CancelledError:
            how.append("cancelled")
            raise
        finally:
            ended.set()
        return b""

    async with linked(right={Echo: echo, Slow: slow, SlowCancellable: slow}) as (left, _):
        waiting = asyncio.create_task(left.ask(request_))
        await begun.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await left.ask(Echo(b"2")) == b"2"
        go_on.set()
        await ended.wait()
        assert how == ["cancelled" if request_.is_cancellable else "finished"]
        assert await left.ask(Echo(b"3")) == b"3"


@asynchronous
async def test_a_wait_ends_with_the_other_process() -> None:
    asked = asyncio.Event()

    async def silent(_request: Slow) -> bytes:
        asked.set()
        await asyncio.Event().wait()
        return b""

    async with linked(right={Slow: silent}) as (left, right):
        waiting = asyncio.create_task(left.ask(Slow()))
        await asked.wait()
        right.close()
        with pytest.raises(LinkError, match="gone"):
            await waiting
        with pytest.raises(LinkError, match="gone"):
            await left.ask(Slow())


@asynchronous
async def test_an_error_with_invalid_unicode_gets_an_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, module.__name__)  # xdist cannot send the log message

    async def fail(_request: Echo) -> bytes:
        raise OSError("no file named \udcff")

    async with linked(right={Echo: fail}) as (left, _):
        with pytest.raises(LinkError, match="no file named"):
            await left.ask(Echo())


@asynchronous
@pytest.mark.parametrize(
    ("error", "lines"), [(StoreUnreachable("no answer"), 0), (KeyError("a bug"), 1)]
)
async def test_only_bugs_are_logged_where_a_request_fails(
    caplog: pytest.LogCaptureFixture, error: Exception, lines: int
) -> None:
    async def fail(_request: Echo) -> bytes:
        raise error

    async with linked(right={Echo: fail}) as (left, _):
        with pytest.raises(LinkError, match=type(error).__name__):
            await left.ask(Echo())
    assert len(caplog.records) == lines


@asynchronous
async def test_frame_of_a_huge_length_ends_the_link() -> None:
    ours, theirs = socket.socketpair()
    link = await Link.over(theirs, ECHO)
    with ours:
        ours.send((MAX_FRAME_BYTES + 1).to_bytes(4, "big") + bytes(5))
        await link.gone


@asynchronous
async def test_oversized_response_is_reported_and_the_link_continues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def longer(request: Echo) -> bytes:
        return request.body * 100

    monkeypatch.setattr(module, "MAX_FRAME_BYTES", 1_010)
    async with linked(right={Echo: longer}) as (left, _):
        with pytest.raises(LinkError, match="1103 bytes is too long"):
            await left.ask(Echo(b"eleven byte"))
        assert await left.ask(Echo(b"ten bytes!")) == b"ten bytes!" * 100
