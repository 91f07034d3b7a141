"""Content that unpacks, and content that does not."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.validation import content
from opentrail.validation.content import BadContent, hash_unpacked, unpack


def hashed(packed: bytes, limit: int = content.MAX_UNPACKED_BYTES) -> str:
    return hash_unpacked(io.BytesIO(packed), limit).sha256


@given(members=st.lists(st.binary(max_size=5000), min_size=1, max_size=4), level=st.integers(0, 9))
def test_all_members_count_as_one_content(members: list[bytes], level: int) -> None:
    packed = b"".join(gzip.compress(member, level) for member in members)
    whole = b"".join(members)
    found = hash_unpacked(io.BytesIO(packed))
    assert found.sha256 == hashlib.sha256(whole).hexdigest()
    assert (found.unpacked, found.packed) == (len(whole), len(packed))
    assert unpack(io.BytesIO(packed), 100_000) == whole


@given(raw=st.binary(max_size=2000), cut=st.integers(1, 40))
def test_a_truncated_file_is_invalid(raw: bytes, cut: int) -> None:
    packed = gzip.compress(raw)
    with pytest.raises(BadContent, match=r"truncated|empty"):
        hashed(packed[: max(0, len(packed) - cut)])


@given(raw=st.binary(max_size=300))
def test_any_file_unpacks_like_gzip_or_is_refused(raw: bytes) -> None:
    try:
        expected = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error):
        with pytest.raises(BadContent):
            hashed(raw)
    else:
        if raw:
            assert hashed(raw) == hashlib.sha256(expected).hexdigest()


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (b"", "empty"),
        (b"plain", "not a gzip file"),
        (gzip.compress(b"x") + b"y", "data after the end"),
        (gzip.compress(b"x") + b"\0" * 100, "data after the end"),
        (gzip.compress(b"x") + b"\x1f", "truncated"),
        (gzip.compress(b"x" * 1000)[:-5] + b"\0" * 5, "damaged gzip file|not a gzip file"),
    ],
    ids=["empty", "plain", "one more byte", "zeros behind", "half a head", "another checksum"],
)
def test_a_damaged_gzip_file_is_invalid(packed: bytes, reason: str) -> None:
    with pytest.raises(BadContent, match=reason):
        hashed(packed)


def test_compression_bombs_are_refused_early() -> None:
    bomb = gzip.compress(bytes(8 << 20))
    with pytest.raises(BadContent, match="200 times"):
        hashed(bomb)
    large = gzip.compress(bytes(range(256)) * 8192, 1)
    with pytest.raises(BadContent, match="more than 1 MiB"):
        hashed(large + bytes(0), limit=1 << 20)


def test_the_compressed_bytes_can_be_copied() -> None:
    copied: list[bytes] = []
    packed = gzip.compress(b"content")
    hash_unpacked(io.BytesIO(packed), keep=copied.append)
    assert b"".join(copied) == packed
