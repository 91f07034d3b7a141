"""Compares the files of event history in S3 with their list, and uploads missing ones again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from opentrail.app.shared_files import IMPORTED_FILE, SHARED_FILE, SharedFiles, listed
from opentrail.core.errors import StorageFailed
from opentrail.core.event import format_time
from opentrail.core.logs import attempt
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put
from opentrail.ports.event_store import SharedFile
from opentrail.ports.journal import JournalSource

log = logging.getLogger(__name__)

#: Kind of the document with the names of missing files, and its key.
_MISSING, _ALL = "missing-files", "all"
#: Time between two comparisons, and between two reads of their result.
_COMPARISON_INTERVAL = timedelta(hours=1)
_READ_SECONDS = 60.0


class SharedFileCheck:
    """Files that the control store lists and S3 does not have.

    The worker compares both every hour, and every minute while files are missing. Each server
    uploads those that it has.

    Args:
        files: the place in S3.
        control: has the lists; only the worker changes it.
        source: what the worker seals again.
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
        """What is wrong with the files in S3."""
        return [describe_missing(self.missing)] if self.missing else []

    async def run(self) -> None:
        """Runs until it is cancelled; the next round retries."""
        while True:
            await attempt(self.check(), "history files in S3 cannot be compared with their list")
            await asyncio.sleep(_READ_SECONDS)

    async def check(self) -> None:
        """Compares if that is due on this server, and uploads what is missing and is here.

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
                log.warning("a missing history file is in S3 again", extra={"file": name})

    async def _compare(self) -> None:
        present = await self._files.present()
        missing = []
        for kind in (SHARED_FILE, IMPORTED_FILE):
            for file in await listed(self._control, kind):
                if file.name is None or self._files.is_expired(file) or file.name in present:
                    continue
                log.error("a history file is missing in S3", extra={"file": file.name})
                if not await self._restore(kind, file):
                    missing.append(file.name)
        if missing != await missing_files(self._control):
            document = {"files": missing, "compared": format_time(self._clock.now())}
            await self._control.apply([Put(_MISSING, _ALL, document)])

    async def _restore(self, kind: str, file: SharedFile) -> bool:
        """Uploads a file from this server, or seals it again; returns whether it is there."""
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
    """Returns the names of listed files that S3 did not have when the worker compared last."""
    stored = await control.get(_MISSING, _ALL)
    return list(stored.document["files"]) if stored else []


def describe_missing(names: list[str]) -> str:
    """Returns what is wrong, and what to do."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f"history files are missing in S3: {names[0]}{more}; servers that still have "
        "one upload it, others must be restored from a backup of the bucket"
    )
