"""Stores the number of lost records until it is recorded, also across a restart."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from opentrail.core.gaps import Gap

#: The file is created at its final size, because the disk may be full later.
_SIZE = 2048


class GapFile:
    """A file per process in a folder; it is removed when the process ends without a gap.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}.json"
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._gap: Gap | None = None
        self.keep(None)
        os.fsync(self._descriptor)

    def keep(self, gap: Gap | None) -> None:
        """Replaces the content. It survives a kill, and usually a power cut: it is not synced."""
        self._gap = gap
        text = b"" if gap is None else gap.as_json()
        os.pwrite(self._descriptor, text[:_SIZE].ljust(_SIZE), 0)

    def close(self) -> None:
        """Closes the file; removes it if there is no gap."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        if self._gap is None:
            self._path.unlink(missing_ok=True)


def kept_gaps(folder: Path) -> Iterator[tuple[Path, Gap | None]]:
    """Yields the files of processes that have ended, with their gaps."""
    for path in sorted(folder.glob("*.json")):
        yield path, Gap.from_json(path.read_bytes())
