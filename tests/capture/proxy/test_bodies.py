"""Bodies in transit, and their copies."""

from __future__ import annotations

import asyncio
import hashlib
import random
import resource

import pytest

from opentrail.capture.proxy.bodies import HIGH_WATER, Flow, Framing, StoredBody
from opentrail.capture.record.exchange import GONE
from opentrail.wire.message import MAX_BODY


def test_pieces_leave_in_order_before_the_end() -> None:
    async def run() -> list[bytes]:
        flow = Flow(lambda: None, lambda: None)
        flow.feed(b"a")
        flow.feed(b"b")
        first = await flow.next()
        asyncio.get_running_loop().call_soon(flow.feed, b"c")
        second = await flow.next()
        asyncio.get_running_loop().call_soon(flow.finish)
        return [first, second, await flow.next()]

    assert asyncio.run(run()) == [b"ab", b"c", b""]


def test_sender_pauses_at_high_water_and_resumes_after() -> None:
    said: list[str] = []
    flow = Flow(lambda: said.append("pause"), lambda: said.append("resume"))
    flow.feed(b"x" * HIGH_WATER)
    assert said == []
    flow.feed(b"x")
    flow.feed(b"x")
    assert said == ["pause"]
    assert len(flow.peek()) == HIGH_WATER + 2
    flow.take()
    assert said == ["pause", "resume"]
    assert flow.take() == b""


def test_data_before_a_break_is_delivered() -> None:
    async def run() -> None:
        flow = Flow(lambda: None, lambda: None)
        flow.feed(b"a")
        flow.fail(GONE)
        assert await flow.next() == b"a"
        with pytest.raises(ConnectionError, match="went away"):
            await flow.next()

    asyncio.run(run())


def test_a_finished_flow_cannot_break() -> None:
    flow = Flow(lambda: None, lambda: None)
    flow.finish()
    flow.fail(GONE)
    assert flow.broken is None


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 1024 * 1024 + 1, MAX_BODY])
def test_body_up_to_the_limit_is_kept_whole(size: int) -> None:
    content = random.Random(size).randbytes(size)
    kept = StoredBody()
    for start in range(0, size, 300_000):
        kept.add(content[start : start + 300_000])
        if start % 900_000 == 0:  # also in between, before more pieces
            assert kept.content() == content[: start + 300_000]
    assert kept.is_whole
    assert kept.content() == kept.content() == content
    assert kept.length == size
    assert kept.oversize is None


def test_a_larger_body_leaves_length_and_hash() -> None:
    content = b"z" * (MAX_BODY + 1)
    kept = StoredBody()
    for start in range(0, len(content), 1_000_000):
        kept.add(content[start : start + 1_000_000])
    assert not kept.is_whole
    assert kept.oversize == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert kept.content() == b""


@pytest.mark.parametrize("limit", [0, 1_500_000, 5_000_000])
def test_body_beyond_the_room_is_counted_and_hashed(limit: int) -> None:
    content = random.Random(1).randbytes(8 * 1024 * 1024)
    kept = StoredBody()
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, former[1]))
    try:
        for start in range(0, len(content), 300_000):
            kept.add(content[start : start + 300_000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert not kept.is_whole
    assert kept.oversize == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert kept.content() == b""


def test_a_dropped_body_is_only_counted() -> None:
    kept = StoredBody()
    kept.add(b"abc")
    kept.drop()
    kept.add(b"def")
    assert kept.length == 6
    assert kept.content() == b""
    assert not kept.is_whole


# The end of an answer


def test_an_answer_with_a_length_is_passed_unchanged() -> None:
    framing = Framing(keep_alive=True, chunked=False, unframed=False)
    assert (framing.piece(b"abc"), framing.end, framing.headers) == (b"abc", b"", [])
    assert framing.keep_alive


def test_a_chunked_answer_is_chunked_again() -> None:
    framing = Framing(keep_alive=True, chunked=True, unframed=False)
    assert framing.piece(b"abc") == b"3\r\nabc\r\n"
    assert framing.end == b"0\r\n\r\n"
    assert framing.headers == [(b"Transfer-Encoding", b"chunked")]


def test_an_answer_without_length_closes_our_connection() -> None:
    framing = Framing(keep_alive=True, chunked=False, unframed=True)
    assert framing.headers == [(b"Connection", b"close")]
    assert not framing.keep_alive


def test_held_answer_gets_length_and_keeps_connection() -> None:
    framing = Framing(keep_alive=True, chunked=False, unframed=True)
    framing.set_length(5)
    assert framing.headers == [(b"Content-Length", b"5")]
    assert framing.keep_alive


def test_bytes_in_temporary_files_are_counted() -> None:
    before = StoredBody.spilled_bytes
    read, dropped = StoredBody(), StoredBody()
    for body in (read, dropped):
        body.add(b"x" * 2_000_000)
        body.add(b"y" * 1_000_000)
    assert StoredBody.spilled_bytes - before == 6_000_000
    dropped.drop()
    dropped.drop()
    assert StoredBody.spilled_bytes - before == 3_000_000
    assert len(read.content()) == 3_000_000
    assert StoredBody.spilled_bytes == before


def test_body_in_a_temporary_file_is_encrypted() -> None:
    secret, bodies = b"a secret of the body", (StoredBody(), StoredBody())
    files = []
    for body in bodies:
        for _ in range(150_000):
            body.add(secret)
        assert body.file is not None
        body.file.seek(0)
        files.append(body.file.read())
        assert body.content() == secret * 150_000
    assert all(len(file) > 1_000_000 and secret not in file for file in files)
    assert files[0][:64] != files[1][:64]  # each body has its own key
