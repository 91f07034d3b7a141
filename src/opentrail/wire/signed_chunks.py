"""Verification of an upload in signed chunks (`aws-chunked`), piece by piece.

The form is AWS's "Signature calculations for the authorization header: transferring payload in
multiple chunks". Each signature covers the one before.
"""

from __future__ import annotations

import hashlib
import hmac
import re

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


class ChunkVerifier:
    """Verifies the chunks of an upload as they pass; no chunk is held in memory.

    A chunk is known to be genuine only once its last byte has come, and the upload only once
    `finish` returns: a proxy that passes pieces on must break off if one is refused.
    """

    def __init__(
        self,
        key: bytes,
        stamp: str,
        scope: str,
        seed: str,
        trailer_names: frozenset[str] | None = None,
        length: int | None = None,
    ) -> None:
        """Starts after the head of a request.

        Args:
            key: the derived signing key.
            stamp: the time of the request, as it is signed.
            scope: `date/region/service/aws4_request`.
            seed: the signature of the head.
            trailer_names: the names in `x-amz-trailer`; None if the upload has no signed trailer.
            length: bytes of the chunks' content, as `x-amz-decoded-content-length` states it.
        """
        self._key, self._stamp, self._scope, self._previous = key, stamp, scope, seed
        self._trailer_names = trailer_names
        self._stated_length = length
        self._waiting = bytearray()
        self._state = self._head
        self._left = 0
        self._digest = hashlib.sha256()
        self._signature = ""
        #: Bytes of the chunks' content so far.
        self.length = 0

    def feed(self, piece: bytes) -> None:
        """Verifies what another piece of the body completes.

        Raises:
            ChunksRefused: the body is not in signed chunks, or a signature is wrong.
        """
        self._waiting += piece
        while self._state():
            pass

    def finish(self) -> None:
        """Checks that the last chunk and the trailer have come.

        Raises:
            ChunksRefused: something is missing, or the length is not the stated one.
        """
        if self._state != self._end:
            raise ChunksRefused("the signed chunks end before their last one")
        if self._stated_length not in (None, self.length):
            raise ChunksRefused(
                f"the chunks have {self.length} bytes, not the {self._stated_length} of "
                "x-amz-decoded-content-length"
            )

    def _head(self) -> bool:
        line = self._line(_MAX_HEAD)
        if line is None:
            return False
        match = _HEAD.fullmatch(line)
        if match is None or int(match[1], 16) > MAX_CHUNK:
            raise ChunksRefused("the body is not in signed chunks of at most 16 MiB")
        self._left, self._signature = int(match[1], 16), match[2].decode()
        self._digest = hashlib.sha256()
        self.length += self._left
        if self._left:
            self._state = self._content
            return True
        self._check("PAYLOAD", _EMPTY, _EMPTY)
        self._state = self._trailer
        return True

    def _content(self) -> bool:
        if self._left:
            content = self._waiting[: self._left]
            del self._waiting[: self._left]
            self._digest.update(content)
            self._left -= len(content)
        if self._left or len(self._waiting) < 2:
            return False
        if self._waiting[:2] != b"\r\n":
            raise ChunksRefused("a chunk is longer than its size")
        del self._waiting[:2]
        self._check("PAYLOAD", _EMPTY, self._digest.hexdigest())
        self._state = self._head
        return True

    def _trailer(self) -> bool:
        if self._trailer_names is None:
            end = self._line(0)
        else:
            end = self._signed_trailer(self._trailer_names)
        if end is None:
            return False
        self._state = self._end
        return True

    def _signed_trailer(self, names: frozenset[str]) -> bytes | None:
        stop = self._waiting.find(b"\r\n\r\n")
        if stop < 0:
            if len(self._waiting) > _MAX_TRAILER:
                raise ChunksRefused(f"the trailer is longer than {_MAX_TRAILER} bytes")
            return None
        lines = bytes(self._waiting[:stop]).split(b"\r\n")
        del self._waiting[: stop + 4]
        fields = [match.groups() for match in map(_TRAILER.fullmatch, lines) if match]
        lower_names = [name.lower() for name, _ in fields]
        expected = sorted([name.encode() for name in names] + [_LAST])
        if len(fields) != len(lines) or sorted(lower_names) != expected or lower_names[-1] != _LAST:
            raise ChunksRefused("the trailer is not the one that x-amz-trailer announces")
        signed = b"".join(
            name.lower() + b":" + value.strip() + b"\n" for name, value in fields[:-1]
        )
        self._signature = fields[-1][1].strip().decode("latin-1")
        self._check("TRAILER", hashlib.sha256(signed).hexdigest())
        return b""

    def _end(self) -> bool:
        if self._waiting:
            raise ChunksRefused("the body goes on after its last chunk")
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

    def _check(self, kind: str, *hashes: str) -> None:
        """Compares the signature of a chunk or of the trailer."""
        parts = (f"AWS4-HMAC-SHA256-{kind}", self._stamp, self._scope, self._previous, *hashes)
        signature = hmac.digest(self._key, "\n".join(parts).encode(), "sha256").hex()
        if not hmac.compare_digest(signature.encode(), self._signature.encode()):
            raise ChunksRefused(f"the signature of a {kind.lower()} chunk does not match")
        self._previous = signature
