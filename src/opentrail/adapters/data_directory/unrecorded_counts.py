"""Counts of calls without a record, lost or excluded, that survive a restart.

Each process has a file of excluded calls for each hour, mapped into its memory, and locks it while
it counts there. Counts reach the file immediately: a kill loses none, only a power cut does.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import secrets
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from opentrail.adapters.data_directory.files import is_locked, sync_folder
from opentrail.adapters.data_directory.system import sync
from opentrail.core.gaps import Gap
from opentrail.core.selectors.selection import MAX_COUNTERS, OTHER, LeftOut

#: The file is created at its final size, because the disk may be full later.
_GAP_SIZE = 2048


class GapFile:
    """A file per process in a folder; removed when the process ends without a gap.

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
        temporary.rename(self._path)  # so that a file with this name is never too short
        sync_folder(folder)

    def keep(self, gap: Gap | None) -> None:
        """Replaces the content. It survives a kill, and usually a power cut, without a sync."""
        self._gap = gap
        text = b""
        if gap is not None:
            described = gap.as_json()
            text = b"%08x %s" % (zlib.crc32(described), described)
        os.pwrite(self._descriptor, text[:_GAP_SIZE].ljust(_GAP_SIZE), 0)

    def close(self) -> None:
        """Closes the file; removes it if there is no gap."""
        sync(self._descriptor)
        os.close(self._descriptor)
        if self._gap is None:
            self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class DamagedGap:
    """A gap file is damaged: the number of lost records is unknown."""

    problem: str


def kept_gaps(folder: Path) -> Iterator[tuple[Path, Gap | DamagedGap | None]]:
    """Yields the files of ended processes, with their gaps."""
    for path in sorted(folder.glob("*.json")):
        yield path, _gap_in(path)


def _gap_in(path: Path) -> Gap | DamagedGap | None:
    content = path.read_bytes()
    text = content.rstrip(b" ")
    if not text and len(content) == _GAP_SIZE:
        return None
    gap = Gap.from_json(text)  # of an earlier version
    if gap is None and len(content) == _GAP_SIZE and b"%08x" % zlib.crc32(text[9:]) == text[:8]:
        gap = Gap.from_json(text[9:])
    return gap or DamagedGap(f"file lost/{path.name} is damaged: it counted records that were lost")


log = logging.getLogger(__name__)

#: Bytes of a counter: a number, then its subject, in one block of the disk.
_SLOT, _NUMBER = 256, 8
_SIZE = MAX_COUNTERS * _SLOT
_HOUR_SECONDS = 3600
#: Seconds before a file that did not fit on the disk is retried.
_AGAIN_SECONDS = 1.0
_HOUR_FORM = "%Y%m%dT%H"


class LeftOutCounts:
    """Counts calls of one process.

    Args:
        folder: the folder of the files.
        now: returns the time in seconds.
    """

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self._folder, self._now = folder, now
        self._descriptor = -1
        self._map: mmap.mmap | None = None
        self._numbers: memoryview | None = None
        self._slots: dict[LeftOut, int] = {}
        #: End of the file's hour, or time of the next attempt to create a file.
        self._end = 0.0
        self._is_without_room = False

    def count(self, left_out: LeftOut) -> bool:
        """Counts a call; returns False if it cannot.

        Without room for a new hour's file, the previous one gets the count.
        """
        if self._now() >= self._end:
            self._begin()
        if self._numbers is None:
            return False
        slot = self._slots.get(left_out)
        if slot is None:
            slot = self._name(left_out)
        self._numbers[slot * _SLOT // _NUMBER] += 1
        return True

    def _name(self, left_out: LeftOut) -> int:
        """Returns the counter of a kind of call first seen in this hour."""
        text = "\t".join(left_out).encode()
        slot = len(self._slots)
        if slot == MAX_COUNTERS or len(text) > _SLOT - _NUMBER or self._map is None:
            return self._slots[OTHER]
        start = slot * _SLOT + _NUMBER
        self._map[start : start + len(text)] = text
        self._slots[left_out] = slot
        return slot

    def _begin(self) -> None:
        """Begins the file of this hour."""
        try:
            while not self._create(int(self._now() // _HOUR_SECONDS)):
                pass
        except OSError as error:
            self._end, self._is_without_room = self._now() + _AGAIN_SECONDS, True
            log.warning("no room for the counts of this hour", extra={"error": str(error)})

    def _create(self, hour: int) -> bool:
        """Creates a file; returns whether its hour still ran when it was locked.

        So a reader that finds no locked file of a past hour knows that none will follow.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        begin = datetime.fromtimestamp(hour * _HOUR_SECONDS, UTC)
        name = f"{begin:{_HOUR_FORM}}-{os.getpid()}-{secrets.token_hex(8)}.counts"
        path = self._folder / name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A full disk must not show later: a write to memory cannot fail.
            os.posix_fallocate(descriptor, 0, _SIZE)
            if self._now() >= (hour + 1) * _HOUR_SECONDS:
                raise OSError(errno.EAGAIN, "the hour is over")
            mapped = mmap.mmap(descriptor, _SIZE)
        except OSError as error:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            if error.errno == errno.EAGAIN:
                return False
            raise
        self.close()
        self._descriptor, self._map = descriptor, mapped
        self._numbers = memoryview(mapped).cast("Q")
        self._end, self._is_without_room = (hour + 1) * _HOUR_SECONDS, False
        self._name(OTHER)
        return True

    def close_if_over(self) -> None:
        """Closes the file of a past hour."""
        if self._now() >= self._end and not self._is_without_room:
            self.close()

    def close(self) -> None:
        """Closes the file; its counts stay until recorded."""
        if self._numbers is not None and self._map is not None:
            self._numbers.release()
            self._map.close()
            os.close(self._descriptor)
        self._numbers = self._map = None
        self._slots, self._end = {}, 0.0


def counts_in(files: Iterable[Path]) -> Counter[LeftOut]:
    """Returns the sums of the counts in files; a missing file has none."""
    sums: Counter[LeftOut] = Counter()
    for file in files:
        try:
            content = memoryview(file.read_bytes())
        except FileNotFoundError:
            continue
        numbers = content[: len(content) - len(content) % _NUMBER].cast("Q")
        for start in range(0, len(content), _SLOT):
            text = bytes(content[start + _NUMBER : start + _SLOT]).rstrip(b"\0")
            if not text:
                break
            parts = text.decode(errors="replace").split("\t")
            if number := numbers[start // _NUMBER]:
                sums[LeftOut(*parts) if len(parts) == 3 else OTHER] += number
    return sums


def count_files(folder: Path) -> list[Path]:
    """Returns the files with counts, in order of time."""
    return sorted(folder.glob("*.counts"))


def finished_hours(folder: Path, now: datetime) -> dict[datetime, list[Path]]:
    """Returns the files of each past hour in which no process still counts."""
    hours: dict[datetime, list[Path]] = {}
    for file in count_files(folder):
        with suppress(ValueError):  # not a name chosen by a process
            hour = datetime.strptime(file.name.partition("-")[0], _HOUR_FORM).replace(tzinfo=UTC)
            if (now - hour).total_seconds() >= _HOUR_SECONDS:
                hours.setdefault(hour, []).append(file)
    return {hour: files for hour, files in hours.items() if not any(map(is_locked, files))}
