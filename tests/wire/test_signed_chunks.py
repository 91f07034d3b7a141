"""Signed chunks are verified piece by piece."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from opentrail.wire.signature_errors import S3_WORDING
from opentrail.wire.signed_chunks import ChunksRefused, ChunkVerifier
from opentrail.wire.verification import Place, verify
from tests.wire.signed_requests import SECRETS, Made, chunks_of, in_chunks


def verifier(made: Made) -> ChunkVerifier:
    caller = verify(made.request, SECRETS.get, datetime.now(UTC), Place(S3_WORDING))
    assert caller.chunks is not None
    return caller.chunks


def feed(made: Made, body: bytes, choose: random.Random) -> ChunkVerifier:
    """Feeds a body in pieces of any size."""
    chunks, place = verifier(made), 0
    while place < len(body):
        size = choose.choice((1, 2, 7, 90, 500))
        chunks.feed(body[place : place + size])
        place += size
    chunks.finish()
    return chunks


@pytest.mark.parametrize("is_trailed", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_signed_chunks_are_accepted_and_any_changed_byte_is_refused(
    seed: int, is_trailed: bool
) -> None:
    choose = random.Random(seed)
    made = in_chunks(choose, is_trailed)
    chunks = feed(made, made.body, choose)
    assert str(chunks.length) == made.header("x-amz-decoded-content-length")
    for _ in range(25):
        body = bytearray(made.body)
        place = choose.randrange(len(body))
        body[place] ^= choose.choice((1, 2, 4))
        if bytes(body[place : place + 1]).lower() == made.body[place : place + 1].lower():
            continue
        with pytest.raises(ChunksRefused):
            feed(made, bytes(body), choose)


@pytest.mark.parametrize("is_trailed", [False, True])
def test_an_upload_that_ends_early_or_late_is_refused(is_trailed: bool) -> None:
    choose = random.Random(5)
    made = in_chunks(choose, is_trailed)
    for end in range(len(made.body)):
        with pytest.raises(ChunksRefused, match="end before their last one"):
            feed(made, made.body[:end], choose)
    with pytest.raises(ChunksRefused, match="goes on after its last chunk"):
        feed(made, made.body + b"x", choose)


@pytest.mark.parametrize("length", ["10", "12", "-1", "eleven", "9" * 30])
def test_chunks_must_have_the_stated_length(length: str) -> None:
    made = chunks_of([b"first", b"second"], False, length)
    with pytest.raises(ChunksRefused, match="the chunks have 11 bytes, not the"):
        feed(made, made.body, random.Random(1))


def test_chunks_in_another_order_are_refused() -> None:
    made = chunks_of([b"first", b"second"], False)
    lines = made.body.split(b"\r\n")
    swapped = b"\r\n".join([*lines[2:4], *lines[:2], *lines[4:]])
    with pytest.raises(ChunksRefused, match="signature of a payload chunk"):
        feed(made, swapped, random.Random(1))


def test_a_trailer_other_than_the_announced_one_is_refused() -> None:
    made = in_chunks(random.Random(3), True)
    for old, new in (
        (b"x-amz-checksum-crc32:", b"x-amz-checksum-crc64:"),
        (b"x-amz-checksum-crc32:AAAAAA==\r\n", b""),
        (b"x-amz-trailer-signature:", b"x-amz-more:1\r\nx-amz-trailer-signature:"),
        (b"x-amz-trailer-signature:", b"x-amz-trailer-signatures:"),
    ):
        assert old in made.body
        with pytest.raises(ChunksRefused, match="x-amz-trailer announces"):
            feed(made, made.body.replace(old, new), random.Random(1))


@pytest.mark.parametrize(
    "body",
    [
        b"x" * 200,
        b"\r\n",
        b"-1;chunk-signature=" + b"0" * 64 + b"\r\n",
        b"ffffffff;chunk-signature=" + b"0" * 64 + b"\r\n",
        b"1;chunk-signature=" + b"0" * 64 + b"\r\nab\r\n",
    ],
)
def test_what_is_not_in_chunks_is_refused_at_once(body: bytes) -> None:
    with pytest.raises(ChunksRefused):
        verifier(in_chunks(random.Random(1), False)).feed(body)


def test_a_trailer_without_end_is_refused() -> None:
    made = in_chunks(random.Random(1), True)
    chunks = verifier(made)
    chunks.feed(made.body.partition(b"x-amz-checksum")[0])
    with pytest.raises(ChunksRefused, match="longer than 16384 bytes"):
        chunks.feed(b"x-amz-checksum-crc32:" + b"x" * 20_000)


def test_only_signed_chunks_have_a_verifier() -> None:
    made = in_chunks(random.Random(1), False)
    plain = replace(made, request=replace(made.request, body_sha256=None))
    assert verifier(plain).length == 0
