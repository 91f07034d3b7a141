"""The files of event history of a cluster member: on its disk, in S3, or both.

Files in S3 are compared with their list, and missing ones are uploaded again.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

from opentrail.adapters.data_directory.sealed_file_names import MAX_FILE_BYTES
from opentrail.adapters.duckdb.store_folders import StoreMaker
from opentrail.adapters.ipc.remote_events import NO_CACHE, HistoryCache, IpcEventStore
from opentrail.app.background import run_beside
from opentrail.app.cluster.listed_stores import (
    STORE_FILE,
    FilesOfQueries,
    ListedStoreFiles,
    readable_files,
)
from opentrail.app.cluster.postgresql import Cluster
from opentrail.app.cluster.shared_files import IMPORTED_FILE, SHARED_FILE, SharedFiles, listed
from opentrail.app.cluster.shared_imports import SharedImports
from opentrail.app.known_positions import known_imports
from opentrail.app.upstreams import store_access
from opentrail.core.errors import (
    ObjectStoreError,
    OpentrailError,
    StorageFailed,
    Unsupported,
    UsageError,
)
from opentrail.core.event import format_time
from opentrail.core.logs import attempt
from opentrail.core.version import command_for
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put
from opentrail.ports.event_store import SharedFile
from opentrail.ports.journal import JournalSource, TrimmedJournal
from opentrail.ports.metrics import Metrics
from opentrail.ports.objects import ObjectStore
from opentrail.settings import Settings

log = logging.getLogger(__name__)


class MemberFiles(Protocol):
    """The files of event history of a member, and of the imports that it shows."""

    imports: SharedImports | None
    #: Whether the files of event data stores have a place.
    keeps_stores: bool

    @property
    def cache(self) -> HistoryCache:
        """Caches parts of the files in S3."""
        ...

    @property
    def problems(self) -> list[str]:
        """Problems of files in S3."""
        ...

    async def download(self) -> None:
        """Fetch the other servers' files from S3, before the journal is opened."""
        ...

    @property
    def shared(self) -> int:
        """The last position in files in S3."""
        ...

    async def take_over_imports(self) -> None:
        """Show the events that the cluster has imported.

        Raises:
            UsageError: some are missing here, and cannot be fetched.
        """
        ...

    def follow(self, stack: AsyncExitStack, store: IpcEventStore, *, keeps_history: bool) -> None:
        """Show other servers' imports and upload files lost in S3, until the stack closes."""
        ...

    async def refresh(self, store: IpcEventStore) -> bool:
        """Start to read new files in S3; return False if they cannot be listed."""
        ...

    async def publish(
        self, journal: TrimmedJournal, source: JournalSource, needed_after: int
    ) -> None:
        """Put complete files in S3, and forget expired ones, as the worker."""
        ...

    async def require_importable(self) -> None:
        """Return if the other servers would get the events of an import.

        Raises:
            Unsupported: they would not.
        """
        ...

    def of_stores(
        self, journal: TrimmedJournal, source: JournalSource, folder: Path
    ) -> ListedStoreFiles | None:
        """Return the files of event data stores, which the worker makes in a folder."""
        ...

    def of_queries(self, store: IpcEventStore) -> FilesOfQueries | None:
        """Return the files that queries read through the cache."""
        ...


class OwnFiles:
    """Each server has all files on its own disk; nothing is in S3."""

    cache = NO_CACHE
    imports: SharedImports | None = None
    keeps_stores = False
    shared = 0

    def __init__(self, history: Path, control: ControlStore, cluster: Cluster) -> None:
        self._history, self._control, self._cluster = history, control, cluster
        self.problems: list[str] = []

    async def download(self) -> None:
        """Does nothing."""

    async def take_over_imports(self) -> None:
        """Returns if this server has the files of all imports."""
        known = await known_imports(self._control)
        await self._cluster.require_imports(self._history, known)

    def follow(self, _stack: AsyncExitStack, _store: IpcEventStore, *, keeps_history: bool) -> None:
        """Does nothing."""

    async def refresh(self, _store: IpcEventStore) -> bool:
        """Returns True."""
        return True

    async def publish(
        self, _journal: TrimmedJournal, _source: JournalSource, _needed_after: int
    ) -> None:
        """Does nothing."""

    async def require_importable(self) -> None:
        """Returns if there are no other servers."""
        if len(await self._cluster.servers()) > 1:
            raise Unsupported("importing files into several servers without --files")

    def of_stores(self, _journal: TrimmedJournal, _source: JournalSource, _folder: Path) -> None:
        """Returns None."""

    def of_queries(self, _store: IpcEventStore) -> None:
        """Returns None: queries read the files on the disk."""


class FilesInS3:
    """The files are in S3 (`--files`), with copies on each server's disk.

    Files of event data stores are read through a cache, which may have all of their blocks.
    """

    keeps_stores = True
    #: Whether files of event history are read through the cache, too.
    is_cached = False

    def __init__(
        self,
        files: SharedFiles,
        imports: SharedImports,
        check: SharedFileCheck,
        cluster: Cluster,
        control: ControlStore,
        clock: Clock,
        access: Callable[[], Mapping[str, str]],
        max_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self._access = access
        self._files, self._check, self._cluster = files, check, cluster
        self.imports: SharedImports | None = imports
        self._imports = imports
        self._control, self._clock = control, clock
        self.cache = HistoryCache(files.cache, max_bytes, files.read)

    @property
    def problems(self) -> list[str]:
        """Failed uploads and downloads, and files that S3 has lost."""
        not_uploaded = self._files.problems if self._cluster.is_worker else []
        return [*not_uploaded, *self._files.read_problems, *self._check.problems]

    async def download(self) -> None:
        """Downloads the files missing on this server."""
        with suppress(ObjectStoreError):  # before the first upload, it is retried
            await self._files.claim()
        await self._cluster.heartbeat(None, 0)
        await self._fetch()

    @property
    def shared(self) -> int:
        """The last position in files in S3: none are read."""
        return 0

    async def _fetch(self) -> None:
        await self._files.fetch()
        self.cache = replace(self.cache, store_files=await readable_files(self._control))

    async def take_over_imports(self) -> None:
        """Downloads the import files missing on this server."""
        await self._imports.take_over()

    def follow(self, stack: AsyncExitStack, store: IpcEventStore, *, keeps_history: bool) -> None:
        """Shows other servers' imports, and uploads files that S3 has lost."""
        run_beside(stack, self._check.run())
        if keeps_history:
            run_beside(stack, self._imports.follow(store))

    async def refresh(self, store: IpcEventStore) -> bool:
        """Returns True: this server seals its own copies."""
        try:
            await store.keep_store_files(await readable_files(self._control))
        except OpentrailError as error:  # old blocks stay for another minute
            log.warning("files of event data stores cannot be listed", extra={"error": str(error)})
        return True

    async def publish(
        self, journal: TrimmedJournal, source: JournalSource, needed_after: int
    ) -> None:
        """Uploads complete files."""
        await self._files.publish(journal, source, needed_after)
        await self._imports.forget_expired()

    async def require_importable(self) -> None:
        """Returns: the others download the files."""

    def of_stores(
        self, journal: TrimmedJournal, source: JournalSource, folder: Path
    ) -> ListedStoreFiles | None:
        """Returns the files of event data stores, which the worker makes in a folder."""
        control = self._cluster.worker_control
        maker = StoreMaker(folder.with_name("new-store-files"), source, journal.repair)
        return ListedStoreFiles(
            self._files, control, folder, maker, source, self._clock, self._access
        )

    def of_queries(self, store: IpcEventStore) -> FilesOfQueries | None:
        """Returns the files that queries read through the cache."""
        return FilesOfQueries(self._files, self._control, store, is_cached=self.is_cached)


class CachedFilesInS3(FilesInS3):
    """The files are in S3, and a cache on disk has the often-read parts (`--history-cache`)."""

    is_cached = True

    async def _fetch(self) -> None:
        stores = await readable_files(self._control)
        files = await self._files.fetch_indexes()
        self.cache = replace(self.cache, files=files, store_files=stores)

    @property
    def shared(self) -> int:
        """The last position in these files."""
        return max((file.last for file in self.cache.files), default=0)

    async def refresh(self, store: IpcEventStore) -> bool:
        """Downloads the indexes of new files; on failure the current ones stay."""
        await super().refresh(store)
        try:
            await store.use_shared(await self._files.fetch_indexes())
        except (OpentrailError, OSError) as error:
            log.warning("files in S3 cannot be listed", extra={"error": str(error)})
            return False
        return True

    async def require_importable(self) -> None:
        """Refuses: files of imports are written to the disk."""
        raise Unsupported("importing files through a server with --history-cache")


def member_files(
    settings: Settings,
    store_id: Callable[[], Awaitable[str]],
    control: ControlStore,
    history: Path,
    source: JournalSource,
    clock: Clock,
    objects: ObjectStore,
    metrics: Metrics,
    cluster: Cluster,
) -> MemberFiles:
    """Returns the files that the settings describe.

    Args:
        settings: the server's settings.
        store_id: returns the id of the control store.
        control: the control store that the servers share.
        history: the folder of event history.
        source: reads the journal.
        clock: the time.
        objects: S3, where `--files` are.
        metrics: show reads from S3.
        cluster: the servers.

    Raises:
        UsageError: `--files` needs a package that is not installed.
    """
    if settings.files is None:
        return OwnFiles(history, control, cluster)
    kept = timedelta(days=settings.history_retention_days)
    records, worker_control = settings.history_seal_records, cluster.worker_control
    place = settings.files, store_id, objects, worker_control
    files = SharedFiles(*place, history, records, clock, kept)
    files.on_read = lambda outcome: metrics.history_blocks.labels(outcome).inc()
    imports = SharedImports(files, control, history, clock, kept)
    check = SharedFileCheck(files, worker_control, source, clock, lambda: cluster.is_worker)
    metrics.missing_files.set_function(lambda: len(check.missing))
    if importlib.util.find_spec("fsspec") is None:
        raise UsageError(f"--files needs the package fsspec: {command_for('postgres')}")
    parts = files, imports, check, cluster, control, clock, partial(_iceberg_access, settings)
    if settings.history_cache is None or not settings.has_history:
        return FilesInS3(*parts)
    return CachedFilesInS3(*parts, settings.history_cache)


def _iceberg_access(settings: Settings) -> dict[str, str]:
    """Returns PyIceberg's properties for S3."""
    access = store_access(settings)
    properties = {
        "s3.endpoint": access.endpoint_url,
        "s3.region": access.region,
        "s3.access-key-id": access.access_key_id,
        "s3.secret-access-key": access.secret_access_key,
        "s3.session-token": access.session_token,
    }
    return {name: value for name, value in properties.items() if value}


#: Kind of the document with the names of missing files, and its key.
_MISSING, _ALL = "missing-files", "all"


# Comparison with S3

#: Time between two comparisons, and between two reads of their result.
_COMPARISON_INTERVAL = timedelta(hours=1)
_READ_SECONDS = 60.0


class SharedFileCheck:
    """Files that the control store lists and S3 does not have.

    The worker compares both every hour, and every minute while files are missing. Each server
    uploads the missing files that it has.

    Args:
        files: the place in S3.
        control: has the lists; only the worker changes them.
        source: the entries that the worker seals again.
        clock: the time.
        is_worker: returns whether this server is the worker.
    """

    def __init__(
        self,
        files: SharedFiles,
        control: ControlStore,
        source: JournalSource,
        clock: Clock,
        is_worker: Callable[[], bool],
    ) -> None:
        self._files = files
        self._control = control
        self._source = source
        self._clock = clock
        self._is_worker = is_worker
        self._compared: datetime | None = None
        #: Names of the missing files, as of the last comparison.
        self.missing: list[str] = []

    @property
    def problems(self) -> list[str]:
        """Problems of the files in S3."""
        return [describe_missing(self.missing)] if self.missing else []

    async def run(self) -> None:
        """Runs until cancelled; the next round retries."""
        while True:
            await attempt(self.check(), "history files in S3 cannot be compared with their list")
            await asyncio.sleep(_READ_SECONDS)

    async def check(self) -> None:
        """Compares if that is due on this server, and uploads missing files that it has.

        Raises:
            OpentrailError: the control store or S3 does not answer.
        """
        now = self._clock.now()
        is_due = self._compared is None or now - self._compared >= _COMPARISON_INTERVAL
        if self._is_worker() and (is_due or self.missing):
            await self._compare()
            self._compared = now
        self.missing = await missing_files(self._control)
        for name in self.missing:
            if await self._files.upload_own(name):
                log.warning("a missing history file reappeared in S3", extra={"file": name})

    async def _compare(self) -> None:
        present = await self._files.present()
        missing = []
        for kind in (SHARED_FILE, IMPORTED_FILE, STORE_FILE):
            for file in await listed(self._control, kind):
                is_expired = kind != STORE_FILE and self._files.is_expired(file)
                if file.name is None or is_expired or file.name in present:
                    continue
                log.error("a history file is missing in S3", extra={"file": file.name})
                if not await self._restore(kind, file):
                    missing.append(file.name)
        if missing != await missing_files(self._control):
            document = {"files": missing, "compared": format_time(self._clock.now())}
            await self._control.apply([Put(_MISSING, _ALL, document)])

    async def _restore(self, kind: str, file: SharedFile) -> bool:
        """Uploads a file from this server, or seals it again; returns whether it succeeded."""
        if await self._files.upload_own(str(file.name)):
            return True
        if kind != SHARED_FILE:
            return False
        try:
            return await self._files.seal_again(self._source, file)
        except StorageFailed as error:
            log.warning(
                "a missing history file cannot be sealed again", extra={"error": str(error)}
            )
            return False


async def missing_files(control: ControlStore) -> list[str]:
    """Returns the names of listed files missing from S3 in the worker's last comparison."""
    stored = await control.get(_MISSING, _ALL)
    return list(stored.document["files"]) if stored else []


def describe_missing(names: list[str]) -> str:
    """Returns the problem, and its remedy."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f"history files are missing in S3: {names[0]}{more}; servers that still have "
        "one upload it, others must be restored from a backup of the bucket"
    )
