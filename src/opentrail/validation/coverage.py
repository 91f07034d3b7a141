"""Log files that no digest lists: which are errors, and which are explained.

Events that begin or end a chain of digests explain them, if a proven log file has the events.

"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

import orjson

from opentrail.core.errors import ObjectStoreError
from opentrail.core.text import counted
from opentrail.validation.bucket_objects import (
    ChainId,
    Inventory,
    LogName,
    LogPlace,
    Root,
    format_time,
    log_minute,
    log_name,
    minute_after,
    minute_of,
    read_time,
)
from opentrail.validation.chains import Chain, DigestFile, Ending, UncoveredPeriod
from opentrail.validation.content import (
    MAX_LOG_BYTES,
    BadContent,
    hash_unpacked,
    records_in,
    unpack,
)
from opentrail.validation.digests import Digest, ListedLog
from opentrail.validation.report import FindingKind, Report

_SOURCE = "cloudtrail.amazonaws.com"
_START = "StartLogging"
_NAMES = (_START, "StopLogging", "DeleteTrail", "UpdateTrail")
#: Maximum delay between a call and the delivery of its event.
_LATE = timedelta(minutes=30)


class Evidence:
    """Finds calls that started or stopped logging or validation.

    They are events of the trail's home Region, so the log files of that Region's chain have them.
    """

    def __init__(self, inventory: Inventory, chains: Mapping[ChainId, Chain]) -> None:
        self._inventory = inventory
        self._chains = chains
        self._known: dict[str, list[Mapping[str, Any]]] = {}

    def has_events(self, chain: ChainId) -> bool:
        """Returns whether the chain of the trail's home Region is available."""
        return any(True for _ in self._home(chain))

    def ending(self, chain: ChainId, file: DigestFile) -> Ending | None:
        """Returns the event that ended a chain whose last digest is `file`."""
        events = self._events(chain, file)
        return next((event for event in events if event.name != _START), None)

    def is_start(self, chain: ChainId, file: DigestFile) -> bool:
        """Returns whether logging, not only validation, started with a digest."""
        return any(event.name == _START for event in self._events(chain, file))

    def _events(self, chain: ChainId, file: DigestFile) -> Iterator[Ending]:
        if file.digest is None:
            return
        begin, end = file.digest.start - _LATE, file.digest.end
        for home in self._home(chain):
            is_own = home.id == chain
            for other in [file] if is_own else home.good:
                if other.digest is None or not other.is_proven:
                    continue
                # When logging ends, the last digests of all Regions end at about the same time.
                if other.digest.end <= begin or other.digest.start >= end:
                    continue
                for event in self._in(other, chain):
                    if is_own or begin <= event.time <= end:
                        yield event

    def _home(self, chain: ChainId) -> Iterator[Chain]:
        for other in self._chains.values():
            its = other.id
            if (its.trail, its.home_region) != (chain.trail, chain.home_region) or its.backfill:
                continue
            # The calls on an organization's trail are made in its management account.
            is_owner = its.account == chain.account or its.organization == chain.organization != ""
            if its.region == its.home_region and is_owner and other.good:
                yield other

    def _in(self, file: DigestFile, chain: ChainId) -> list[Ending]:
        if file.address not in self._known:
            logs = file.digest.logs() if file.digest else iter(())
            self._known[file.address] = [record for log in logs for record in self._read(log)]
        return [event for record in self._known[file.address] if (event := _event(record, chain))]

    def _read(self, log: ListedLog) -> list[Mapping[str, Any]]:
        """Returns CloudTrail's own events in a log file; [] if the file was altered."""
        try:
            location = self._inventory.open(log.bucket, log.key)
            if location is None:
                return []
            try:
                content = unpack(location[2].stream, MAX_LOG_BYTES)
            finally:
                location[2].stream.close()
        except (ObjectStoreError, BadContent):
            return []
        if hashlib.sha256(content).hexdigest() != log.sha256:
            return []
        if not any(name.encode() in content for name in _NAMES):
            return []
        return [record for record in records_in(content) if _is_own(record)]


def starts_logging(content: bytes, chain: ChainId) -> bool:
    """Returns whether a log file has the event that started logging of a chain's trail."""
    if _START.encode() not in content:
        return False
    events = (_event(record, chain) for record in records_in(content) if _is_own(record))
    return any(event is not None and event.name == _START for event in events)


def _is_own(record: Mapping[str, Any]) -> bool:
    return (
        record.get("eventSource") == _SOURCE
        and record.get("eventName") in _NAMES
        and not record.get("errorCode")
        and isinstance(record.get("requestParameters"), dict)
    )


def _event(record: Mapping[str, Any], chain: ChainId) -> Ending | None:
    """Returns the record as an event if it begins or ends a chain of this trail."""
    name, parameters = record["eventName"], record["requestParameters"]
    trail = str(parameters.get("name", ""))
    if trail != chain.trail and not trail.endswith(
        f":{chain.home_region}:{_arn_end(chain, trail)}"
    ):
        return None
    if name == "UpdateTrail" and not _ends(parameters, chain):
        return None
    try:
        return Ending(str(name), read_time(record.get("eventTime")))
    except ValueError:
        return None


def _arn_end(chain: ChainId, arn: str) -> str:
    account = arn.split(":")[4] if arn.count(":") >= 5 else ""
    return f"{account}:trail/{chain.trail}"


def _ends(parameters: Mapping[str, Any], chain: ChainId) -> bool:
    """Returns whether an UpdateTrail stopped the digests of a chain."""
    if parameters.get("enableLogFileValidation") is False:
        return True
    return parameters.get("isMultiRegionTrail") is False and chain.region != chain.home_region


#: The usual time between two digests.
_HOUR = timedelta(hours=1)
#: The maximum delay of a digest.
_MAX_DELAY = timedelta(minutes=15)
#: Maximum difference between the clocks of two machines.
_SKEW = timedelta(minutes=1)
#: Maximum log files per place that are reported one by one.
_MAX_NAMED = 50


class Coverage(IntEnum):
    """A chain's coverage of a log file's time; of several chains the largest value counts."""

    #: A digest covers it and does not list it.
    COVERED = 0
    #: After the last digest, because logging was stopped or the trail deleted.
    ENDED = 1
    #: Before the chain began.
    BEFORE = 2
    #: While validation was switched off.
    UNVALIDATED = 3
    #: In the time of a digest that ends in the future: the next one may list it.
    NOT_YET = 4
    #: After the newest digest.
    PENDING = 5
    #: In a time that should have been covered.
    GAP = 6


@dataclass(slots=True)
class _Group:
    """Log files of a place that are reported together."""

    first: datetime
    last: datetime
    count: int = 0


@dataclass(frozen=True, slots=True)
class _Ended:
    """A log file delivered after the end of a chain."""

    chain: Chain
    root: Root
    place: LogPlace
    short: bytes
    minute: datetime


@dataclass(slots=True)
class UnlistedLogs:
    """The log files that no digest lists.

    Args:
        chains: all chains, also of trails not validated: log file names do not contain the trail.
        now: when the objects were listed; None for copies.
    """

    inventory: Inventory
    chains: list[Chain]
    report: Report
    since: datetime | None
    until: datetime | None
    now: datetime | None = None
    #: Files that no digest lists although one covers their time.
    extra: list[tuple[Root, str]] = field(default_factory=list)
    #: Files after the end of a chain, by trail and home Region.
    _ended: dict[tuple[str, str], list[_Ended]] = field(default_factory=dict)
    #: Files in places without a chain.
    _strays: dict[tuple[Root, LogPlace], list[bytes]] = field(default_factory=dict)
    _groups: dict[tuple[Root, LogPlace, Coverage | None], _Group] = field(default_factory=dict)

    def classify(self) -> None:
        """Sorts the files by the coverage of their times."""
        for chain in self.chains:
            for gap in chain.gaps:
                gap.logs = 0
        for (root, place), shorts in self.inventory.logs.items():
            chains = [chain for chain in self.chains if _is_of(chain, place)]
            for short in sorted(shorts):
                minute = log_minute(short)
                if minute is None:
                    self.extra.append((root, place.tail(short)))
                elif self._is_in_range(minute):
                    self._classify_log(root, place, short, minute, chains)
        for files in self._ended.values():
            # Logging may have started again: its first digest may not exist yet.
            is_on = any(_starts_logging(file) for file in files)
            for file in files:
                if is_on:
                    self._count(file.root, file.place, Coverage.PENDING, file.minute)
                else:
                    self.extra.append((file.root, file.place.tail(file.short)))
        self.extra.sort(key=lambda entry: entry[1])

    def _classify_log(
        self, root: Root, place: LogPlace, short: bytes, minute: datetime, chains: list[Chain]
    ) -> None:
        covering = [(*coverage_of(chain, minute, self.now), chain) for chain in chains]
        if not covering:
            self._strays.setdefault((root, place), []).append(short)
            self._count(root, place, None, minute)
            return
        where, gap, chain = max(covering, key=lambda candidate: candidate[0])
        if where is Coverage.COVERED:
            self.extra.append((root, place.tail(short)))
            return
        if where is Coverage.ENDED:
            trail = (chain.id.trail, chain.id.home_region)
            ended = _Ended(chain, root, place, short, minute)
            self._ended.setdefault(trail, []).append(ended)
            return
        if gap is not None:
            gap.logs += 1
        self._count(root, place, None if where is Coverage.GAP and gap is None else where, minute)

    def _count(self, root: Root, place: LogPlace, where: Coverage | None, minute: datetime) -> None:
        group = self._groups.setdefault((root, place, where), _Group(minute, minute))
        group.first, group.last = min(group.first, minute), max(group.last, minute)
        group.count += 1

    def report_groups(self) -> None:
        """Reports the files that are not in `extra`."""
        for (root, place, where), group in self._groups.items():
            if where is Coverage.PENDING:
                self.report.pending_logs += group.count
                continue
            if where is Coverage.GAP:
                continue  # reported with the gap
            name, files = root.address(place.folder_tail), counted(group.count, "log file")
            when = (group.first, minute_after(group.last))
            strays = self._strays.get((root, place), ())
            if where is None and 0 < len(strays) <= _MAX_NAMED:
                for short in strays:
                    address = root.address(place.tail(short))
                    self.report.bad(FindingKind.LOG, address, "no digest file covers its Region")
            elif where is None:
                self.report.bad(FindingKind.GAP, name, f"no digest file covers {files}", *when)
            elif where is Coverage.NOT_YET:
                reason = f"{files} not yet covered: the newest digest file ends in the future"
                self.report.unknown(FindingKind.GAP, name, reason, *when)
            else:
                reason = (
                    "came before the first digest file"
                    if where is Coverage.BEFORE
                    else "came while validation was off"
                )
                self.report.unknown(
                    FindingKind.GAP, name, f"{files} {reason}: nothing proves them", *when
                )

    def report_extra(self) -> None:
        """Reports each file in `extra`."""
        for root, tail in self.extra:
            name = log_name(tail)
            start = self._late_start(name) if name is not None else None
            if start is not None and _is_all_before(root, tail, start):
                reason = "its events are from before the first digest file: nothing proves it"
                self.report.unknown(FindingKind.LOG, root.address(tail), reason)
            else:
                self.report.bad(FindingKind.LOG, root.address(tail), "no digest file lists it")

    def _late_start(self, name: LogName) -> datetime | None:
        """Returns the start of a chain that began, while logging was on, when the file came."""
        minute = log_minute(name.short)
        for chain in (chain for chain in self.chains if _is_of(chain, name.place)):
            for digest in chain.begins_late:
                if minute is not None and minute_of(digest.start) <= minute <= digest.end:
                    return digest.start
        return None

    def hashes(self) -> Iterator[tuple[str, str]]:
        """Yields hash and address of each extra file that can be decompressed."""
        for root, tail in self.extra:
            try:
                with closing(root.open(tail).stream) as stream:
                    yield hash_unpacked(stream).sha256, root.address(tail)
            except (ObjectStoreError, BadContent):
                continue

    def _is_in_range(self, minute: datetime) -> bool:
        # A log file of this minute may be listed by the previous digest.
        is_late = self.since is None or minute > minute_of(self.since)
        return is_late and (self.until is None or minute < self.until)


def coverage_of(
    chain: Chain, minute: datetime, now: datetime | None = None
) -> tuple[Coverage, UncoveredPeriod | None]:
    """Returns a chain's coverage of a minute, and the gap that contains the minute.

    Args:
        chain: the chain.
        minute: a minute of a log file that no digest lists.
        now: when the objects were listed, if known. A clock that ran ahead and was set back
            leaves digests that end in the future; log files that come until then are listed by
            the first digest after that time.
    """
    after = minute_after(minute)
    for gap in chain.gaps:
        if gap.start < after and minute <= gap.end:
            if gap.ending is None:
                return Coverage.GAP, gap
            if gap.ending.name == "UpdateTrail":
                return Coverage.UNVALIDATED, None
    good = [file.digest for file in chain.good if file.digest is not None]
    if not good:
        return Coverage.GAP, chain.gaps[0] if chain.gaps else None
    early = next((d for d in good if now is not None and d.end > now + _SKEW), None)
    if early is not None and minute_of(early.start) <= minute <= good[-1].end:
        return Coverage.NOT_YET, None
    if minute >= minute_of(good[-1].end):
        return _behind(chain, good, minute)
    if after <= good[0].start:
        return Coverage.BEFORE, None
    return Coverage.COVERED, None


def longest_wait(good: Sequence[Digest]) -> timedelta:
    """Returns the maximum time between the end of a digest and the arrival of the next."""
    windows = sorted(digest.end - digest.start for digest in good)
    return 2 * max(_HOUR, windows[len(windows) // 2]) + _MAX_DELAY


def _behind(
    chain: Chain, good: Sequence[Digest], minute: datetime
) -> tuple[Coverage, UncoveredPeriod | None]:
    """Returns a chain's coverage of a minute after its newest digest."""
    if chain.ending is not None:
        is_update = chain.ending.name == "UpdateTrail"
        return (Coverage.UNVALIDATED if is_update else Coverage.ENDED), None
    end = good[-1].end
    if minute < end + longest_wait(good):
        return Coverage.PENDING, None
    # Log files continued for longer than a digest can take: the last digests are missing.
    if not chain.gaps or chain.gaps[-1].start != end:
        chain.gaps.append(UncoveredPeriod(end, end))
    tail = chain.gaps[-1]
    tail.end = max(tail.end, minute_after(minute))
    return Coverage.GAP, tail


def report_gaps(chain: Chain, report: Report, has_events: bool) -> None:
    """Reports the times of a chain that no digest covers, and why.

    `has_events`: whether the home Region's events are available, which would show that logging
    was stopped.
    """
    for gap in chain.gaps:
        if gap.start >= gap.end and not gap.logs and gap.ended_with is None:
            continue
        when = (gap.start, max(gap.start, gap.end))
        logs = f"; {counted(gap.logs, 'log file')} delivered then not proven" if gap.logs else ""
        name = chain.id.describe()
        if chain.has_unread(gap):
            reason = f"digest files of this time cannot be read{logs}"
            report.unknown(FindingKind.GAP, name, reason, *when)
        elif gap.ended_with is None:
            report.bad(FindingKind.GAP, name, f"no good digest file covers this time{logs}", *when)
        elif gap.ending is not None:
            event = f"{gap.ending.name} at {format_time(gap.ending.time)}"
            report.note(FindingKind.GAP, name, f"nothing was signed, after {event}", *when)
        elif has_events:
            reason = (
                f"the chain ends and another begins, but no event shows that logging stopped{logs}"
            )
            report.bad(FindingKind.GAP, name, reason, *when)
        else:
            reason = (
                "the chain ends and another begins; whether logging stopped is in log files"
                f" of {chain.id.home_region}, which are not here{logs}"
            )
            report.unknown(FindingKind.GAP, name, reason, *when)


def _is_all_before(root: Root, tail: str, start: datetime) -> bool:
    """Returns whether all events of a log file are older than a time."""
    try:
        with closing(root.open(tail).stream) as stream:
            records = orjson.loads(unpack(stream, MAX_LOG_BYTES))["Records"]
        return all(read_time(record["eventTime"]) <= start for record in records)
    except (ObjectStoreError, BadContent, ValueError, KeyError, TypeError):
        return False


def _starts_logging(file: _Ended) -> bool:
    """Returns whether a log file has an event that started logging."""
    try:
        with closing(file.root.open(file.place.tail(file.short)).stream) as stream:
            return starts_logging(unpack(stream, MAX_LOG_BYTES), file.chain.id)
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
