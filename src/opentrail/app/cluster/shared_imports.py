"""Files of imported events in S3: each server of a cluster gets every server's imports.

An import is numbered after the imports in the control store's list, and is complete only once its
file is in S3 and listed as well. If two servers import at the same time, one finds its numbers
used, and imports again. The other servers download the listed files and put them next to their
local files.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from opentrail.adapters.data_directory.files import sync_folder
from opentrail.adapters.data_directory.sealed_file_names import (
    SealedFile,
    Series,
    expired_name,
    parts_of,
    read_name,
    remove,
    sealed_files,
)
from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.app.cluster.shared_files import (
    IMPORTED_FILE,
    SharedFiles,
    listed,
    to_forget,
    to_list,
)
from opentrail.app.known_positions import known_imports
from opentrail.core.errors import Conflict
from opentrail.core.logs import attempt
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore
from opentrail.ports.event_store import SharedFile

log = logging.getLogger(__name__)

#: Seconds between two checks for other servers' imports.
_INTERVAL = 1.0


class SharedImports:
    """The files of imported events in one place of S3.

    Args:
        files: the place.
        control: lists the files; any server changes it.
        history: the folder of this server's event history.
        clock: the time.
        kept: time that a file stays listed, equal to the retention of its events.
    """

    def __init__(
        self,
        files: SharedFiles,
        control: ControlStore,
        history: Path,
        clock: Clock,
        kept: timedelta,
    ) -> None:
        self._files = files
        self._control = control
        self._history = history
        self._clock = clock
        self._kept = kept
        #: The list when this server last took it over.
        self._taken_over: Sequence[SharedFile] = ()
        #: Held while files of imported events are written, listed and shown.
        self.changing = asyncio.Lock()

    async def follow(self, store: IpcEventStore) -> None:
        """Shows other servers' imports, until cancelled; the next check retries.

        Downloads locally damaged files again.
        """
        known: object = None
        is_failing = False

        async def show_changes() -> None:
            nonlocal known
            revision = (await self._control.revisions([IMPORTED_FILE]))[IMPORTED_FILE]
            if (revision, store.state.lost_imports) != known:
                async with self.changing:
                    await self.take_over()
                    await store.show_imports()
                known = revision, store.state.lost_imports

        while True:
            await asyncio.sleep(_INTERVAL)
            failure = "imports of other servers cannot be read yet"
            is_failing = not await attempt(show_changes(), failure, is_known=is_failing)

    async def take_over(self) -> None:
        """Makes this server's files equal the list, before they are shown.

        Downloads other servers' imports, lists imports from before files were shared, and sets
        aside the leftovers of unacknowledged imports.

        Raises:
            ObjectStoreError: the store does not answer, or an unexpired file is missing.
            StorageFailed: a file differs from the upload.
        """
        files = await listed(self._control, IMPORTED_FILE) or await self._share_earlier()
        own = await asyncio.to_thread(sealed_files, self._history, Series.IMPORTED)
        damaged = await asyncio.to_thread(self._damaged, files)
        valid = [file for file in own if _is_valid(file, files) and file.path not in damaged]
        missing = [file for file in files if not any(_covers(one, file) for one in valid)]
        downloaded, expired = [], []
        for file in missing:
            if (path := await self._files.download(file)) is not None:
                downloaded.append(path)
            else:
                expired.append((file.first, file.last))
        unlisted = [file.path for file in own if file not in valid and file.path not in damaged]
        await asyncio.to_thread(self._replace, unlisted, damaged, downloaded, expired, files)
        self._taken_over = files
        if downloaded:
            log.info("downloaded imported events", extra={"files": len(downloaded)})

    async def publish(self) -> bool:
        """Uploads and lists the files written since `take_over`; returns whether it succeeded.

        If not, another server has imported since then: the import must run again.

        Raises:
            ObjectStoreError: the store refused a file.
            StorageFailed: an upload reads back differently.
        """
        files = await listed(self._control, IMPORTED_FILE)
        own = await asyncio.to_thread(sealed_files, self._history, Series.IMPORTED)
        # Not by the current list: another server's files may have exactly the numbers of a new one.
        new = [file for file in own if not _is_valid(file, self._taken_over)]
        try:
            if files and any(file.first <= files[-1].last for file in new):
                raise Conflict("these numbers are listed")
            await self._list(new)
        except Conflict:
            await asyncio.to_thread(remove, [file.path for file in new])
            return False
        return True

    async def forget_expired(self) -> None:
        """Unlists the oldest files; keeps the last one, which has the highest numbers."""
        files = await listed(self._control, IMPORTED_FILE)
        if expired := to_forget(IMPORTED_FILE, files, self._clock.now() - self._kept):
            await self._control.apply(expired)

    async def _share_earlier(self) -> list[SharedFile]:
        """Lists the imports of a server that was alone or had no place in S3."""
        acknowledged = await known_imports(self._control)
        own = await asyncio.to_thread(sealed_files, self._history, Series.IMPORTED)
        earlier = [file for file in own if file.last <= acknowledged and not file.is_expired]
        with suppress(Conflict):  # another server shares them
            await self._list(earlier)
        return await listed(self._control, IMPORTED_FILE)

    async def _list(self, files: Sequence[SealedFile]) -> None:
        """Uploads files, then lists all of them in one change.

        Raises:
            Conflict: one of the numbers is already listed.
        """
        now = self._clock.now()
        for file in files:
            await self._files.upload(file.path, file.path.name)
        shared = [SharedFile(file.first, file.last, file.path.name, now) for file in files]
        if shared:
            await self._control.apply([to_list(IMPORTED_FILE, file) for file in shared])

    def _damaged(self, files: Sequence[SharedFile]) -> list[Path]:
        """Returns the local remains of damaged files whose events can be downloaded."""
        found = []
        for path in self._history.glob(f"{Series.IMPORTED.value}*.damaged"):
            file = read_name(path.with_suffix(".duckdb"))
            if file is None or not files or file.first < files[0].first:
                continue
            marker = self._history / expired_name(file.series, file.first, file.last)
            if marker.exists():
                found += [path, marker]
        return found

    def _replace(
        self,
        unlisted: Sequence[Path],
        damaged: Sequence[Path],
        downloaded: Sequence[Path],
        expired: Sequence[tuple[int, int]],
        files: Sequence[SharedFile],
    ) -> None:
        """Puts downloaded files in the place of invalid ones."""
        for path in unlisted:
            log.warning("set imported events aside", extra={"file": path.name})
            path.replace(path.with_suffix(".unlisted"))
        remove(damaged)
        own = sealed_files(self._history, Series.IMPORTED)
        if files:
            first = files[0].first
            begin = max((file.last for file in own if file.first < first), default=0) + 1
            if begin < first:  # the cluster has expired the files between them
                expired = [(begin, first - 1), *expired]
        # Before the files, so that a crash leaves nothing that looks lost.
        for span in expired:
            (self._history / expired_name(Series.IMPORTED, *span)).touch(mode=0o600)
        sync_folder(self._history)
        for path in downloaded:
            path.replace(path.with_suffix(""))
        sync_folder(self._history)


def _is_valid(file: SealedFile, files: Sequence[SharedFile]) -> bool:
    """Returns whether a file has the events of files that are listed, or were until they expired.

    A listed file has a listed name, and a file merged here names its listed parts. An unlisted
    import may have the numbers of either.
    """
    if file.is_expired or (files and file.last < files[0].first):
        return True
    within = [one for one in files if file.first <= one.first and one.last <= file.last]
    if file.parts is None:
        return any(one.name == file.path.name for one in within)
    if not within or within[-1].last != file.last:
        return False
    if file.first < files[0].first:
        return True  # names of expired files are forgotten
    named = [read_name(Path(one.name)) for one in within if one.name is not None]
    parts = parts_of(one for one in named if one is not None)
    return within[0].first == file.first and parts == file.parts


def _covers(own: SealedFile, file: SharedFile) -> bool:
    return own.first <= file.first and file.last <= own.last
