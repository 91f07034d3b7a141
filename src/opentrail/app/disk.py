"""The disk of the data directory: its use, the time until it is full, and expiry."""

from __future__ import annotations

import asyncio
import math
import shutil
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.data_directory.sealed_file_names import MAX_FILE_BYTES
from opentrail.ports.event_store import DATA_CATEGORIES, Excess, ExpiryReason
from opentrail.ports.journal import TrimmedJournal
from opentrail.ports.metrics import Metrics
from opentrail.settings import Settings

#: Reasons for expiry by space, in their order.
REASONS: tuple[ExpiryReason, ...] = ("size", "disk")
#: Shares of the disk in use that trigger a warning, and expiry.
_WARN_SHARE = 0.8
_EXPIRE_SHARE = 0.9
#: Seconds of growth for which a part of `--history-size` stays free, and that part's bounds.
_SLACK_SECONDS = 20
_MIN_SLACK, _MAX_SLACK = 1 / 50, 1 / 4
#: Below this share of the free space, expiring records would not help.
_HELPFUL = 10
#: With less than this, every disk is tight.
_TIGHT_BYTES = 1 << 30
#: Maximum share of the space for a file and a segment: expiry deletes and rewrites files.
_FILES = 64
_SEGMENTS = 32
_MIN_FILE_BYTES = 256 * 1024
#: Part of the disk that the journal leaves to other files, and its maximum.
_RESERVED_PART: Final = 32
_MAX_RESERVED_BYTES: Final = 64 << 20
_MIN_SEGMENT_BYTES = 1 << 20
#: Bytes of free space that a copy of events needs while it is written, per byte in the journal.
_COPY_RATIO: Final = 3
#: Minimum positions in a copy, so that there is progress.
_MIN_FITTING_POSITIONS: Final = 100
#: Seconds between two checks; fewer while the space lasts less than four of them.
_MAX_PAUSE_SECONDS = 10.0
_MIN_PAUSE_SECONDS = 1.0
#: Maximum bytes in the journal per byte of a record.
_JOURNAL_RATIO = 1.5
#: Seconds of the measurement of the record rate, and between two of its samples.
_RATE_SECONDS = 3_600.0
_SAMPLE_SECONDS = 30.0
_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes of records in the data directory, and of its file system."""

    journal: int
    history: int
    used: int
    free: int

    @property
    def records(self) -> int:
        """The bytes that `--history-size` limits."""
        return self.journal + self.history

    @property
    def share(self) -> float:
        """The used share of the file system."""
        return self.used / max(1, self.used + self.free)


def measure(data: DataDirectory) -> DiskUse:
    """Returns the bytes of records in a data directory, and the state of its file system."""
    disk = shutil.disk_usage(data.root)
    return DiskUse(size_of(data.journal), size_of(data.history), disk.used, disk.free)


def size_of(folder: Path) -> int:
    """Returns the bytes on disk of all files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except OSError:
            continue  # removed since it was listed
    return total


class FileLimits(NamedTuple):
    """Bytes of files in the data directory."""

    #: Maximum of a file of event history, and of a segment of the journal.
    file_bytes: int
    segment_bytes: int
    #: Free space that the journal leaves for a file of event history and for deliveries, so that
    #: events can expire.
    reserved_bytes: int


def file_limits(settings: Settings, folder: Path) -> FileLimits:
    """Returns the limits for a data directory in a folder."""
    disk = shutil.disk_usage(folder).total
    space = min(settings.history_size or MAX_FILE_BYTES, disk)
    return FileLimits(
        max(_MIN_FILE_BYTES, space // _FILES),
        max(_MIN_SEGMENT_BYTES, space // _SEGMENTS),
        min(_MAX_RESERVED_BYTES, disk // _RESERVED_PART),
    )


class DiskWatch:
    """Watches the disk of a data directory.

    Args:
        data: the data directory.
        settings: the server's settings.
        metrics: have the bytes of records by category, and receive the disk's figures.
        clock: returns seconds.
    """

    def __init__(
        self,
        data: DataDirectory,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._data = data
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._use: DiskUse | None = None
        #: Growth of the disk use in bytes a second between the last checks.
        self._growth = 0.0
        #: Time of that measurement, the bytes in use, and the bytes of all records then.
        self._measured: tuple[float, int, int] | None = None
        #: Times, and bytes of records by category up to then.
        self._samples: deque[tuple[float, Mapping[str, int]]] = deque()
        #: Bytes in sealed files per event; None without sealed events.
        self.bytes_per_event: float | None = None
        #: Excess after the last expiry, and who needs the events that take it.
        self.left_over: Excess | None = None
        self.holders: Sequence[str] = ()

    async def check(self) -> DiskUse:
        """Measures the disk."""
        use, now = await asyncio.to_thread(measure, self._data), self._clock()
        self._use = use
        if self._measured is None:
            self._measured = now, use.used, sum(self._metrics.record_bytes.by_label.values())
        elif (seconds := now - self._measured[0]) >= _MIN_PAUSE_SECONDS:
            # An expiry in between does not mean that fewer records arrive.
            text = sum(self._metrics.record_bytes.by_label.values())
            written = (text - self._measured[2]) * _JOURNAL_RATIO
            self._growth = max(use.used - self._measured[1], written, 0) / seconds
            self._measured = now, use.used, text
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_SECONDS:
            self._samples.append((now, Counter(self._metrics.record_bytes.by_label)))
        while len(self._samples) > 1 and now - self._samples[1][0] >= _RATE_SECONDS:
            self._samples.popleft()
        gauges = self._metrics
        gauges.disk_bytes.labels("journal").set(use.journal)
        gauges.disk_bytes.labels("history").set(use.history)
        gauges.disk_free.set(use.free)
        days = self.days_left
        gauges.disk_days_left.set(math.inf if days is None else days)
        return use

    @property
    def pause(self) -> float:
        """Seconds until the next check."""
        use, size = self._use, self._settings.history_size
        if use is None or not self._growth:
            return _MAX_PAUSE_SECONDS
        space = use.used + use.free
        room = [_EXPIRE_SHARE * space - use.used, use.free]
        if size is not None:
            room.append(self._target(size) - use.records)
        least = min((each for each in room if each > 0), default=0)
        return min(_MAX_PAUSE_SECONDS, max(_MIN_PAUSE_SECONDS, least / self._growth / 4))

    def fitting_positions(self, journal: TrimmedJournal) -> int:
        """Returns the number of the journal's positions that fit on the disk in other files."""
        count = journal.head - journal.first + 1
        if self._use is None or count <= 0 or not self._use.journal:
            return sys.maxsize
        free = shutil.disk_usage(self._data.root).free
        fitting = int(free * count / self._use.journal / _COPY_RATIO)
        return max(_MIN_FITTING_POSITIONS, fitting)

    # Required expiry

    def excess(self, reason: ExpiryReason, pinned: int = 0) -> Excess | None:
        """Returns the excess for a reason of `REASONS`; None without an excess.

        For `size`, part of `--history-size` stays free for records that arrive before the next
        check. `pinned` bytes of records do not count.
        """
        use, size, mode = self._use, self._settings.history_size, self._settings.disk_full_expiry
        if use is None:
            return None
        if reason == "size":
            excess = 0 if size is None else use.records - pinned - self._target(size)
            return Excess(excess, "size") if excess > 0 else None
        if mode not in ("data", "all") or use.records * _HELPFUL < use.free:
            return None
        excess = use.used - int(_EXPIRE_SHARE * (use.used + use.free))
        return Excess(excess, "disk", mode == "data") if excess > 0 else None

    def _target(self, size: int) -> int:
        slack = min(max(self._growth * _SLACK_SECONDS, size * _MIN_SLACK), size * _MAX_SLACK)
        return size - int(slack)

    @property
    def is_over(self) -> bool:
        """Whether events must expire now."""
        return any(self.excess(reason) for reason in REASONS)

    # Problems to report

    def rates(self) -> dict[str, float]:
        """Returns the bytes of records a second, by category, of the last hour at most."""
        if not self._samples:
            return {}
        (since, before), now = self._samples[0], self._clock()
        if now <= since:
            return {}
        counted = self._metrics.record_bytes.by_label
        return {name: (counted[name] - before.get(name, 0)) / (now - since) for name in counted}

    def per_day(self) -> dict[str, int]:
        """Returns the future bytes of records of each category, per day of records.

        Measured on sealed files; before the first one, on the records.
        """
        text = sum(self._metrics.record_bytes.by_label.values())
        ratio = 1.0
        if self.bytes_per_event is not None and text:
            ratio = self.bytes_per_event * self._metrics.visible_records / text
        return {name: int(rate * ratio * _DAY) for name, rate in self.rates().items()}

    @property
    def days_left(self) -> float | None:
        """Days until the disk is full at the current rate; None if it never is.

        Records that retention or `--history-size` deletes in time do not fill it.
        """
        use, settings = self._use, self._settings
        per_day = self.per_day()
        total = sum(per_day.values())
        if use is None or not total:
            return None
        days, data_days = settings.history_retention_days, settings.days_of_data
        final = sum(
            size * (data_days if name in DATA_CATEGORIES else days)
            for name, size in per_day.items()
        )
        final = min(final, settings.history_size or final)
        if final <= use.records + use.free:
            return None
        return use.free / total

    @property
    def problems(self) -> list[str]:
        """Returns the problem of the disk, and its remedy."""
        use, size = self._use, self._settings.history_size
        if use is None:
            return []
        problems = []
        left, unsealed = self.left_over, "the rest is not in a verified file yet"
        if left is not None and left.reason == "size" and size is not None and use.records > size:
            problems.append(
                f"records take {_gigabytes(use.records)}, more than --history-size "
                f"{_gigabytes(size)}: {'; '.join(self.holders) or unsealed}"
            )
        is_tight = use.free < max(_TIGHT_BYTES, _HELPFUL * use.records)
        if use.share >= _WARN_SHARE and is_tight:
            problems.append(self._full(use))
        return problems

    def _full(self, use: DiskUse) -> str:
        days, mode = self.days_left, self._settings.disk_full_expiry
        lasts = "" if days is None else f", for {days:,.1f} days at the present rate"
        what = {"data": "the oldest data events expire", "all": "the oldest events expire"}
        kind = {"data": "data events", "all": "events"}.get(mode, "events")
        then = f"at 90 % {what[mode]}" if mode in what else "when it is full calls fail"
        if mode in what and use.share >= _EXPIRE_SHARE:
            then = f"{what[mode]} until it is less than 90 % full"
            if self.left_over is not None and self.left_over.reason == "disk":
                held = f" ({'; '.join(self.holders)})" if self.holders else ""
                then = f"no {kind} are left that may expire{held}: calls fail when it is full"
        limits = "--history-size or --data-event-days"
        if mode not in what:
            limits = "--history-size, --data-event-days or --disk-full-expiry data"
        return (
            f"the disk of {self._data.root} is {math.floor(use.share * 100)} % full: records take "
            f"{_gigabytes(use.records)}, {_gigabytes(use.free)} are free{lasts}; {then}. Enlarge "
            f"it, free space, or set {limits}"
        )

    async def document(self, spilled: int) -> dict[str, Any]:
        """Returns the disk figures of `opentrail status`; `spilled` is the bytes of bodies."""
        use, root = await self.check(), self._data.root
        used = await asyncio.to_thread(size_of, root)
        days = self.days_left
        return {
            "path": str(root.resolve()),
            "used": used,
            "free": use.free,
            "size": use.used + use.free,
            "parts": {
                "journal": use.journal,
                "history": use.history,
                "spilledBodies": spilled,
                "other": max(0, used - use.records),
            },
            "bytesPerDay": self.per_day(),
            "daysLeft": None if days is None else round(days, 1),
        }


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"
