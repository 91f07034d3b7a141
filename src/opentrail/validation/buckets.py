"""Buckets to verify: read with the user's credentials, or from copies in folders (guarantee N6)."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import orjson

from opentrail.core.errors import ObjectMissing, ObjectStoreError, UsageError
from opentrail.validation.bucket_objects import ROOT, Opened, OpenedObject, Root, split_key
from opentrail.validation.chains import DigestFile
from opentrail.validation.public_keys import PublicKeys

S3 = "s3://"


class Listed(Protocol):
    """An object in a listing."""

    @property
    def key(self) -> str: ...

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...


class Body(OpenedObject, Protocol):
    """An object's bytes and metadata."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """User metadata, names in lower case."""
        ...


class BucketReader(Protocol):
    """Reads buckets."""

    def keys(self, bucket: str, prefix: str) -> Iterator[Listed]:
        """Yields every object under a prefix."""
        ...

    def open(self, bucket: str, key: str) -> Body:
        """Returns an object."""
        ...


class BucketRoot(Root):
    """`AWSLogs/` under a prefix of a bucket."""

    def __init__(self, reader: BucketReader, bucket: str, prefix: str) -> None:
        super().__init__(bucket, prefix)
        self._reader = reader
        self._bucket = bucket

    def covers(self, tail: str) -> bool:
        """Returns whether CloudTrail may have written this key."""
        return tail.startswith(ROOT)

    def address(self, tail: str) -> str:
        """Returns the object's address."""
        return f"{S3}{self._bucket}/{self.prefix}{tail}"

    def open(self, tail: str) -> Opened:
        """Returns the object with the signature in its metadata.

        Raises:
            ObjectMissing, ObjectStoreError: the object does not exist or cannot be read.
        """
        body = self._reader.open(self._bucket, f"{self.prefix}{tail}")
        metadata = body.metadata
        return Opened(body, metadata.get("signature"), metadata.get("signature-algorithm"))


class Buckets:
    """All buckets that one set of credentials reads; buckets can be added during a run."""

    def __init__(self, reader: Callable[[], BucketReader]) -> None:
        self._make = reader
        self._reader: BucketReader | None = None
        self._roots: dict[tuple[str, str], BucketRoot] = {}
        self._listed: set[tuple[str, str]] = set()

    @property
    def is_used(self) -> bool:
        """Whether any bucket is listed."""
        return bool(self._listed)

    def under(self, bucket: str, prefix: str) -> BucketListing:
        """Returns the objects under a prefix of a bucket, as a source to list."""
        self._listed.add((bucket, prefix))
        return BucketListing(self, bucket, prefix)

    def has_listed(self, bucket: str, key: str) -> bool:
        """Returns whether a listing covered a key."""
        return any(b == bucket and key.startswith(prefix) for b, prefix in self._listed)

    def files(self, bucket: str, prefix: str) -> Iterator[tuple[Root, str, int]]:
        """Yields the files of trails under a prefix."""
        for entry in self._opened().keys(bucket, prefix):
            before, tail = split_key(entry.key)
            if tail:
                yield self.root(bucket, before), tail, entry.size

    def root(self, bucket: str, prefix: str) -> BucketRoot:
        """Returns the root for `AWSLogs/` under a prefix of a bucket."""
        if (bucket, prefix) not in self._roots:
            self._roots[bucket, prefix] = BucketRoot(self._opened(), bucket, prefix)
        return self._roots[bucket, prefix]

    def _opened(self) -> BucketReader:
        if self._reader is None:
            self._reader = self._make()
        return self._reader


@dataclass(frozen=True)
class BucketListing:
    """The objects under a prefix of a bucket."""

    buckets: Buckets
    bucket: str
    prefix: str

    def files(self) -> Iterator[tuple[Root, str, int]]:
        """Yields the files of trails."""
        return self.buckets.files(self.bucket, self.prefix)


def bucket_and_prefix(address: str) -> tuple[str, str]:
    """Splits `s3://BUCKET/PREFIX`; a prefix without a trailing slash gets one.

    Raises:
        UsageError: the address names no bucket.
    """
    bucket, _, prefix = address.removeprefix(S3).partition("/")
    if not bucket:
        raise UsageError(f"{address} names no bucket: s3://BUCKET/PREFIX")
    return bucket, f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""


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


#: The output of `aws cloudtrail list-public-keys`.
KEYS = "public-keys.json"


class Export:
    """A folder with objects by bucket and key, signatures of digests, and public keys.

    Raises:
        UsageError: the folder is not empty, or cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._making_folders = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise UsageError(f"--export {folder}: the folder is not empty")
        except OSError as error:
            raise UsageError(f"--export {folder}: {error.strerror}") from error

    def write_digest(self, file: DigestFile) -> None:
        if file.digest is not None:
            with self.open_copy(*file.place) as copy:
                copy.write(file.digest.packed)

    def finish(self, files: Iterable[DigestFile], keys: PublicKeys) -> None:
        """Writes signatures and public keys."""
        with (self._folder / SIGNATURES).open("w", encoding="utf-8") as lines:
            for file in files:
                if file.proof is not None:
                    bucket, key = file.place
                    line = {"bucket": bucket, "key": key, "signature": file.proof}
                    lines.write(json.dumps(line) + "\n")
        (self._folder / KEYS).write_text(json.dumps(keys.as_json(), indent=1) + "\n")

    def open_copy(self, bucket: str, key: str) -> BinaryIO:
        """Returns a new file for the copy of an object.

        Raises:
            UsageError: it cannot be created.
        """
        parts = [bucket, *key.split("/")]
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise UsageError(f"--export: s3://{bucket}/{key} cannot be the name of a file")
        path = self._folder.joinpath(*parts)
        try:
            with self._making_folders:
                path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("xb")
        except OSError as error:
            raise UsageError(f"--export {path}: {error.strerror}") from error
