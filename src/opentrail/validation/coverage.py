"""Log files that no digest lists: which are out of order, and which are explained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum

import orjson

from opentrail.core.errors import ObjectStoreError
from opentrail.validation.chains import Chain, UncoveredPeriod
from opentrail.validation.content import LARGEST_LOG, BadContent, hash_unpacked, unpack
from opentrail.validation.digests import Digest
from opentrail.validation.evidence import tells_start
from opentrail.validation.inventory import Inventory, Root
from opentrail.validation.names import (
    LogName,
    LogPlace,
    log_minute,
    log_name,
    minute_after,
    minute_of,
    read_time,
    told_time,
)
from opentrail.validation.report import FindingKind, Report

#: How far digests end apart, and how late one may be.
_HOUR, _LATE = timedelta(hours=1), timedelta(minutes=15)
#: Clocks of two machines differ by less.
_SKEW = timedelta(minutes=1)
#: So many log files of a place of which no digest tells are named one by one.
_MOST_NAMED = 50


class Where(IntEnum):
    """How the time of a log file lies to a chain; the largest of several chains counts."""

    #: A digest covers it and does not list it.
    COVERED = 0
    #: Behind the last digest, after logging was stopped or the trail deleted.
    ENDED = 1
    #: Before the chain began.
    BEFORE = 2
    #: While validation was switched off.
    UNVALIDATED = 3
    #: In the time of a digest that ends in the future: the next one may list it.
    NOT_YET = 4
    #: Behind the newest digest.
    PENDING = 5
    #: In a time that should have been covered.
    GAP = 6


@dataclass(slots=True)
class _Group:
    """Log files of a place that are told of together."""

    first: datetime
    last: datetime
    count: int = 0


@dataclass(frozen=True, slots=True)
class _Ended:
    """A log file from after the end of a chain."""

    chain: Chain
    root: Root
    place: LogPlace
    short: bytes
    minute: datetime


@dataclass(slots=True)
class Leftovers:
    """What is left when all digests have struck off what they list.

    Args:
        chains: all chains, of unwanted trails, too: names of log files tell no trail.
        now: when the objects were listed, None for copies.
    """

    inventory: Inventory
    chains: list[Chain]
    report: Report
    since: datetime | None
    until: datetime | None
    now: datetime | None = None
    #: Names of files that no digest lists, though one covers their time.
    extra: list[tuple[Root, str]] = field(default_factory=list)
    #: Those after an end, by trail and home Region, with their minutes and chains.
    _ended: dict[tuple[str, str], list[_Ended]] = field(default_factory=dict)
    #: Names of files of places without a chain.
    _strays: dict[tuple[Root, LogPlace], list[bytes]] = field(default_factory=dict)
    _groups: dict[tuple[Root, LogPlace, Where | None], _Group] = field(default_factory=dict)

    def sort(self) -> None:
        """Tells those that are explained from those that are not."""
        for chain in self.chains:
            for stretch in chain.stretches:
                stretch.logs = 0
        for (root, place), shorts in self.inventory.logs.items():
            chains = [chain for chain in self.chains if _is_of(chain, place)]
            for short in sorted(shorts):
                minute = log_minute(short)
                if minute is None:
                    self.extra.append((root, place.tail(short)))
                elif self._is_in_range(minute):
                    self._take(root, place, short, minute, chains)
        for files in self._ended.values():
            # Logging may have been started again: then its first digest is yet to come.
            is_on = any(_tells_start(file) for file in files)
            for file in files:
                if is_on:
                    self._count(file.root, file.place, Where.PENDING, file.minute)
                else:
                    self.extra.append((file.root, file.place.tail(file.short)))
        self.extra.sort(key=lambda found: found[1])

    def _take(
        self, root: Root, place: LogPlace, short: bytes, minute: datetime, chains: list[Chain]
    ) -> None:
        lies = [(*where_is(chain, minute, self.now), chain) for chain in chains]
        if not lies:
            self._strays.setdefault((root, place), []).append(short)
            self._count(root, place, None, minute)
            return
        where, stretch, chain = max(lies, key=lambda found: found[0])
        if where is Where.COVERED:
            self.extra.append((root, place.tail(short)))
            return
        if where is Where.ENDED:
            trail = (chain.id.trail, chain.id.home_region)
            ended = _Ended(chain, root, place, short, minute)
            self._ended.setdefault(trail, []).append(ended)
            return
        if stretch is not None:
            stretch.logs += 1
        self._count(root, place, None if where is Where.GAP and stretch is None else where, minute)

    def _count(self, root: Root, place: LogPlace, where: Where | None, minute: datetime) -> None:
        group = self._groups.setdefault((root, place, where), _Group(minute, minute))
        group.first, group.last = min(group.first, minute), max(group.last, minute)
        group.count += 1

    def tell(self) -> None:
        """Counts and names those that are not `extra`."""
        for (root, place, where), group in self._groups.items():
            if where is Where.PENDING:
                self.report.pending_logs += group.count
                continue
            if where is Where.GAP:
                continue  # told with the gap
            name, files = root.told(place.folder_tail), _files(group.count)
            when = (group.first, minute_after(group.last))
            strays = self._strays.get((root, place), ())
            if where is None and 0 < len(strays) <= _MOST_NAMED:
                for short in strays:
                    told = root.told(place.tail(short))
                    self.report.bad(FindingKind.LOG, told, "no digest file tells of its Region")
            elif where is None:
                self.report.bad(FindingKind.GAP, name, f"no digest file tells of {files}", *when)
            elif where is Where.NOT_YET:
                reason = f"{files} not yet covered: the newest digest file ends in the future"
                self.report.unknown(FindingKind.GAP, name, reason, *when)
            else:
                reason = (
                    "came before the first digest file"
                    if where is Where.BEFORE
                    else "came while validation was off"
                )
                self.report.unknown(
                    FindingKind.GAP, name, f"{files} {reason}: nothing proves them", *when
                )

    def tell_extra(self) -> None:
        """Names each file that no digest lists, though one covers its time."""
        for root, tail in self.extra:
            name = log_name(tail)
            start = self._late_start(name) if name is not None else None
            if start is not None and _is_all_before(root, tail, start):
                reason = "its events are from before the first digest file: nothing proves it"
                self.report.unknown(FindingKind.LOG, root.told(tail), reason)
            else:
                self.report.bad(FindingKind.LOG, root.told(tail), "no digest file lists it")

    def _late_start(self, name: LogName) -> datetime | None:
        """Returns since when a chain goes that began in the time of a log file, while logging."""
        minute = log_minute(name.short)
        for chain in (chain for chain in self.chains if _is_of(chain, name.place)):
            for digest in chain.begins_late:
                if minute is not None and minute_of(digest.start) <= minute <= digest.end:
                    return digest.start
        return None

    def hashes(self) -> Iterator[tuple[str, str]]:
        """Yields hash and name of each extra file that can be unpacked."""
        for root, tail in self.extra:
            try:
                with closing(root.open(tail).stream) as stream:
                    yield hash_unpacked(stream).sha256, root.told(tail)
            except (ObjectStoreError, BadContent):
                continue

    def _is_in_range(self, minute: datetime) -> bool:
        # A log file of the very minute may be listed by the digest before.
        is_late = self.since is None or minute > minute_of(self.since)
        return is_late and (self.until is None or minute < self.until)


def where_is(
    chain: Chain, minute: datetime, now: datetime | None = None
) -> tuple[Where, UncoveredPeriod | None]:
    """Returns how a minute lies to a chain, and the stretch that it is in.

    Args:
        chain: the chain.
        minute: a minute of a log file that no digest lists.
        now: the present time, if it is known that what was listed is of now. A clock that went
            ahead and was set back leaves digests that end in the future; log files that come
            meanwhile are listed by the first digest after that time.
    """
    after = minute_after(minute)
    for stretch in chain.stretches:
        if stretch.start < after and minute <= stretch.end:
            if stretch.ending is None:
                return Where.GAP, stretch
            if stretch.ending.name == "UpdateTrail":
                return Where.UNVALIDATED, None
    good = [file.digest for file in chain.good if file.digest is not None]
    if not good:
        return Where.GAP, chain.stretches[0] if chain.stretches else None
    early = next((d for d in good if now is not None and d.end > now + _SKEW), None)
    if early is not None and minute_of(early.start) <= minute <= good[-1].end:
        return Where.NOT_YET, None
    if minute >= minute_of(good[-1].end):
        return _behind(chain, good, minute)
    if after <= good[0].start:
        return Where.BEFORE, None
    return Where.COVERED, None


def patience(good: Sequence[Digest]) -> timedelta:
    """Returns how long after a digest of a chain the next must have come."""
    windows = sorted(digest.end - digest.start for digest in good)
    return 2 * max(_HOUR, windows[len(windows) // 2]) + _LATE


def _behind(
    chain: Chain, good: Sequence[Digest], minute: datetime
) -> tuple[Where, UncoveredPeriod | None]:
    """Returns how a minute behind the newest digest lies."""
    if chain.ending is not None:
        is_update = chain.ending.name == "UpdateTrail"
        return (Where.UNVALIDATED if is_update else Where.ENDED), None
    end = good[-1].end
    if minute < end + patience(good):
        return Where.PENDING, None
    # Log files went on for longer than digests ever take: the tail is gone.
    if not chain.stretches or chain.stretches[-1].start != end:
        chain.stretches.append(UncoveredPeriod(end, end))
    tail = chain.stretches[-1]
    tail.end = max(tail.end, minute_after(minute))
    return Where.GAP, tail


def tell_stretches(chain: Chain, report: Report, can_tell: bool) -> None:
    """Names the times of a chain that no digest covers, and why.

    The home Region's events tell whether logging was stopped, if they are there: `can_tell`.
    """
    for stretch in chain.stretches:
        if stretch.start >= stretch.end and not stretch.logs and stretch.ended_with is None:
            continue
        when = (stretch.start, max(stretch.start, stretch.end))
        logs = f"; {_files(stretch.logs)} delivered then not proven" if stretch.logs else ""
        name = chain.id.told()
        if chain.has_unread(stretch):
            reason = f"digest files of this time cannot be read{logs}"
            report.unknown(FindingKind.GAP, name, reason, *when)
        elif stretch.ended_with is None:
            report.bad(
                FindingKind.GAP, name, f"no digest file that is good covers this time{logs}", *when
            )
        elif stretch.ending is not None:
            event = f"{stretch.ending.name} at {told_time(stretch.ending.time)}"
            report.note(FindingKind.GAP, name, f"nothing was signed, after {event}", *when)
        elif can_tell:
            reason = (
                f"the chain ends and another begins, but no event tells that logging stopped{logs}"
            )
            report.bad(FindingKind.GAP, name, reason, *when)
        else:
            reason = (
                "the chain ends and another begins; whether logging stopped is told by log files"
                f" of {chain.id.home_region}, which are not here{logs}"
            )
            report.unknown(FindingKind.GAP, name, reason, *when)


def _is_all_before(root: Root, tail: str, start: datetime) -> bool:
    """Returns whether all events of a log file are from before a time."""
    try:
        with closing(root.open(tail).stream) as stream:
            records = orjson.loads(unpack(stream, LARGEST_LOG))["Records"]
        return all(read_time(record["eventTime"]) <= start for record in records)
    except (ObjectStoreError, BadContent, ValueError, KeyError, TypeError):
        return False


def _tells_start(file: _Ended) -> bool:
    """Returns whether a log file tells that logging was started."""
    try:
        with closing(file.root.open(file.place.tail(file.short)).stream) as stream:
            return tells_start(unpack(stream, LARGEST_LOG), file.chain.id)
    except (ObjectStoreError, BadContent):
        return False


def _is_of(chain: Chain, place: LogPlace) -> bool:
    its = chain.id
    if its.backfill:
        return False
    return (its.organization, its.account, its.region) == (
        place.organization,
        place.account,
        place.region,
    )


def _files(count: int) -> str:
    return "1 log file" if count == 1 else f"{count:,} log files"
