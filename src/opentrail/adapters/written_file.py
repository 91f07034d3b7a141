"""How far journal and control store were written, beside them: so that a lost end shows.

The file is overwritten after each commit and not synced: it survives a kill, and after a power cut
it is a little old, but never ahead of them.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path

from opentrail.adapters.files import write_durably

NAME = "written"
_LINE = re.compile(
    rb"([0-9a-f]{32}) position (\d{20}) chain ([0-9a-f]{64}|-{64}) marked (\d{20})"
    rb"(?: revision (\d{20}))? ([0-9a-f]{8})\n"  # no revision: of an older version
)
_NO_CHAIN = b"-" * 64


@dataclass(frozen=True, slots=True)
class Written:
    """What is known to have been written.

    Args:
        installation: the id of the data directory (`adapters/inventory.py`).
        position: the last position of the journal that was committed.
        chain: the chain at this position; b"" if it is not known.
        marked: the position that was last stored in the control store.
        revision: the last change of a control store in a file.
    """

    installation: str
    position: int = 0
    chain: bytes = b""
    marked: int = 0
    revision: int = 0

    def to_line(self) -> bytes:
        """Returns the content of the file; it always has the same length."""
        return _line(
            self.installation.encode(), self.position, self.chain, self.marked, self.revision
        )

    @classmethod
    def from_line(cls, line: bytes) -> Written | None:
        """Returns what a file says; None if it is damaged."""
        match = _LINE.fullmatch(line)
        if match is None or zlib.crc32(line[:-10]) != int(match[6], 16):
            return None
        chain = b"" if match[3].startswith(b"-") else bytes.fromhex(match[3].decode())
        return cls(match[1].decode(), int(match[2]), chain, int(match[4]), int(match[5] or 0))


def _line(installation: bytes, position: int, chain: bytes, marked: int, revision: int) -> bytes:
    # Each group of records waits for it, so it is made in one step.
    text = b"%b position %020d chain %b marked %020d revision %020d" % (
        installation,
        position,
        chain.hex().encode() if chain else _NO_CHAIN,
        marked,
        revision,
    )
    return b"%b %08x\n" % (text, zlib.crc32(text))


def read_written(root: Path) -> tuple[Written | None, str | None]:
    """Returns what the file of a data directory says, and what is wrong with the file.

    Both are None if there is no file, as in directories of older versions.
    """
    try:
        content = (root / NAME).read_bytes()
    except FileNotFoundError:
        return None, None
    except OSError as error:
        return None, f"file {NAME} cannot be read: {error.strerror}"
    written = Written.from_line(content)
    return written, None if written else f"file {NAME} is damaged"


class WrittenFile:
    """The file of an open data directory; any thread may use it.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, root: Path, written: Written) -> None:
        self._installation = written.installation.encode()
        self._position, self._chain = written.position, written.chain
        self._marked, self._revision = written.marked, written.revision
        self._lock = threading.Lock()
        path = root / NAME
        write_durably(path, written.to_line())  # at its final size, because disks fill up
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def committed(self, position: int, chain: bytes) -> None:
        """Notes that the journal is durable up to a position."""
        with self._lock:
            self._position, self._chain = position, chain
            self._keep()

    def marked(self, position: int) -> None:
        """Notes the position that was stored in the control store."""
        with self._lock:
            self._marked = position
            self._keep()

    def changed(self, revision: int) -> None:
        """Notes the last change of the control store."""
        with self._lock:
            self._revision = revision
            self._keep()

    def _keep(self) -> None:
        if self._descriptor >= 0:
            line = _line(
                self._installation, self._position, self._chain, self._marked, self._revision
            )
            with contextlib.suppress(OSError):  # the line that is there is only older
                os.pwrite(self._descriptor, line, 0)

    def close(self) -> None:
        """Closes the file; what is noted afterwards is not kept."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
