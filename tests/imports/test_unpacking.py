"""Unpacking within bounds."""

import gzip
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.imports import unpacking
from opentrail.imports.json_records import InvalidText
from opentrail.imports.unpacking import DAMAGED_GZIP, TOO_DENSE, TOO_LARGE, unpack


def refused(content: bytes) -> InvalidText:
    with pytest.raises(InvalidText) as refusal:
        unpack(content)
    return refusal.value


@given(st.lists(st.binary(max_size=20_000), min_size=1, max_size=5))
def test_members_are_unpacked_one_after_the_other(parts: list[bytes]) -> None:
    assert unpack(b"".join(gzip.compress(part) for part in parts)) == b"".join(parts)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_any_size_is_unpacked(size: int) -> None:
    whole = bytes(range(256)) * (size // 256 + 1)
    pattern = zlib.compress(whole[:size], 0)  # stored, to stay below the maximum ratio
    assert unpack(gzip.compress(zlib.decompress(pattern), 0)) == whole[:size]


def test_padding_with_zeros_is_ignored() -> None:
    assert unpack(gzip.compress(b"abc") + b"\0" * 500) == b"abc"


def test_bytes_after_the_last_member_are_rejected() -> None:
    packed = gzip.compress(b"abc")
    refusal = refused(packed + b"\0\0{}")
    assert (refusal.reason, refusal.detail) == (
        DAMAGED_GZIP,
        f"something else from byte {len(packed)} on",
    )


def test_a_file_cut_anywhere_is_refused() -> None:
    packed = gzip.compress(b'{"Records":[]}') + gzip.compress(b"abc" * 100)
    whole = {len(gzip.compress(b'{"Records":[]}'))}
    for end in set(range(1, len(packed))) - whole:
        assert refused(packed[:end]).reason == DAMAGED_GZIP


def test_a_wrong_checksum_or_length_is_refused() -> None:
    packed = gzip.compress(b"abc" * 1000)
    for position in range(len(packed) - 8, len(packed)):
        damaged = bytearray(packed)
        damaged[position] ^= 1
        assert refused(bytes(damaged)).reason == DAMAGED_GZIP


def unpacked(content: bytes) -> bytes:
    whole = unpack(content)
    assert isinstance(whole, bytes)
    return whole


def test_the_first_mebibyte_may_have_any_density() -> None:
    assert len(unpacked(gzip.compress(bytes(1 << 20)))) == 1 << 20


@pytest.mark.slow
def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    started = time.process_time()
    assert refused(bomb).reason == TOO_DENSE
    assert time.process_time() - started < 1


def test_an_oversized_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_UNPACKED_BYTES", 2 << 20)
    packed = gzip.compress(b"0123456789abcdef" * (1 << 17), 0)
    assert len(unpacked(packed)) == 2 << 20
    assert refused(packed + gzip.compress(b"x")).reason == TOO_LARGE


def test_very_many_members_take_linear_time() -> None:
    packed = gzip.compress(b"{}\n") * 50_000
    started = time.process_time()
    assert len(unpacked(packed)) == 150_000
    assert time.process_time() - started < 5
