"""Converts files to UTF-8: what PowerShell and other tools write has a byte order mark."""

from __future__ import annotations

import codecs

#: Byte order marks with their encodings. That of UTF-16 is the start of that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF8, ""),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: Encodings without a mark by which of the first bytes are zero: JSON begins with ASCII.
_ZEROS = (
    ((True, True, True, False), "utf-32-be"),
    ((False, True, True, True), "utf-32-le"),
    ((True, False), "utf-16-be"),
    ((False, True), "utf-16-le"),
)


def to_utf8(content: bytes) -> bytes:
    r"""Returns the text of a file in UTF-8, without its byte order mark.

    What is not valid in its encoding becomes bytes that are not valid UTF-8, so that only the
    document that has them is rejected.

    >>> to_utf8(b"\xff\xfe{\0}\0"), to_utf8(b"\xef\xbb\xbf{}"), to_utf8(b"{}")
    (b'{}', b'{}', b'{}')
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            text = content[len(mark) :]
            return _converted(text, encoding) if encoding else text
    for zeros, encoding in _ZEROS:
        if tuple(byte == 0 for byte in content[: len(zeros)]) == zeros:
            return _converted(content, encoding)
    return content


def _converted(content: bytes, encoding: str) -> bytes:
    width = 4 if "32" in encoding else 2
    whole = len(content) - len(content) % width
    try:
        text = content[:whole].decode(encoding, "surrogatepass")
    except UnicodeDecodeError:  # a number beyond Unicode in UTF-32
        text = content[:whole].decode(encoding, "replace").replace("\ufffd", "\udcff")
    utf8 = text.encode("utf-8", "surrogatepass")
    return utf8 if whole == len(content) else utf8 + b"\xff"
