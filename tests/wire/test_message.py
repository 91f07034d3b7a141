"""Requests and answers as bytes and headers."""

import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.wire import message
from opentrail.wire.message import MAX_BODY, fold_headers, plain_body

GZIP = {"content-encoding": "gzip"}


# Headers


def test_header_names_are_lower_case() -> None:
    assert fold_headers([(b"X-Amz-Target", b"A.B"), (b"HOST", b"x")]) == {
        "x-amz-target": "A.B",
        "host": "x",
    }


def test_repeated_headers_are_joined_in_order() -> None:
    pairs = [(b"x-a", b"1"), (b"host", b"h"), (b"X-A", b"2"), (b"x-A", b"")]
    assert fold_headers(pairs) == {"x-a": "1,2,", "host": "h"}


def test_a_value_is_utf8_or_else_latin_1() -> None:
    pairs = [(b"x-utf8", "Grüße".encode()), (b"x-latin", "Grüße".encode("latin-1"))]
    assert fold_headers(pairs) == {"x-utf8": "Grüße", "x-latin": "Grüße"}


@pytest.mark.hypothesis
@settings(deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5)), max_size=6))
def test_any_bytes_are_headers(pairs: list[tuple[bytes, bytes]]) -> None:
    folded = fold_headers(pairs)
    assert set(folded) == {name.decode("latin-1").lower() for name, _ in pairs}


# Bodies


def test_an_unpacked_body_is_left_unchanged() -> None:
    assert plain_body({}, b"\x1f\x8b") == b"\x1f\x8b"
    assert plain_body({"content-encoding": "identity"}, b"x") == b"x"
    assert plain_body(GZIP, b"") == b""


@pytest.mark.hypothesis
@settings(deadline=None)
@given(st.binary(max_size=300))
def test_a_packed_body_is_unpacked(body: bytes) -> None:
    assert plain_body(GZIP, gzip.compress(body)) == body
    assert plain_body({"content-encoding": "aws-chunked, GZIP"}, gzip.compress(body)) == body


@pytest.mark.parametrize("body", [b"no gzip", b"\x1f\x8b", zlib.compress(b"x"), b"{}"])
def test_a_falsely_packed_body_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="gzip"):
        plain_body(GZIP, body)


@pytest.mark.parametrize("cut", [1, 8, 9, 30])
def test_a_cut_packed_body_is_refused(cut: int) -> None:
    """A part of the parameters must not be taken for all."""
    packed = gzip.compress(b"Action=DeleteUser&UserName=Mary&Version=2010-05-08" * 3)
    with pytest.raises(ValueError, match="gzip"):
        plain_body(GZIP, packed[:-cut])


def test_body_of_several_members_is_whole_or_refused() -> None:
    """RFC 1952 §2.2 allows several; an upstream reads all of them."""
    packed = gzip.compress(b"Action=GetUser&") + gzip.compress(b"UserName=Mary")
    try:
        plain = plain_body(GZIP, packed)
    except ValueError:
        return
    assert plain == b"Action=GetUser&UserName=Mary"


def test_a_body_of_very_many_members_is_refused() -> None:
    """Each costs a pass over the rest, and an honest client sends one."""
    with pytest.raises(ValueError, match="gzip"):
        plain_body(GZIP, gzip.compress(b"") * 10_000)


def test_a_bomb_is_refused_before_it_unpacks() -> None:
    bomb = gzip.compress(bytes(MAX_BODY + 1_000_000), compresslevel=9)
    assert len(bomb) < 20_000
    with pytest.raises(ValueError, match=str(MAX_BODY)):
        plain_body(GZIP, bomb)


def test_a_bomb_inside_a_bomb_stays_packed() -> None:
    inner = gzip.compress(bytes(100_000))
    assert plain_body(GZIP, gzip.compress(inner)) == inner


def test_a_body_of_exactly_the_limit_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message, "MAX_BODY", 1_000)
    assert plain_body(GZIP, gzip.compress(b"x" * 1_000)) == b"x" * 1_000
    with pytest.raises(ValueError, match="1000"):
        plain_body(GZIP, gzip.compress(b"x" * 1_001))
