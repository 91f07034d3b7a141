"""Verifies a journal's segments while it is written, and repairs those that are damaged."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from opentrail.adapters.sqlite.repair import chain_before_of, repair
from opentrail.adapters.sqlite.segment_files import SegmentFiles
from opentrail.adapters.sqlite.segments import Segment, ends_of
from opentrail.core.errors import JournalDamaged, StorageFailed

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Seconds until segments are verified again if one of them could not be.
_PAUSE_SECONDS = 60.0
#: Maximum entries that are verified at a time.
_MAX_ENTRIES = 2_000


@dataclass(slots=True)
class JournalChecks:
    """Verifies and repairs in threads of readers; `SegmentFiles.changing` is held for a repair."""

    files: SegmentFiles
    #: Returns the last durable position.
    head: Callable[[], int]
    #: Makes another segment than this one the newest, or raises `StorageFailed`.
    leave: Callable[[Segment], None]
    #: Whether every segment was verified since the start. Written by the loop, as the next one is.
    is_checked: bool = False
    #: Why a segment could not be verified; None if all were, or before the first attempt.
    unverified: str | None = None

    async def keep_checking(self) -> None:
        """Repeats `check` until every segment has been verified."""
        while not self.is_checked:
            try:
                await self.check()
                self.unverified = None
            except StorageFailed as error:
                self.unverified = str(error)
                log.warning("the journal could not be verified", extra={"error": str(error)})
                await asyncio.sleep(_PAUSE_SECONDS)

    async def check(self) -> None:
        """Verifies every segment, newest first, and repairs those that are damaged.

        Raises:
            StorageFailed: a segment could not be verified or repaired; all others were.
        """
        failure: StorageFailed | None = None
        for segment in reversed(self.files.segments):
            try:
                await self.read_with_repair(partial(self._verify, segment))
            except StorageFailed as error:
                failure = error
        if failure is not None:
            raise failure
        self.is_checked = True

    async def repair(self, first: int, last: int) -> None:
        """Verifies the segments that hold positions `first`…`last`, and repairs damaged ones."""
        for segment, end in ends_of(self.files.segments, self.head()):
            if segment.first <= last and end >= first:
                await self.read_with_repair(partial(self._verify, segment))

    async def read_with_repair(self, work: Callable[[], T]) -> T:
        """Runs a read in a thread; repairs the damage that it finds and runs it again."""
        repaired: set[int] = set()
        while True:
            try:
                return await asyncio.to_thread(work)
            except JournalDamaged as error:
                if error.position in repaired:
                    raise
                repaired.add(error.position)
                await asyncio.to_thread(self._repair, error)

    def _verify(self, segment: Segment) -> None:
        """Reads a segment from its first entry to its last.

        Raises:
            JournalDamaged: the content is not what was written.
        """
        after = segment.first - 1
        while True:
            # Listed again each time: segments are added, and this one may be deleted concurrently.
            segments = [s for s in self.files.segments if s.first >= segment.first]
            if not segments or segments[0] is not segment:
                return
            _, end = next(iter(ends_of(segments, self.head())))
            if after >= end:
                return
            entries = self.files.readers.read([segment], after, end, _MAX_ENTRIES)
            after = entries[-1].position if entries else end

    def _repair(self, damage: JournalDamaged) -> None:
        """Repairs the segment of a damaged position; the newest one is no longer written then.

        Raises:
            StorageFailed: the segment cannot be repaired.
        """
        with self.files.changing:
            segments = reversed(self.files.segments)
            segment = next((s for s in segments if s.first <= damage.position), None)
            if segment is None:
                return
            try:
                self._verify(segment)
            except JournalDamaged:
                pass
            else:
                return  # another thread has repaired it
            if segment is self.files.segments[-1]:
                self.leave(segment)
            last = self.files.segments[self.files.segments.index(segment) + 1].first - 1
            before = chain_before_of(segment.path)
            try:
                with self.files.readers.without(segment.path):
                    lost = repair(segment.path, last, before, str(damage))
            except (OSError, sqlite3.Error) as error:
                raise StorageFailed(
                    f"journal segment {segment.path} is damaged and cannot be repaired: {error}"
                ) from error
            fresh = [run for run in lost if run not in segment.lost]
            segment.lost = tuple(lost)
            self.files.report_lost(segment, fresh)
