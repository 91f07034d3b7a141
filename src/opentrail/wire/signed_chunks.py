"""Uploads in signed chunks (`aws-chunked`): verified, or re-signed, piece by piece.

The form is AWS's "Signature calculations for the authorization header: transferring payload in
multiple chunks". Each signature covers the one before.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

#: Values of `x-amz-content-sha256` of such uploads.
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_WITH_TRAILER = f"{SIGNED_CHUNKS}-TRAILER"
_EMPTY = hashlib.sha256(b"").hexdigest()
_HEAD = re.compile(rb"([0-9a-fA-F]{1,8});chunk-signature=([0-9a-f]{64})")
_TRAILER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\0]*)")
_LAST = b"x-amz-trailer-signature"
#: Maximum bytes of a chunk's head.
_MAX_HEAD = 128
#: Maximum bytes of the trailer.
_MAX_TRAILER = 16 * 1024
#: Maximum bytes of a chunk; SDKs send 64 KiB to 1 MiB.
MAX_CHUNK = 16 * 1024 * 1024


class ChunksRefused(Exception):  # noqa: N818 - it is an answer as much as an error
    """An upload whose chunks are not in form, or not signed by the signer of its head."""


@dataclass(slots=True)
class SignatureChain:
    """Signatures that each cover the previous one; the first is the request head's.

    `sign` returns the signature of a string in hexadecimal digits, `stamp` is the signed time of
    the request, `scope` is `date/region/service/aws4_request`.
    """

    sign: Callable[[str], str]
    stamp: str
    scope: str
    previous: str

    def next(self, kind: str, *hashes: str) -> str:
        """Returns the signature of a chunk or of the trailer."""
        parts = (f"AWS4-HMAC-SHA256-{kind}", self.stamp, self.scope, self.previous, *hashes)
        self.previous = self.sign("\n".join(parts))
        return self.previous


class SignedChunks(ABC):
    """Reads the chunks of an upload as they pass."""

    def __init__(self, chain: SignatureChain, has_trailer: bool) -> None:
        self._chain = chain
        self._has_trailer = has_trailer
        self._waiting = bytearray()
        self._state = self._head
        #: Bytes of the current chunk that are still missing.
        self._left = 0
        self._digest = hashlib.sha256()
        #: Size and signature of the current chunk, as its head has them.
        self._size = self._claimed = b""

    def feed(self, piece: bytes) -> None:
        """Reads the parts that another piece of the body completes.

        Raises:
            ChunksRefused: the body is not in signed chunks, or differs from the signed chunks.
        """
        self._waiting += piece
        while self._state():
            pass

    def finish(self) -> None:
        """Checks that the last chunk and the trailer have arrived.

        Raises:
            ChunksRefused: something is missing.
        """
        if self._state != self._end:
            raise ChunksRefused("the signed chunks end before their last one")

    @abstractmethod
    def _on_content(self, content: bytearray) -> None:
        """Receives a part of a chunk's content."""

    @abstractmethod
    def _on_chunk(self, signature: str) -> None:
        """Receives the signature of a whole chunk."""

    @abstractmethod
    def _on_end(self, fields: list[tuple[bytes, bytes]], signature: str) -> None:
        """Receives the trailer, if any, and its signature; the last field is the claimed one."""

    def _head(self) -> bool:
        line = self._line(_MAX_HEAD)
        if line is None:
            return False
        match = _HEAD.fullmatch(line)
        if match is None or int(match[1], 16) > MAX_CHUNK:
            raise ChunksRefused("the body is not in signed chunks of at most 16 MiB")
        self._size, self._claimed = match[1], match[2]
        self._left, self._digest = int(match[1], 16), hashlib.sha256()
        if self._left:
            self._state = self._content
        else:
            self._on_chunk(self._chain.next("PAYLOAD", _EMPTY, _EMPTY))
            self._state = self._trailer
        return True

    def _content(self) -> bool:
        if self._left:
            content = self._waiting[: self._left]
            del self._waiting[: self._left]
            self._digest.update(content)
            self._left -= len(content)
            self._on_content(content)
        if self._left or len(self._waiting) < 2:
            return False
        if self._waiting[:2] != b"\r\n":
            raise ChunksRefused("a chunk is longer than its size")
        del self._waiting[:2]
        self._on_chunk(self._chain.next("PAYLOAD", _EMPTY, self._digest.hexdigest()))
        self._state = self._head
        return True

    def _trailer(self) -> bool:
        if not self._has_trailer:
            if self._line(0) is None:
                return False
            self._on_end([], "")
        else:
            stop = self._waiting.find(b"\r\n\r\n")
            if stop < 0:
                if len(self._waiting) > _MAX_TRAILER:
                    raise ChunksRefused(f"the trailer is longer than {_MAX_TRAILER} bytes")
                return False
            lines = bytes(self._waiting[:stop]).split(b"\r\n")
            del self._waiting[: stop + 4]
            fields = [(match[1], match[2]) for match in map(_TRAILER.fullmatch, lines) if match]
            if len(fields) != len(lines) or fields[-1][0].lower() != _LAST:
                raise ChunksRefused("the trailer does not end with its signature")
            signed = b"".join(
                name.lower() + b":" + value.strip() + b"\n" for name, value in fields[:-1]
            )
            self._on_end(fields, self._chain.next("TRAILER", hashlib.sha256(signed).hexdigest()))
        self._state = self._end
        return True

    def _end(self) -> bool:
        if self._waiting:
            raise ChunksRefused("the body continues after its last chunk")
        return False

    def _line(self, limit: int) -> bytes | None:
        end = self._waiting.find(b"\r\n", 0, limit + 2)
        if end < 0:
            if len(self._waiting) >= limit + 2:
                raise ChunksRefused("the body is not in signed chunks")
            return None
        line = bytes(self._waiting[:end])
        del self._waiting[: end + 2]
        return line


class ChunkVerifier(SignedChunks):
    """Verifies the chunks of an upload as they pass; no chunk is held in memory.

    A chunk is known to be genuine only once its last byte has arrived, and the upload only once
    `finish` returns: a proxy that passes pieces on must break off if one is refused.
    """

    def __init__(
        self, chain: SignatureChain, trailer_names: frozenset[str] | None, length: int | None
    ) -> None:
        """Starts after the head of a request.

        Args:
            chain: the signatures by the key of the head's signer.
            trailer_names: the names in `x-amz-trailer`; None if the upload has no signed trailer.
            length: bytes of the chunks' content, as `x-amz-decoded-content-length` states it.
        """
        super().__init__(chain, trailer_names is not None)
        self._trailer_names = trailer_names or frozenset()
        self._stated_length = length
        #: Bytes of the chunks' content so far.
        self.length = 0

    def _on_content(self, content: bytearray) -> None:
        self.length += len(content)

    def _on_chunk(self, signature: str) -> None:
        self._compare("chunk", signature, self._claimed)

    def _on_end(self, fields: list[tuple[bytes, bytes]], signature: str) -> None:
        if self._has_trailer:
            expected = sorted(name.encode() for name in self._trailer_names)
            if sorted(name.lower() for name, _ in fields[:-1]) != expected:
                raise ChunksRefused(
                    "the trailer differs from the trailer that x-amz-trailer announces"
                )
            self._compare("trailer", signature, fields[-1][1].strip())
        if self._stated_length not in (None, self.length):
            raise ChunksRefused(
                f"the chunks have {self.length} bytes, not the {self._stated_length} of "
                "x-amz-decoded-content-length"
            )

    def _compare(self, part: str, signature: str, claimed: bytes) -> None:
        if not hmac.compare_digest(signature.encode(), claimed):
            raise ChunksRefused(f"the signature of a {part} does not match")


class ChunkSigner(SignedChunks):
    """Signs the chunks of an upload again as they pass; its length does not change."""

    def __init__(self, chain: SignatureChain, has_trailer: bool) -> None:
        super().__init__(chain, has_trailer)
        self._chunk = bytearray()
        self._output = bytearray()

    def resign(self, piece: bytes) -> bytes:
        """Returns the output available after another piece.

        Raises:
            ChunksRefused: the body is not in signed chunks.
        """
        self.feed(piece)
        output, self._output = self._output, bytearray()
        return bytes(output)

    def _on_content(self, content: bytearray) -> None:
        self._chunk += content

    def _on_chunk(self, signature: str) -> None:
        self._output += self._size + b";chunk-signature=" + signature.encode() + b"\r\n"
        if self._chunk:
            self._output += self._chunk
            self._output += b"\r\n"
            self._chunk.clear()

    def _on_end(self, fields: list[tuple[bytes, bytes]], signature: str) -> None:
        for name, value in fields[:-1]:
            self._output += name + b":" + value + b"\r\n"
        if fields:
            self._output += _LAST + b":" + signature.encode() + b"\r\n"
        self._output += b"\r\n"
