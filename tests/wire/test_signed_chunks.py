"""Signed chunks are verified, or re-signed, piece by piece."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.wire.signature_errors import S3_WORDING
from opentrail.wire.signed_chunks import (
    MAX_CHUNK,
    ChunkSigner,
    ChunksRefused,
    ChunkVerifier,
    SignatureChain,
)
from opentrail.wire.verification import Place, verify
from tests.wire.signed_requests import SECRETS, Made, chunks_of, in_chunks
from tests.wire.sigv4_by_hand import chunked, signed


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
def test_signed_chunks_are_accepted_unchanged_only(seed: int, is_trailed: bool) -> None:
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
def test_an_upload_of_another_length_is_refused(is_trailed: bool) -> None:
    choose = random.Random(5)
    made = in_chunks(choose, is_trailed)
    for end in range(len(made.body)):
        with pytest.raises(ChunksRefused, match="end before their last one"):
            feed(made, made.body[:end], choose)
    with pytest.raises(ChunksRefused, match="continues after its last chunk"):
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
    with pytest.raises(ChunksRefused, match="signature of a chunk"):
        feed(made, swapped, random.Random(1))


def test_trailer_other_than_the_announced_one_is_refused() -> None:
    made = in_chunks(random.Random(3), True)
    for old, new in (
        (b"x-amz-checksum-crc32:", b"x-amz-checksum-crc64:"),
        (b"x-amz-checksum-crc32:AAAAAA==\r\n", b""),
        (b"x-amz-trailer-signature:", b"x-amz-more:1\r\nx-amz-trailer-signature:"),
    ):
        assert old in made.body
        with pytest.raises(ChunksRefused, match="x-amz-trailer announces"):
            feed(made, made.body.replace(old, new), random.Random(1))
    unsigned = made.body.replace(b"x-amz-trailer-signature:", b"x-amz-trailer-signatures:")
    with pytest.raises(ChunksRefused, match="does not end with its signature"):
        feed(made, unsigned, random.Random(1))


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
def test_unchunked_bodies_are_refused_immediately(body: bytes) -> None:
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


SCOPE, STAMP = "20200101/eu-west-1/s3/aws4_request", "20200101T000000Z"


def chunk_signer(has_trailer: bool = False) -> ChunkSigner:
    chain = SignatureChain(lambda text: signed("our-secret", SCOPE, text), STAMP, SCOPE, "seed")
    return ChunkSigner(chain, has_trailer)


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=5),
    st.booleans(),
    st.lists(st.integers(1, 400), min_size=1, max_size=8),
)
def test_signed_chunks_are_re_signed_in_any_pieces(
    pieces: list[bytes], trailer: bool, cuts: list[int]
) -> None:
    last = b"x-amz-checksum-crc32:AAAAAA==" if trailer else b""
    theirs = chunked(pieces, "their-secret", SCOPE, STAMP, "their-seed", last)
    signer, passed, start = chunk_signer(trailer), b"", 0
    while start < len(theirs):
        cut = cuts[start % len(cuts)]
        passed += signer.resign(theirs[start : start + cut])
        start += cut
    assert passed == chunked(pieces, "our-secret", SCOPE, STAMP, "seed", last)
    assert len(passed) == len(theirs), "its announced length must hold"
    signer.finish()


@pytest.mark.parametrize("cut", [1, 2, 50, 95])
def test_upload_without_its_last_chunk_is_not_whole(cut: int) -> None:
    whole = chunked([b"hello"], "their-secret", SCOPE, STAMP, "their-seed")
    signer = chunk_signer()
    signer.resign(whole[:-cut])
    with pytest.raises(ChunksRefused, match="end before their last one"):
        signer.finish()
    with pytest.raises(ChunksRefused, match="continues after its last chunk"):
        chunk_signer().resign(whole + b"more")


@pytest.mark.parametrize("has_trailer", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhello\r\n",
        b"zz;chunk-signature=" + b"0" * 64 + b"\r\n",
        b"%x;chunk-signature=%s\r\n" % (MAX_CHUNK + 1, b"0" * 64),
        b"3;chunk-signature=" + b"0" * 64 + b"\r\nhello\r\n",
        b"x" * 2000,
        b"0;chunk-signature=" + b"0" * 64 + b"\r\n" + b"x" * 20_000,
    ],
)
def test_unsigned_chunks_are_not_signed_again(body: bytes, has_trailer: bool) -> None:
    with pytest.raises(ChunksRefused):
        chunk_signer(has_trailer).resign(body)


def test_a_trailer_without_signature_is_not_re_signed() -> None:
    last = b"x-amz-checksum-crc32:AAAAAA=="
    body = chunked([b"hello"], "their-secret", SCOPE, STAMP, "their-seed", last)
    with pytest.raises(ChunksRefused, match="does not end with its signature"):
        chunk_signer(has_trailer=True).resign(body.replace(b"x-amz-trailer-signature", b"x-more"))
