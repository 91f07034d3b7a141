"""Stores the number of lost records until it is recorded, also across a restart."""

from __future__ import annotations

import os
import secrets
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from opentrail.adapters.system import sync
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
        temporary = self._path.with_suffix(".tmp")
        self._descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._gap: Gap | None = None
        self.keep(None)
        sync(self._descriptor)
        temporary.rename(self._path)  # so that a file with this name is never shorter

    def keep(self, gap: Gap | None) -> None:
        """Replaces the content. It survives a kill, and usually a power cut: it is not synced."""
        self._gap = gap
        text = b""
        if gap is not None:
            described = gap.as_json()
            text = b"%08x %s" % (zlib.crc32(described), described)
        os.pwrite(self._descriptor, text[:_SIZE].ljust(_SIZE), 0)

    def close(self) -> None:
        """Closes the file; removes it if there is no gap."""
        sync(self._descriptor)
        os.close(self._descriptor)
        if self._gap is None:
            self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class DamagedGap:
    """A file of a gap is not what was written: how many records were lost is unknown."""

    problem: str


def kept_gaps(folder: Path) -> Iterator[tuple[Path, Gap | DamagedGap | None]]:
    """Yields the files of processes that have ended, with their gaps."""
    for path in sorted(folder.glob("*.json")):
        yield path, _gap_in(path)


def _gap_in(path: Path) -> Gap | DamagedGap | None:
    content = path.read_bytes()
    text = content.rstrip(b" ")
    if not text and len(content) == _SIZE:
        return None
    gap = Gap.from_json(text)  # of an earlier version
    if gap is None and len(content) == _SIZE and b"%08x" % zlib.crc32(text[9:]) == text[:8]:
        gap = Gap.from_json(text[9:])
    return gap or DamagedGap(f"file lost/{path.name} is damaged: it counted records that were lost")
