"""What is known of lost records, kept for the next start should this one end before it is told."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from opentrail.core.gaps import Gap

#: The file has its final size before the disk may be full.
_SIZE = 2048


class GapFile:
    """One process's file in a folder; it is there only as long as the process, or a gap.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}.json"
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._gap: Gap | None = None
        self.keep(None)
        os.fsync(self._descriptor)

    def keep(self, gap: Gap | None) -> None:
        """Replaces what the file tells; it outlives the process, and mostly a power cut."""
        self._gap = gap
        text = b"" if gap is None else gap.as_json()
        os.pwrite(self._descriptor, text[:_SIZE].ljust(_SIZE), 0)

    def close(self) -> None:
        """Lets the file go; without a gap it is removed."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        if self._gap is None:
            self._path.unlink(missing_ok=True)


def kept_gaps(folder: Path) -> Iterator[tuple[Path, Gap | None]]:
    """Yields the files of processes that have ended, with what each tells."""
    for path in sorted(folder.glob("*.json")):
        yield path, Gap.from_json(path.read_bytes())
