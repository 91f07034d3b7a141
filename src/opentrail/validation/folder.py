"""Copies of buckets in folders; nothing outside of them is opened (guarantee N6)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import orjson

from opentrail.core.errors import ObjectMissing, ObjectStoreError, UsageError
from opentrail.validation.inventory import Opened, Root
from opentrail.validation.names import ROOT

#: Signatures of digests in a copy, which has no metadata: one JSON object per line.
SIGNATURES = "signatures.ndjson"
_MAX_SIDE_FILE_BYTES = 1 << 30


class FolderRoot(Root):
    """A part of a folder that contains `AWSLogs/` or is inside it.

    Args:
        base: the folder that the user named.
        inner: path from `base` to the parent of `AWSLogs/`, with a trailing slash, or "".
        outer: the part of the key from `AWSLogs/` to `base`, or "".
    """

    is_live = False

    def __init__(self, base: Path, inner: str, outer: str) -> None:
        super().__init__()
        self._base = base
        self._inner = inner
        self._outer = outer

    def covers(self, tail: str) -> bool:
        """Returns whether a file of this tail would be in the folder."""
        return tail.startswith(self._outer)

    def address(self, tail: str) -> str:
        """Returns the path of a file."""
        return str(self._base / self._path(tail))

    def open(self, tail: str) -> Opened:
        """Returns a file, without a signature: a copy has no metadata.

        Raises:
            ObjectMissing, ObjectStoreError: the file does not exist or cannot be read.
        """
        try:
            descriptor = _open_beneath(self._base, self._path(tail).split("/"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ObjectMissing("NoSuchKey", self.address(tail)) from error
        except OSError as error:
            raise ObjectStoreError(
                type(error).__name__, f"{self.address(tail)}: {error}"
            ) from error
        return Opened(os.fdopen(descriptor, "rb"), None, None)

    def _path(self, tail: str) -> str:
        return f"{self._inner}{tail[len(self._outer) :]}"


def _open_beneath(base: Path, parts: list[str]) -> int:
    """Opens a file without following symbolic links; returns its descriptor."""
    at = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        file = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(f"{parts[-1]} is not a regular file")
    return file


class Folder:
    """A folder that the user named, with the signature file in it.

    Raises:
        UsageError: the folder does not exist or cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._base = Path(path)
        self._roots: dict[str, FolderRoot] = {}
        self.links: list[str] = []
        if not self._base.is_dir():
            raise UsageError(f"there is no folder {path}")
        beside = self._base / SIGNATURES
        has_signatures = beside.is_file() and not beside.is_symlink()
        #: Signatures of digests, by bucket and key.
        self.signatures = read_signatures(beside) if has_signatures else {}

    def files(self) -> Iterator[tuple[Root, str, int]]:
        """Yields root, tail and size of each file of a trail.

        Raises:
            ObjectStoreError: a part of the folder cannot be read.
        """
        parts = self._base.absolute().parts
        outer = "/".join(parts[parts.index("AWSLogs") :]) + "/" if "AWSLogs" in parts else ""
        waiting = [""]
        while waiting:
            inner = waiting.pop()
            try:
                with os.scandir(self._base / inner) as entries:
                    ordered = sorted(entries, key=lambda entry: entry.name)
                for entry in ordered:
                    path = f"{inner}{entry.name}"
                    if entry.is_symlink():
                        self.links.append(str(self._base / path))
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{path}/")
                    elif entry.is_file(follow_symlinks=False):
                        yield from self._placed(path, outer, entry.stat().st_size)
            except OSError as error:
                raise ObjectStoreError(type(error).__name__, str(error)) from error

    def _placed(self, path: str, outer: str, size: int) -> Iterator[tuple[Root, str, int]]:
        """Yields a file if it is below an `AWSLogs/`."""
        path = os.fsencode(path).decode("utf-8", "backslashreplace")
        if outer:
            yield self._root("", outer), f"{outer}{path}", size
            return
        at = 0 if path.startswith(ROOT) else path.find(f"/{ROOT}") + 1
        if at or path.startswith(ROOT):
            yield self._root(path[:at], ""), path[at:], size

    def _root(self, inner: str, outer: str) -> FolderRoot:
        if inner not in self._roots:
            self._roots[inner] = FolderRoot(self._base, inner, outer)
        return self._roots[inner]


def read_signatures(file: Path) -> dict[tuple[str, str], str]:
    """Reads a file of signatures, by bucket and key of the digest.

    Raises:
        UsageError: the file cannot be read, or a line has another form.
    """
    signatures = {}
    try:
        if file.stat().st_size > _MAX_SIDE_FILE_BYTES:
            raise UsageError(f"{file} is longer than 1 GiB")
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    entry = orjson.loads(line)
                    place = (str(entry["bucket"]), str(entry["key"]))
                    signatures[place] = str(entry["signature"])
                except (orjson.JSONDecodeError, TypeError, KeyError) as error:
                    raise UsageError(
                        f"{file}:{number} is not a JSON object with bucket, key and signature"
                    ) from error
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    return signatures
