"""A folder in place of S3, whose files a store reads through a cache."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from opentrail.adapters.data_directory.sealed_file_names import read_name
from opentrail.adapters.duckdb.block_cache import BlockCache
from opentrail.adapters.duckdb.file_index import write_index
from opentrail.core.errors import FilesUnreachable
from opentrail.ports.event_store import SharedFile
from tests.factories import MOMENT


class SharedFolder:
    """The files, and a cache of them; `is_away` makes reads fail.

    Reads also fail once `reads_left` are used up. `threads` has the names of the reading
    threads.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder / "s3"
        self.folder.mkdir()
        self.cached = folder / "history-cache"
        self.cached.mkdir()
        self.cache = BlockCache(self.cached, max_bytes, self.read)
        self.is_away = False
        self.reads = 0
        self.reads_left = 1_000_000
        self.threads: set[str] = set()

    def take(self, paths: Sequence[Path]) -> list[SharedFile]:
        """Moves sealed files of the journal there, with their indexes; returns them as listed."""
        files = []
        for path in paths:
            file = read_name(path)
            assert file is not None
            write_index(path).rename(self.cached / f"{path.stem}.index")
            path.rename(self.folder / path.name)
            files.append(SharedFile(file.first, file.last, path.name, MOMENT))
        return files

    def read(self, name: str, first: int, length: int) -> bytes:
        """Returns bytes of a file."""
        self.reads += 1
        self.threads.add(threading.current_thread().name)
        self.reads_left -= 1
        if self.is_away or self.reads_left < 0:
            raise FilesUnreachable("S3 is away")
        return (self.folder / name).read_bytes()[first : first + length]

    @property
    def cached_bytes(self) -> int:
        """The bytes of all blocks on the disk."""
        return sum(path.stat().st_size for path in self.cached.glob("*/*"))
