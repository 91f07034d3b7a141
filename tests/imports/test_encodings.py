"""Encodings of files other than UTF-8."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opentrail.imports.unpacking import to_utf8


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff")))
def test_every_encoding_gives_the_same_text(text: str) -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        assert to_utf8(text.encode(encoding)) == text.encode()
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        assert to_utf8(f"[{text}".encode(encoding)) == f"[{text}".encode()


def test_invalid_text_stays_in_its_place() -> None:
    good = '{"a":1}\n'
    for encoding, bad in (("utf-16-le", b"\x00\xdc"), ("utf-32-be", b"\x7f\x00\x00\x00")):
        content = good.encode(encoding) + bad + good.encode(encoding) + b"\n"
        first, rest = to_utf8(content).split(b"\n", 1)
        assert first + b"\n" == good.encode()
        assert good.strip().encode() in rest
        assert "�" in rest.decode("utf-8", "replace")
