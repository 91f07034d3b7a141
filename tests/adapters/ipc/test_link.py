"""Questions and answers between two ends of a socket pair."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from opentrail.adapters.ipc import link as module
from opentrail.adapters.ipc.link import FRAME_BYTES, Answering, Link, LinkError
from tests.fakes import asynchronous


async def echo(question: str, body: bytes) -> bytes:
    return question.encode() + b":" + body


@asynccontextmanager
async def linked(
    left: Answering = echo, right: Answering = echo
) -> AsyncIterator[tuple[Link, Link]]:
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    links = (await Link.over(ends[0], left), await Link.over(ends[1], right))
    try:
        yield links
    finally:
        for link in links:
            link.close()
        await asyncio.gather(*(link.gone for link in links))


@asynchronous
async def test_both_ends_may_ask_at_once() -> None:
    async with linked() as (left, right):
        asked = [left.ask("a", b"%d" % n) for n in range(50)]
        asked += [right.ask("b", b"%d" % n) for n in range(50)]
        answers = await asyncio.gather(*asked)
        expected = [b"a:%d" % n for n in range(50)] + [b"b:%d" % n for n in range(50)]
        assert answers == expected


@asynchronous
async def test_answers_may_come_in_another_order_than_the_questions() -> None:
    go_on = asyncio.Event()

    async def patient(question: str, body: bytes) -> bytes:
        if question == "slow":
            await go_on.wait()
        return body

    async with linked(right=patient) as (left, _):
        slow = asyncio.create_task(left.ask("slow", b"1"))
        assert await left.ask("fast", b"2") == b"2"
        assert not slow.done()
        go_on.set()
        assert await slow == b"1"


@pytest.mark.parametrize("size", [0, 1, 65_536, 5_000_000])
@asynchronous
async def test_bodies_of_every_size_and_content_pass(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"\n" * (size % 256)
    async with linked() as (left, _):
        assert await left.ask("q", body) == b"q:" + body


@asynchronous
async def test_an_answer_that_fails_is_told_to_the_asker_and_the_link_goes_on() -> None:
    async def failing(question: str, _body: bytes) -> bytes:
        if question == "bad":
            raise ValueError("no such thing")
        return b"good"

    async with linked(right=failing) as (left, _):
        with pytest.raises(LinkError, match="ValueError: no such thing"):
            await left.ask("bad")
        assert await left.ask("other") == b"good"


@pytest.mark.parametrize("withdraws", [False, True])
@asynchronous
async def test_a_question_that_is_withdrawn_is_worked_on_no_more(withdraws: bool) -> None:
    begun, ended, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    how: list[str] = []

    async def patient(question: str, body: bytes) -> bytes:
        if question == "slow":
            begun.set()
            try:
                await go_on.wait()
                how.append("answered")
            except asyncio.CancelledError:
                how.append("withdrawn")
                raise
            finally:
                ended.set()
        return body

    async with linked(right=patient) as (left, _):
        slow = asyncio.create_task(left.ask("slow", b"1", withdraws))
        await begun.wait()
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert await left.ask("fast", b"2") == b"2"
        go_on.set()
        await ended.wait()
        assert how == ["withdrawn" if withdraws else "answered"]
        assert await left.ask("fast", b"3") == b"3"


@asynchronous
async def test_who_waits_is_told_when_the_other_side_goes() -> None:
    asked = asyncio.Event()

    async def silent(_question: str, _body: bytes) -> bytes:
        asked.set()
        return await asyncio.get_running_loop().create_future()

    async with linked(right=silent) as (left, right):
        waiting = asyncio.create_task(left.ask("q"))
        await asked.wait()
        right.close()
        with pytest.raises(LinkError, match="gone"):
            await waiting
        with pytest.raises(LinkError, match="gone"):
            await left.ask("again")


@asynchronous
async def test_a_frame_that_claims_to_be_huge_ends_the_link() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    link = await Link.over(theirs, echo)
    with ours:
        ours.send((FRAME_BYTES + 1).to_bytes(4, "big") + bytes(5))
        await link.gone


@asynchronous
async def test_an_answer_that_is_too_long_is_told_and_the_link_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def longer(_question: str, body: bytes) -> bytes:
        return body * 100

    monkeypatch.setattr(module, "FRAME_BYTES", 1_000)
    async with linked(right=longer) as (left, _):
        with pytest.raises(LinkError, match="1100 bytes"):
            await left.ask("a", b"eleven byte")
        assert await left.ask("a", b"ten bytes!") == b"ten bytes!" * 100
