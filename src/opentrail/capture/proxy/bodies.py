"""Messages in transit: requests as received so far, bodies, and the framing of answers."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, ClassVar

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES256

from opentrail.capture.proxy.head import LAST_CHUNK, BadHead, Head, Headers, chunk
from opentrail.capture.record.exchange import Failure
from opentrail.wire.message import MAX_BODY

log = logging.getLogger(__name__)

#: Bytes; a sender is paused while more than this waits to be passed on.
HIGH_WATER = 256 * 1024
_SPILL_BYTES = 1024 * 1024
#: Bytes to search for the operation in a body too large to store.
_START_BYTES = 64 * 1024


class BrokenOffError(ConnectionError):
    """A body that broke off."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Flow:
    """Pieces of a body from a reader to a writer, in order."""

    _waiting = 0
    _paused = complete = False
    #: Whether a piece has arrived.
    begun = False
    _wake: asyncio.Future[None] | None = None
    broken: Failure | None = None

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pieces: list[bytes] = []
        self._pause, self._resume = pause, resume

    def feed(self, piece: bytes) -> None:
        """Adds a piece; pauses the sender at high water."""
        self.begun = True
        self._pieces.append(piece)
        self._waiting += len(piece)
        if self._waiting > HIGH_WATER and not self._paused:
            self._paused = True
            self._pause()
        if self._wake is not None:
            self._notify()

    def finish(self) -> None:
        self.complete = True
        if self._wake is not None:
            self._notify()

    def fail(self, reason: Failure) -> None:
        """Marks a body that broke off."""
        if not self.complete and self.broken is None:
            self.broken = reason
            self._notify()

    def break_off(self, reason: Failure) -> None:
        """Marks a received but unusable body."""
        if self.broken is None:
            self.broken = reason
            self._notify()

    def peek(self) -> bytes:
        """Returns all queued bytes, and leaves them in the queue."""
        return b"".join(self._pieces)

    def take(self) -> bytes:
        """Returns all queued bytes, without waiting."""
        if not self._pieces:
            return b""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._waiting = 0
        if self._paused:
            self._paused = False
            self._resume()
        return data

    async def next(self) -> bytes:
        """Returns the queued bytes, or b"" at the end.

        Raises:
            BrokenOffError: the sender went away before the end.
        """
        while not self._pieces:
            if self.complete:
                return b""
            if self.broken is not None:
                raise BrokenOffError(self.broken)
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self.take()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


class StoredBody:
    """A copy of a body for the record, up to 16 MiB; beyond that, only its length and hash.

    Bodies of more than 1 MiB are stored in a temporary file to save memory, encrypted because they
    may contain secrets (guarantee S4). Without room on the disk, only length and hash remain.
    """

    #: Where it is stored, None while it is in memory.
    file: IO[bytes] | None = None
    #: Encrypts the file, with a key that exists only in memory and for this body.
    _cipher: Cipher[modes.CTR]
    _encryptor: CipherContext
    #: Bytes of bodies in the files of this process.
    spilled_bytes: ClassVar[int] = 0
    _in_file = 0
    _hash: hashlib._Hash | None = None
    _limit: int | None = None
    _keep = True
    length = 0
    #: The start of a body that was too large to store.
    start = b""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Counts a piece, and stores it unless the body is dropped or too large."""
        self.length += len(piece)
        if not self._keep:
            return
        if self._limit is not None:
            room = self._limit - (self.length - len(piece))
            if room > 0:
                self._pieces.append(piece[:room])
            return
        if self._hash is not None:
            self._hash.update(piece)
            return
        self._pieces.append(piece)
        if self.length > MAX_BODY:
            self._stop_storing()
        elif self.length > _SPILL_BYTES:
            try:
                self._spill()
            except OSError as error:  # the call continues, as with a larger body
                log.warning("a body cannot be stored for its record", extra={"error": str(error)})
                self._stop_storing()

    def store_start(self, length: int) -> None:
        """Stores only the first `length` bytes."""
        self._limit = length

    def drop(self) -> None:
        """Stops storing: the record does not need this body."""
        self._keep = False
        self._pieces.clear()
        if self.file is not None:
            self._close()

    def _spill(self) -> None:
        """Moves the pieces to the file.

        Raises:
            OSError: there is no room for them; they stay.
        """
        if self.file is None:
            # Without a buffer, no error appears later, when the file is read.
            self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by `content`
            self._cipher = Cipher(AES256(os.urandom(32)), modes.CTR(bytes(16)))
            self._encryptor = self._cipher.encryptor()
        pieces = self._encryptor.update(b"".join(self._pieces))
        written = self.file.write(pieces)
        self._in_file += written
        StoredBody.spilled_bytes += written
        if written < len(pieces):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._pieces.clear()

    def _close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None
            StoredBody.spilled_bytes -= self._in_file

    def _stop_storing(self) -> None:
        content = self.content()
        self._hash, self.start = hashlib.sha256(content), content[:_START_BYTES]
        self._pieces.clear()

    def content(self) -> bytes:
        """Returns the stored body, and moves it to memory."""
        if self.file is not None:
            self.file.seek(0)
            content = self.file.read(self.length - sum(map(len, self._pieces)))
            self._pieces.insert(0, self._cipher.decryptor().update(content))
            self._close()
        content = b"".join(self._pieces)
        self._pieces = [content]
        return content

    @property
    def is_whole(self) -> bool:
        """Whether `content` is the whole body."""
        is_truncated = self._limit is not None and self.length > self._limit
        return self._keep and self._hash is None and not is_truncated

    @property
    def oversize(self) -> dict[str, object] | None:
        """Length and SHA-256 of a body that was too large to store."""
        if self._hash is None:
            return None
        return {"bytes": self.length, "sha256": self._hash.hexdigest()}


@dataclass(slots=True)
class Incoming:
    """A request as received so far; `bad` is the reason to refuse it."""

    head: Head
    body: Flow
    chunked: bool
    keep_alive: bool
    bad: BadHead | None = None
    #: Whether the client has received `100 Continue`.
    continued: bool = False

    @property
    def awaits_continue(self) -> bool:
        """Whether the client has sent nothing of its body because it waits for `100 Continue`."""
        if self.continued or self.body.begun or self.body.complete:
            return False
        return self.head.expects_continue


class Framing:
    """The way a client finds the end of an answer."""

    def __init__(self, keep_alive: bool, chunked: bool, unframed: bool) -> None:
        self.keep_alive = keep_alive and not unframed
        self.unframed = unframed
        self._may_keep_alive = keep_alive
        self.chunked = chunked
        self.headers: Headers = []
        self.end = LAST_CHUNK if chunked else b""
        if chunked:
            self.headers.append((b"Transfer-Encoding", b"chunked"))
        if not self.keep_alive:
            self.headers.append((b"Connection", b"close"))

    def piece(self, data: bytes) -> bytes:
        """Returns a piece of the body, framed for the client."""
        return chunk(data) if self.chunked else data

    def set_length(self, length: int) -> None:
        """Frames a complete answer that its upstream ended by closing the connection."""
        self.keep_alive = self._may_keep_alive
        self.headers = [(b"Content-Length", b"%d" % length)]
        if not self.keep_alive:
            self.headers.append((b"Connection", b"close"))
