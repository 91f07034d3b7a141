"""Unpacks files: gzip of any number of members, within limits (guarantee N5), and any encoding."""

from __future__ import annotations

import codecs
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from opentrail.imports.json_records import InvalidText

NOT_GZIP = "not a gzip file"
DAMAGED_GZIP = "damaged gzip file"
TOO_MANY_PACKINGS = "gzip in gzip in gzip in gzip"
TOO_LARGE = "larger than 512 MiB unpacked"
TOO_DENSE = "unpacks to more than 200 times its size"
#: Maximum bytes, unpacked, of a file.
MAX_UNPACKED_BYTES = 512 << 20
#: Maximum bytes, unpacked, of a file that is read as a whole.
MAX_BYTES_IN_MEMORY = 64 << 20
#: Bytes of a large file that are known at its end, and at its start after the first line.
_END = 4 << 10
#: Where one log file ends and the next begins.
_JOINT = re.compile(rb"\][ \t\r\n]*\}[ \t\r\n]*\{")
_JOINT_BYTES = 64
_MAGIC = b"\x1f\x8b"
#: Maximum ratio of unpacked to packed bytes.
_MAX_RATIO = 200
#: Unpacked bytes at the start that are exempt from it.
_EXEMPT_BYTES = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS
#: Packed bytes read first; growing steps keep many small members cheap.
_FIRST_STEP = 4 << 10
#: Maximum packed bytes of a step.
_MAX_STEP = 64 << 10
#: Maximum unpacked bytes of a part.
_PART = 1 << 20


def is_gzip(content: bytes) -> bool:
    r"""Returns whether content begins like a gzip file.

    >>> is_gzip(b"\x1f\x8b\x08")
    True
    """
    return content.startswith(_MAGIC)


def unpacked_size(content: bytes) -> int:
    """Returns the bytes of a file once unpacked; a gzip file of several members may be larger.

    The last four bytes of a member of gzip are its size (RFC 1952, section 2.3.1).
    """
    return int.from_bytes(content[-4:], "little") if is_gzip(content) else len(content)


@dataclass(frozen=True, slots=True)
class Large:
    """The first line and more, and the end, of a valid file that is too large for memory."""

    head: bytes
    tail: bytes
    #: Whether it may be several log files that follow each other.
    has_joint: bool = False


def unpack(content: bytes, file_size: int = 0) -> bytes | Large:
    """Returns the content of a gzip file after checking the checksums of all members.

    Args:
        content: the gzip file.
        file_size: bytes of the outer file that holds it, if any.

    Raises:
        InvalidText: the file is damaged or too large.
    """
    start, size = io.BytesIO(), 0
    head = tail = b""
    has_joint = False
    for part in parts_of(content, file_size):
        has_joint = has_joint or bool(head and _JOINT.search(tail[-_JOINT_BYTES:] + part))
        tail = part if len(part) >= _END else tail[-_END:] + part
        size += len(part)
        if not head:
            start.write(part)
            if size > MAX_BYTES_IN_MEMORY:
                text = start.getvalue()
                head = text[: text.find(b"\n") + _END]
                has_joint = bool(_JOINT.search(text))
                start = io.BytesIO()
                del text
    return Large(head, tail, has_joint) if head else start.getvalue()


def unpack_large(content: bytes) -> bytes:
    """Returns the content of a large gzip file; `bytes.join` would need twice the memory."""
    buffer = io.BytesIO()
    for part in parts_of(content):
        buffer.write(part)
    return buffer.getvalue()


def parts_of(content: bytes, file_size: int = 0) -> Iterator[bytes]:
    """Yields the content of a gzip file in parts; the checksums are valid only after the last one.

    Raises:
        InvalidText: the file is damaged or too large.
    """
    bound = min(MAX_UNPACKED_BYTES, max(_EXEMPT_BYTES, _MAX_RATIO * (file_size or len(content))))
    view = memoryview(content)
    size = position = 0
    while position < len(content):
        if not content.startswith(_MAGIC, position):
            if content.count(0, position) == len(content) - position:
                break  # zero padding, as in tape archives
            raise InvalidText(DAMAGED_GZIP, f"something else from byte {position} on")
        member = _Member(view, position)
        for part in member.parts():
            size += len(part)
            if size > bound:
                raise InvalidText(TOO_LARGE if bound == MAX_UNPACKED_BYTES else TOO_DENSE)
            yield part
        position = member.position


class _Member:
    """One member of a gzip file; `position` is its end once all parts are read."""

    def __init__(self, view: memoryview, position: int) -> None:
        self._view = view
        self.position = position

    def parts(self) -> Iterator[bytes]:
        inflate = zlib.decompressobj(_GZIP)
        step = _FIRST_STEP
        waiting: bytes | memoryview = b""
        while not inflate.eof:
            if not waiting:
                if self.position == len(self._view):
                    raise InvalidText(DAMAGED_GZIP, f"it ends early, at byte {self.position}")
                waiting = self._view[self.position : self.position + step]
                self.position += len(waiting)
                step = min(_MAX_STEP, step * 4)
            try:
                part = inflate.decompress(waiting, _PART)
            except zlib.error as error:
                raise InvalidText(DAMAGED_GZIP, f"{error}, before byte {self.position}") from error
            waiting = inflate.unconsumed_tail
            if part:
                yield part
        self.position -= len(inflate.unused_data)


#: Byte order marks with their encodings. UTF-16's mark is the start of UTF-32's.
_MARKS = (
    (codecs.BOM_UTF8, ""),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: Encodings without a mark, by the zero bytes at the start: JSON begins with ASCII.
_ZEROS = (
    ((True, True, True, False), "utf-32-be"),
    ((False, True, True, True), "utf-32-le"),
    ((True, False), "utf-16-be"),
    ((False, True), "utf-16-le"),
)


def to_utf8(content: bytes) -> bytes:
    r"""Returns the text of a file in UTF-8, without its byte order mark.

    Bytes invalid in the text's encoding become bytes that are not valid UTF-8, so that only the
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
