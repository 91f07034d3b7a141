"""Blocks of sealed files in S3, cached on disk up to a number of bytes.

DuckDB reads a block at a time, and needs a few of each file. Each read compares the block with its
SHA-256 in the file's index; a damaged or incomplete block is downloaded again.
"""

from __future__ import annotations

import hashlib
import io
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from fsspec import AbstractFileSystem

from opentrail.adapters.data_directory.sealed_file_names import (
    SCHEME,
    cached_path,
    index_path,
    remove,
)
from opentrail.adapters.duckdb.file_index import FileIndex
from opentrail.core.errors import FilesUnreachable, StorageFailed

log = logging.getLogger(__name__)

#: Returns bytes of a file in S3, given its name, the first byte and their number; blocks.
Download = Callable[[str, int, int], bytes]
#: File and number of a block.
_Key = tuple[str, int]


class Blocks:
    """Files in S3 as blocks, whose hashes are in the files' indexes.

    Args:
        folder: the indexes, and the blocks in a folder for each file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._indexes: dict[str, FileIndex] = {}

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Lets DuckDB open the added files."""
        connection.register_filesystem(SharedFileSystem(self))

    def add(self, name: str) -> FileIndex:
        """Adds a file, so that DuckDB may open it, and returns its index from the folder.

        Raises:
            StorageFailed: the file has a different format.
        """
        index = FileIndex(index_path(self._folder, name))
        self._indexes[name] = index
        return index

    def index_of(self, name: str) -> FileIndex:
        """Returns the index of an added file."""
        return self._indexes[name]

    def read(self, name: str, start: int, length: int) -> bytes:
        """Returns bytes of a file.

        Raises:
            FilesUnreachable: a block is not cached and cannot be downloaded.
            StorageFailed: the download is damaged.
        """
        index = self.index_of(name)
        end = min(start + length, index.size)
        first = start // index.block_bytes
        blocks = range(first, -(-end // index.block_bytes))
        try:
            content = b"".join(self._block(name, number) for number in blocks)
        except StorageFailed as error:
            self._note(error)
            raise
        begin = first * index.block_bytes
        return content[start - begin : end - begin]

    def _note(self, error: StorageFailed) -> None:
        """Notes why a read failed: DuckDB reports a different error, with a traceback in it."""
        raise NotImplementedError

    def _block(self, name: str, number: int) -> bytes:
        raise NotImplementedError

    def _on_disk(self, key: _Key) -> bytes | None:
        """Returns a block of the folder; None if it is missing or damaged."""
        name, number = key
        with suppress(OSError):  # another thread or process has deleted it
            content = self._path(key).read_bytes()
            if hashlib.sha256(content).digest() == self.index_of(name).blocks[number]:
                return content
        return None

    def _path(self, key: _Key) -> Path:
        name, number = key
        return cached_path(self._folder, name) / str(number)


#: Attempts to read a block that is fetched, and perhaps deleted again to make room for others.
_ATTEMPTS = 5


class FetchedBlocks(Blocks):
    """Blocks in the folder of a cache that another process manages.

    Args:
        folder: the folder.
        fetch: makes the other process download a block; raises `FilesUnreachable`.
    """

    def __init__(self, folder: Path, fetch: Callable[[str, int], None]) -> None:
        super().__init__(folder)
        self._fetch = fetch
        #: Held while a block is fetched and read: DuckDB reads in several threads.
        self._fetching = threading.Lock()
        #: Why a read failed.
        self.failed: StorageFailed | None = None

    def _note(self, error: StorageFailed) -> None:
        self.failed = error

    def _block(self, name: str, number: int) -> bytes:
        if (content := self._on_disk((name, number))) is not None:
            return content
        with self._fetching:
            for _ in range(_ATTEMPTS):
                self._fetch(name, number)
                if (content := self._on_disk((name, number))) is not None:
                    return content
        raise FilesUnreachable(f"block {number} of {name} cannot be kept: the cache is too small")


class BlockCache(Blocks):
    """Blocks up to a number of bytes; for use in threads.

    Args:
        folder: the indexes, and the blocks in a folder for each file.
        max_bytes: bytes of all blocks; the least recently used ones are deleted first.
        download: called for missing blocks.
    """

    def __init__(self, folder: Path, max_bytes: int, download: Download) -> None:
        super().__init__(folder)
        self._max_bytes = max_bytes
        self._download = download
        self._lock = threading.Lock()
        #: The size of each block on disk, in order of use; under the lock, like `bytes`.
        self._sizes: OrderedDict[_Key, int] = OrderedDict()
        self.bytes = 0
        self._threads = threading.local()

    def failure(self) -> StorageFailed | None:
        """Returns why reading a file failed in this thread; None if it succeeded.

        DuckDB reports a different error, with a traceback in its message.
        """
        error: StorageFailed | None = getattr(self._threads, "failure", None)
        self._threads.failure = None
        return error

    def _note(self, error: StorageFailed) -> None:
        self._threads.failure = error

    def open(self, names: Iterable[str]) -> None:
        """Finds the blocks of files with these names, and deletes everything else."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        folders = {cached_path(self._folder, name).name: name for name in names}
        kept = {*folders, *(index_path(self._folder, name).name for name in folders.values())}
        remove(path for path in self._folder.iterdir() if path.name not in kept)
        found = []
        for path in self._folder.glob("*/*"):
            if path.name.isdecimal():
                stat = path.stat()
                key = (folders[path.parent.name], int(path.name))
                found.append((stat.st_mtime, key, stat.st_size))
            else:
                path.unlink()  # was being written
        for _, key, size in sorted(found):
            self._reserve(key, size)

    def remove(self, name: str) -> None:
        """Removes a file and its blocks."""
        self._indexes.pop(name, None)
        with self._lock:
            for key in [key for key in self._sizes if key[0] == name]:
                self._delete(key)
        with suppress(OSError):
            cached_path(self._folder, name).rmdir()
        index_path(self._folder, name).unlink(missing_ok=True)

    def keep(self, folder: str, names: Collection[str]) -> None:
        """Removes files whose names begin with `folder`, except these."""
        with self._lock:
            known = {name for name, _ in self._sizes} | self._indexes.keys()
        for name in known.difference(names):
            if name.startswith(folder):
                self.remove(name)

    def fetch(self, name: str, number: int) -> None:
        """Returns once a block is on the disk.

        Raises:
            FilesUnreachable: it cannot be downloaded.
            StorageFailed: the download is damaged, or the index of the file is missing.
        """
        if name not in self._indexes:
            self.add(name)
        self._block(name, number)

    def _block(self, name: str, number: int) -> bytes:
        index, key = self.index_of(name), (name, number)
        with self._lock:
            is_there = key in self._sizes
            if is_there:
                self._sizes.move_to_end(key)
        if is_there and (kept := self._on_disk(key)) is not None:
            return kept
        start = number * index.block_bytes
        content = self._download(name, start, min(index.block_bytes, index.size - start))
        if hashlib.sha256(content).digest() != index.blocks[number]:
            raise FilesUnreachable(f"block {number} of the history file {name} in S3 is damaged")
        self._store(key, content)
        return content

    def _store(self, key: _Key, content: bytes) -> None:
        """Writes a block; a full disk only slows lookups down."""
        path = self._path(key)
        temporary = path.with_name(f"{path.name}.{threading.get_ident()}.tmp")
        self._reserve(key, len(content))
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            temporary.write_bytes(content)
            with self._lock:
                if key in self._sizes and key[0] in self._indexes:
                    temporary.replace(path)
                else:  # another thread has made room or removed the file
                    temporary.unlink()
                    self._delete(key)
        except OSError as error:
            log.warning("a block of a history file cannot be stored", extra={"error": str(error)})
            with self._lock, suppress(OSError):
                self._delete(key)
            with suppress(OSError):
                temporary.unlink()

    def _reserve(self, key: _Key, size: int) -> None:
        """Counts a block, and deletes the least recently used ones to make room for it."""
        with self._lock:
            self.bytes -= self._sizes.pop(key, 0)
            while self._sizes and self.bytes + size > self._max_bytes:
                self._delete(next(iter(self._sizes)))
            self._sizes[key] = size
            self.bytes += size

    def _delete(self, key: _Key) -> None:
        if key in self._sizes:
            self.bytes -= self._sizes.pop(key)
            self._path(key).unlink(missing_ok=True)


class SharedFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Opens the files of a cache for DuckDB."""

    protocol = SCHEME
    cachable = False

    def __init__(self, cache: Blocks) -> None:
        super().__init__()
        self._cache = cache

    def isfile(self, path: str) -> bool:
        """Returns whether there is a file; DuckDB also looks for a write-ahead log."""
        try:
            self._cache.index_of(self._strip_protocol(path))
        except KeyError:
            return False
        return True

    def info(self, path: str, **_options: Any) -> dict[str, Any]:
        """Returns name and size of a file."""
        name = self._strip_protocol(path)
        return {"name": name, "size": self._cache.index_of(name).size, "type": "file"}

    def glob(self, path: str, **_options: Any) -> list[str]:
        """Returns the file with this name: names have no patterns."""
        return [path]

    def modified(self, _path: str) -> datetime:
        """Returns the same time for each file: files never change."""
        return datetime(1970, 1, 1, tzinfo=UTC)

    def _open(self, path: str, mode: str = "rb", **_options: Any) -> _SharedFile:
        return _SharedFile(self._cache, self._strip_protocol(path))


class _SharedFile(io.RawIOBase):
    """A file as DuckDB reads it, in concurrent threads with separate positions."""

    def __init__(self, cache: Blocks, name: str) -> None:
        super().__init__()
        self._cache = cache
        self._name = name
        self._threads = threading.local()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        size = self._cache.index_of(self._name).size
        self._threads.position = offset + (0, self._position, size)[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        content = self._cache.read(self._name, self._position, size)
        self._threads.position = self._position + len(content)
        return content

    @property
    def _position(self) -> int:
        return getattr(self._threads, "position", 0)
