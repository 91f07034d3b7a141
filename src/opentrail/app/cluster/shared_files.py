"""Files of event history in S3, from which each server of a cluster downloads missing ones.

The worker seals one range of the journal after the other, uploads the file, reads it back, and
lists it in the control store. The journal is trimmed only up to the last listed file. A starting
server downloads the files missing from its event history. With a cache, it downloads only the index
of each file, and reads blocks of the files when lookups need them.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from opentrail.adapters.data_directory.files import sha256_of, sync_folder, write_durably
from opentrail.adapters.data_directory.sealed_file_names import (
    SealedFile,
    Series,
    expired_name,
    index_path,
    is_intact,
    read_name,
    remove,
    sealed_files,
)
from opentrail.adapters.duckdb.children import files_of_child, run_child
from opentrail.core.errors import (
    JournalDamaged,
    ObjectExists,
    ObjectMissing,
    ObjectStoreError,
    OpentrailError,
    StorageFailed,
    UsageError,
)
from opentrail.core.event import format_time, parse_time
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Document, Put, Remove
from opentrail.ports.event_store import SharedFile
from opentrail.ports.journal import JournalSource, TrimmedJournal
from opentrail.ports.objects import NewObject, ObjectStore

log = logging.getLogger(__name__)

#: Kind of the documents that list the files; their keys sort like the positions.
SHARED_FILE = "history-file"
#: Kind of the documents that list files of imported events; their keys sort like the numbers.
IMPORTED_FILE = "imported-file"
#: The object with the id of the cluster that owns the place.
_OWNER = "cluster"
_CONTENT_TYPE = "application/vnd.duckdb"


class SharedFiles:
    """The files in one place of S3.

    A merged file of a store has at most 64 MB, because an upload is in memory; each file costs a
    query a request.

    Args:
        address: `s3://BUCKET` or `s3://BUCKET/PREFIX`.
        store_id: returns the id of the cluster's control store.
        objects: the store.
        control: lists the files; only the worker changes it.
        history: the folder of this server's event history.
        records: positions of each file.
        clock: the time.
        kept: time that a file stays listed, equal to the retention of its events.
    """

    is_shared = True
    merged_files = 8
    merged_bytes = 64 << 20

    def __init__(
        self,
        address: str,
        store_id: Callable[[], Awaitable[str]],
        objects: ObjectStore,
        control: ControlStore,
        history: Path,
        records: int,
        clock: Clock,
        kept: timedelta,
    ) -> None:
        self._bucket, _, prefix = address.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        self._store_id = store_id
        self._objects = objects
        self._control = control
        self._history = history
        self._records = records
        self._clock = clock
        self._kept = kept
        self._is_claimed = False
        #: Why the last uploads failed; empty if they succeeded.
        self.problems: list[str] = []
        #: Why downloads of indexes failed; empty if they succeeded.
        self.read_problems: list[str] = []
        #: Called with `downloaded` or `failed` for each part read from a file.
        self.on_read: Callable[[str], None] = lambda outcome: None
        #: Names of the files whose indexes are in the cache.
        self._indexed: set[str] = set()

    async def files(self) -> list[SharedFile]:
        """Returns the files in order; each begins at the end of the previous one."""
        return await listed(self._control, SHARED_FILE)

    async def claim(self) -> None:
        """Claims the place for this cluster; returns immediately if that is known.

        Raises:
            UsageError: it belongs to another cluster.
            ObjectStoreError: the store does not answer.
        """
        if self._is_claimed:
            return
        key, cluster = self._prefix + _OWNER, await self._store_id()
        with suppress(ObjectExists):
            content = cluster.encode()
            await self._objects.put(NewObject(self._bucket, key, content, "text/plain", None))
        owner = (await self._objects.get(self._bucket, key)).decode(errors="replace")
        if owner != cluster:
            raise UsageError(
                f"--files s3://{self._bucket}/{self._prefix} has the history of another cluster "
                f"({owner[:32]}): give each cluster its own bucket or prefix"
            )
        self._is_claimed = True

    # The worker uploads

    async def publish(
        self, journal: TrimmedJournal, source: JournalSource, needed_after: int
    ) -> None:
        """Uploads and lists the files completed since the last call; unlists expired ones.

        Args:
            journal: gives the existing positions.
            source: is sealed.
            needed_after: the position after which something still needs records.

        Raises:
            LeaseLost: this server is not the worker.
            ObjectStoreError: the store refused a file.
            StorageFailed: the upload reads back differently, or no file here fills a gap.
        """
        try:
            await self._forget_expired(needed_after)
            await self._publish(journal, source)
        except (ObjectStoreError, StorageFailed, UsageError) as error:
            self.problems = [f"history files are not uploaded, and the journal grows: {error}"]
            raise
        self.problems = []

    async def _publish(self, journal: TrimmedJournal, source: JournalSource) -> None:
        files = await self.files()
        following = files[-1].last + 1 if files else await asyncio.to_thread(self._first)
        while following < journal.first:
            # Files are shared for the first time, and the journal has been trimmed already.
            file = await asyncio.to_thread(self._own_file, following)
            await self._list([file], file.first, file.last)
            following = file.last + 1
        while (last := following + self._records - 1) <= journal.head:
            await self._publish_range(source, following, last)
            following = last + 1

    async def _forget_expired(self, needed_after: int) -> None:
        """Unlists the oldest files; keeps the last one, which marks the end of all of them."""
        files, since = await self.files(), self._clock.now() - self._kept
        if expired := to_forget(SHARED_FILE, files, since, needed_after):
            await self._control.apply(expired)

    async def _publish_range(self, source: JournalSource, first: int, last: int) -> None:
        files = await self._sealed(source, first, last)
        try:
            await self._list(files, first, last)
        finally:
            shutil.rmtree(self._sealing, ignore_errors=True)

    @property
    def _sealing(self) -> Path:
        return self._history.with_name("shared-files")

    async def _sealed(self, source: JournalSource, first: int, last: int) -> list[SealedFile]:
        """Returns the files of a range of the journal, in a folder that the caller removes."""
        folder = self._sealing
        shutil.rmtree(folder, ignore_errors=True)  # from an interrupted run
        folder.mkdir(mode=0o700)
        try:
            arguments = ("journal", source.address, folder, first, last)
            return await files_of_child(*arguments, environment=source.environment)
        except (JournalDamaged, RuntimeError, TimeoutError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise StorageFailed(f"positions {first} to {last} cannot be sealed: {error}") from error

    async def _list(self, files: Sequence[SealedFile], first: int, last: int) -> None:
        """Uploads the files of a range, and lists them with the journal's losses in it."""
        shared, now = [], self._clock.now()
        for file in files:
            if file.first > first:
                shared.append(SharedFile(first, file.first - 1, None, now))
            await self.upload(file.path, file.path.name)
            index = await self.upload_index(file.path, file.path.name)
            shared.append(SharedFile(file.first, file.last, file.path.name, now, index))
            first = file.last + 1
        if first <= last:
            shared.append(SharedFile(first, last, None, now))
        await self._control.apply([to_list(SHARED_FILE, file) for file in shared])
        log.info("history files uploaded to S3", extra={"until": last})

    async def upload_index(self, file: Path, name: str) -> str:
        """Uploads the index of a file with a name in S3; returns the SHA-256 of the index.

        Raises:
            ObjectStoreError: the store refused it.
            StorageFailed: it cannot be made, or reads back differently.
        """
        try:
            (path,) = await run_child("index", file)
        except (RuntimeError, TimeoutError) as error:
            raise StorageFailed(f"{file.name} cannot be indexed: {error}") from error
        try:
            digest = await asyncio.to_thread(sha256_of, path)
            await self.upload(path, index_name(name, digest))
        finally:
            path.unlink()
        return digest

    async def upload(self, path: Path, name: str) -> None:
        """Returns once a file is in S3, and was read back.

        Raises:
            ObjectStoreError: the store refused it.
            StorageFailed: it reads back differently.
        """
        await self.claim()
        content = await asyncio.to_thread(path.read_bytes)
        key = self._prefix + name
        with suppress(ObjectExists):  # another worker was interrupted here
            await self._objects.put(NewObject(self._bucket, key, content, _CONTENT_TYPE, None))
        if await self._objects.get(self._bucket, key) != content:
            raise StorageFailed(f"s3://{self._bucket}/{key} was altered")

    # Files missing in S3

    async def delete(self, name: str) -> None:
        """Returns once S3 does not have a file.

        Raises:
            ObjectStoreError: the store refused.
        """
        await self._objects.delete(self._bucket, self._prefix + name)

    async def local_copy(self, name: str, folder: Path) -> Path:
        """Returns a copy of a file in a folder; errors as `content`."""
        path = folder / Path(name).name
        await asyncio.to_thread(path.write_bytes, await self.content(name))
        return path

    async def damaged(self, _names: Iterable[str]) -> set[str]:
        """Returns nothing: readers verify each block."""
        return set()

    def address_of(self, name: str) -> str:
        """Returns the address of a file in S3."""
        return f"s3://{self._bucket}/{self._prefix}{name}"

    async def present(self, folder: str = "") -> set[str]:
        """Returns the names of the files in S3, or of those whose names start with `folder`."""
        keys = await self._objects.keys(self._bucket, self._prefix + folder)
        return {key.removeprefix(self._prefix) for key in keys}

    def is_expired(self, file: SharedFile) -> bool:
        """Returns whether a lifecycle rule may have deleted a listed file."""
        return file.listed < self._clock.now() - self._kept

    async def upload_own(self, name: str) -> bool:
        """Uploads a file of this server, and its index; returns False without a file."""
        file = read_name(self._history / name)
        if file is None or not await asyncio.to_thread(is_intact, file):
            return False
        await self.upload(file.path, name)
        if file.series is Series.JOURNAL:
            await self.upload_index(file.path, name)
        return True

    async def seal_again(self, source: JournalSource, file: SharedFile) -> bool:
        """Seals the range of a listed file from the journal; returns False if it was trimmed.

        Raises:
            LeaseLost: this server is not the worker.
            ObjectStoreError: the store refused a file.
            StorageFailed: the range cannot be sealed, or the upload reads back differently.
        """
        if await asyncio.to_thread(source.first_position) > file.first:
            return False
        made = await self._sealed(source, file.first, file.last)
        try:
            if [(one.first, one.last) for one in made] != [(file.first, file.last)]:
                return False
            path = made[0].path
            await self.upload(path, path.name)
            index = await self.upload_index(path, path.name)
        finally:
            shutil.rmtree(self._sealing, ignore_errors=True)
        again = SharedFile(file.first, file.last, path.name, file.listed, index)
        await self._control.apply([replace(to_list(SHARED_FILE, again), expected=None)])
        return True

    def _first(self) -> int:
        """Returns the first position that event history has not expired."""
        files = sealed_files(self._history, Series.JOURNAL)
        return files[0].last + 1 if files and files[0].is_expired else 1

    def _own_file(self, first: int) -> SealedFile:
        for file in sealed_files(self._history, Series.JOURNAL):
            if file.first == first and not file.is_expired:
                return file
        raise StorageFailed(
            f"history: the journal has been trimmed and no file here begins at position {first}; "
            "another server's can be copied into the folder history"
        )

    # A server that starts downloads

    async def fetch(self) -> None:
        """Downloads missing files of event history, before it is opened.

        Raises:
            ObjectStoreError: the store does not answer, or a file is missing.
            StorageFailed: a file differs from the upload.
        """
        files = await self.files()
        own = await asyncio.to_thread(sealed_files, self._history, Series.JOURNAL)
        ends = _ends(own, files)
        if not files or files[-1].last <= ends[-1]:
            return
        begin = _common_end(own, ends, files)
        missing = [file for file in files if file.first > begin and file.name is not None]
        downloaded: list[Path] = []
        for file in missing:
            if (path := await self.download(file)) is not None:
                downloaded.append(path)
            else:  # so have those before it
                remove(downloaded)
                downloaded, begin = [], file.last
        follows_own = begin in (0, *ends)
        await asyncio.to_thread(self._adopt, downloaded, own, begin, follows_own)
        log.info("downloaded history files", extra={"files": len(downloaded), "after": begin})

    async def download(self, file: SharedFile) -> Path | None:
        """Returns a file under a name that event history ignores; None if it has expired.

        Raises:
            ObjectStoreError: the store does not answer, or an unexpired file is missing.
            StorageFailed: it differs from the upload.
        """
        path = self._history / f"{file.name}.tmp"
        try:
            content = await self.content(str(file.name))
        except ObjectMissing:
            if self.is_expired(file):
                return None
            raise
        await asyncio.to_thread(write_durably, path, content)
        return path

    async def content(self, name: str) -> bytes:
        """Returns a file.

        Raises:
            ObjectStoreError: the store does not answer, or the file is missing.
            StorageFailed: it differs from the upload.
        """
        content = await self._objects.get(self._bucket, self._prefix + name)
        named = read_name(Path(name))
        if named is None or hashlib.sha256(content).hexdigest()[:16] != named.digest:
            raise self._damaged(name)
        return content

    def _damaged(self, name: str) -> StorageFailed:
        return StorageFailed(f"s3://{self._bucket}/{self._prefix}{name} is damaged")

    def _adopt(
        self, downloaded: Sequence[Path], own: Sequence[SealedFile], begin: int, follows_own: bool
    ) -> None:
        """Replaces local files that end after position `begin` with downloaded ones."""
        if not follows_own:  # the cluster has expired the earlier files
            self._mark_expired(begin)
        remove(file.path for file in own if file.last > begin)
        sync_folder(self._history)
        for path in downloaded:
            path.replace(path.with_suffix(""))
        sync_folder(self._history)

    def _mark_expired(self, last: int) -> None:
        (self._history / expired_name(Series.JOURNAL, 1, last)).touch(mode=0o600)
        sync_folder(self._history)

    # A server with a cache reads parts of them

    @property
    def cache(self) -> Path:
        """The cache folder of a server."""
        return self._history.with_name("history-cache")

    async def fetch_indexes(self) -> list[SharedFile]:
        """Returns the files once their indexes are in the cache folder.

        Skips files that have expired and are missing.

        Raises:
            ObjectStoreError: the store does not answer, or an unexpired file is missing.
            StorageFailed: a file differs from the upload.
            OSError: the cache cannot be written.
        """
        try:
            files = await self._fetch_indexes()
        except (OpentrailError, OSError) as error:
            self.read_problems = [f"the list of history files in S3 is out of date: {error}"]
            raise
        self.read_problems = []
        return files

    async def _fetch_indexes(self) -> list[SharedFile]:
        files, gone = await self.files(), 0
        await self.find_indexes()
        for file in files:
            if file.name is None:
                continue
            try:
                await self.fetch_index(file.name, file.index)
            except ObjectMissing:
                if not self.is_expired(file):
                    raise
                gone = file.last  # earlier files have expired as well
        if gone:
            await asyncio.to_thread(self._mark_expired, gone)
        return [file for file in files if file.first > gone]

    async def find_indexes(self) -> None:
        """Forgets indexes that the event history process has deleted: those of unknown files."""
        self.cache.mkdir(mode=0o700, exist_ok=True)
        present = set(await asyncio.to_thread(os.listdir, self.cache))
        self._indexed = {
            name for name in self._indexed if index_path(self.cache, name).name in present
        }

    async def fetch_index(self, name: str, digest: str | None) -> None:
        """Returns once the index of a file is in the cache folder.

        Raises:
            ObjectStoreError: the store does not answer, or the index is missing.
            StorageFailed: the index differs from the upload.
            OSError: the cache cannot be written.
        """
        if name not in self._indexed:
            await self._fetch_index(index_path(self.cache, name), name, digest)
            self._indexed.add(name)

    async def _fetch_index(self, path: Path, name: str, digest: str | None) -> None:
        is_present = await asyncio.to_thread(path.exists)
        if digest is None:
            # An earlier version has uploaded it.
            if not is_present:
                whole = path.with_suffix(".whole")
                try:
                    await asyncio.to_thread(whole.write_bytes, await self.content(name))
                    await run_child("index", whole)
                except (RuntimeError, TimeoutError) as error:
                    raise StorageFailed(f"{name} cannot be indexed: {error}") from error
                finally:
                    whole.unlink(missing_ok=True)
            return
        if is_present and await asyncio.to_thread(sha256_of, path) == digest:
            return
        index = index_name(name, digest)
        content = await self._objects.get(self._bucket, self._prefix + index)
        if hashlib.sha256(content).hexdigest() != digest:
            raise self._damaged(index)
        await asyncio.to_thread(write_durably, path, content)

    async def read(self, name: str, first: int, length: int) -> bytes:
        """Returns bytes of a file, which the caller verifies.

        Raises:
            ObjectStoreError: the store does not answer, or the file is missing.
        """
        try:
            content = await self._objects.get_range(
                self._bucket, self._prefix + name, first, length
            )
        except ObjectStoreError:
            self.on_read("failed")
            raise
        self.on_read("downloaded")
        return content


def index_name(name: str, digest: str) -> str:
    """Returns the name of an index in S3; other versions may write another index of the file."""
    return f"{name}.{digest[:16]}.index"


def _ends(own: Sequence[SealedFile], files: Sequence[SharedFile]) -> list[int]:
    """Returns the end positions of local files, up to their first gap."""
    lost = {file.first: file.last for file in files if file.name is None}
    ends, end = [], 0
    for file in own:
        end = lost.get(end + 1, end)
        if file.first != end + 1:
            break
        end = file.last
        ends.append(end)
    return [*ends, lost.get(end + 1, end)]


def _common_end(own: Sequence[SealedFile], ends: Sequence[int], files: Sequence[SharedFile]) -> int:
    """Returns the last position at which shared files can follow local ones, which have `ends`."""
    starts = {file.first - 1 for file in files} | {files[-1].last}
    # Files expired here need no download.
    expired = own[0].last if own and own[0].is_expired else 0
    common = max(start for start in starts if start <= max(expired, files[0].first - 1))
    return max(common, *(end for end in ends if end in starts), 0)


def key_of(file: SharedFile) -> str:
    """Returns the key of the document that lists a file."""
    return f"{file.first:020d}"


def to_forget(
    kind: str, files: Sequence[SharedFile], since: datetime, needed_after: int = sys.maxsize
) -> list[Remove]:
    """Returns the changes that unlist the oldest files, if they were listed before a time.

    Only up to position `needed_after`. The last file stays: it marks the end of all of them.
    """
    expired = itertools.takewhile(
        lambda file: file.listed < since and file.last <= needed_after, files[:-1]
    )
    return [Remove(kind, key_of(file)) for file in expired]


def to_list(kind: str, file: SharedFile, prefix: str = "") -> Put:
    """Returns the change that lists a file, unless a listed file begins there.

    `prefix` begins the keys of a list among several; it replaces a file that begins there.
    """
    document = {
        "first": file.first,
        "last": file.last,
        "name": file.name,
        "listed": format_time(file.listed),
        "index": file.index,
        **({"bytes": file.bytes} if file.bytes else {}),
        **({"lost": True} if file.is_lost else {}),
    }
    return Put(kind, prefix + key_of(file), document, expected=None if prefix else 0)


async def listed(control: ControlStore, kind: str, prefix: str = "") -> list[SharedFile]:
    """Returns the files that documents of a kind list, in order."""
    return [_file_of(stored.document) for stored in await control.scan(kind, prefix)]


def _file_of(document: Document) -> SharedFile:
    time = parse_time(document["listed"])
    range_and_name = document["first"], document["last"], document["name"]
    details = document.get("index"), document.get("bytes", 0), document.get("lost", False)
    return SharedFile(*range_and_name, time, *details)
