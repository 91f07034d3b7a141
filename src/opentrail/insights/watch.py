"""Counts events by key and minute, and closes minutes when their events have arrived."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast
from zipfile import BadZipFile

import msgspec
import numpy as np

from opentrail.core.errors import StorageFailed
from opentrail.core.event import DATA, MANAGEMENT, Entry, Json, parse_time
from opentrail.core.event_record import EventRecord
from opentrail.insights.baseline import DAY, DROP_WINDOWS, Baselines
from opentrail.insights.detector import PRESETS, Detector, DetectorState, Transition
from opentrail.insights.findings import (
    Detection,
    Expected,
    PrincipalFinding,
    WatchState,
    minute_of,
    time_of,
)
from opentrail.insights.principals import Principals, PrincipalsState
from opentrail.ports.event_store import CallCounts, CallKey

#: Time after the end of a minute within which its events arrive, but for late ones.
LATENESS = timedelta(seconds=30)
#: Minutes; events that are later than this are skipped.
_TOO_LATE = 180
#: Minutes; events that are further ahead than this are skipped.
_TOO_EARLY = DAY
#: Minutes that may pass unobserved before drops are not looked for, as no calls were recorded.
_UNOBSERVED = 10
#: Maximum number of keys; calls of others are not watched.
MAX_KEYS = 250_000
#: Days without a call after which a key is forgotten: the first of these that leaves room. Anyone
#: may call operations that do not exist, but must repeat them every day to keep others out.
_FORGOTTEN = (35, 14, 7, 3, 1)
_FORMAT = 1
_NO_SNAPSHOT = (ValueError, KeyError, OSError, EOFError, BadZipFile, msgspec.MsgspecError)


class _Meta(msgspec.Struct):
    """The part of a snapshot outside the arrays."""

    format: int
    preset: str
    cursor: int
    imported: int
    since: int
    now: int
    watermark: datetime
    keys: list[CallKey]
    pending: list[tuple[int, list[tuple[int, int]]]]
    late: list[tuple[int, list[tuple[int, int]]]]
    detector: DetectorState
    findings: list[Detection]
    number: int
    principals: PrincipalsState = msgspec.field(default_factory=PrincipalsState)
    principal_findings: list[PrincipalFinding] = []
    unwatched: int = 0


class Watch:
    """All keys, and the minutes that are not closed yet.

    Whatever it finds follows from the events and the times given, never from the current time.
    """

    def __init__(self, preset: str, since: int, types: Sequence[str] = ()) -> None:
        self.preset = preset
        #: The first minute that is known about.
        self.since = since
        #: Position of the last entry, and number of the last imported event, that are counted.
        self.cursor = self.imported = 0
        self.findings: list[Detection] = []
        self.principal_findings: list[PrincipalFinding] = []
        self.detector = Detector(PRESETS[preset], since)
        #: Finds first uses and bursts of principals.
        self.principals = Principals(types, since - 1)
        self.unwatched = 0
        self._watermark = time_of(since)
        self._keys: list[CallKey] = []
        self._rows: dict[tuple[Any, ...], int] = {}
        self._pending: defaultdict[int, defaultdict[int, int]] = defaultdict(_counts)
        self._late: defaultdict[int, defaultdict[int, int]] = defaultdict(_counts)
        self._number = 0
        self._set_next()

    @property
    def now(self) -> int:
        """The last closed minute."""
        return self.detector.baselines.now

    @property
    def state(self) -> WatchState:
        """The progress of the watch, and its findings."""
        return WatchState(
            True,
            self.cursor,
            self.imported,
            self.now,
            self.since,
            len(self._keys),
            self.unwatched,
            len(self.detector.incidents),
            tuple(self.findings),
            tuple(self.principal_findings),
            self.principals.unwatched,
        )

    # Events

    def observe(self, entries: Sequence[Entry]) -> None:
        """Counts entries of the journal; skips entries already counted."""
        for entry in entries:
            if entry.position <= self.cursor:
                continue
            self.cursor = entry.position
            if entry.recorded_at >= self._next:
                self.close_until(entry.recorded_at)
            if entry.category in (MANAGEMENT, DATA):
                self._count(entry)
                self._report_principals(self.principals.observe(entry))

    def _count(self, entry: Entry) -> None:
        record = EventRecord(entry.record)
        fields = record.fields
        try:
            minute = minute_of(parse_time(record.event_time))
        except (KeyError, ValueError):
            return  # a foreign record
        if minute - self.now >= _TOO_EARLY:
            return
        key = (entry.account, entry.region, entry.category, fields.event_source, fields.event_name)
        if entry.category == DATA or not fields.read_only:
            self._add((*key, None), minute, 1)
        if fields.error_code:
            self._add((*key, fields.error_code), minute, 1)

    def learn(self, counts: Iterable[CallCounts]) -> None:
        """Counts events of minutes that are not closed yet."""
        for kind in counts:
            key = (kind.account, kind.region, kind.category, kind.event_source, kind.event_name)
            for minute, count in zip(kind.minutes, kind.counts, strict=True):
                if kind.category == DATA or not kind.read_only:
                    self._add((*key, None), minute, count)
                if kind.error_code:
                    self._add((*key, kind.error_code), minute, count)

    def _row(self, key: tuple[Any, ...]) -> int | None:
        """Returns the row of a key, or None if there are too many or it cannot be stored."""
        row = self._rows.get(key)
        if row is None and len(self._keys) < MAX_KEYS and _is_text(key):
            row = self._rows[key] = len(self._keys)
            self._keys.append(CallKey(*key))
            self.detector.add(str(key[0]))
        return row

    def _add(self, key: tuple[Any, ...], minute: int, count: int) -> None:
        row = self._row(key)
        if row is None:
            self.unwatched += count
            return
        if minute > self.now:
            self._pending[minute][row] += count
        elif self.now - minute < _TOO_LATE:
            self._late[minute][row] += count

    # Time

    def close_until(self, moment: datetime) -> None:
        """Closes the minutes whose events have arrived by this time."""
        self._watermark = max(self._watermark, moment)
        while self._next <= self._watermark:
            if self._late:
                late = [(at, *_arrays(counts)) for at, counts in sorted(self._late.items())]
                self._late.clear()
                self._report(self.detector.add_late(late))
            minute = self.now + 1
            if minute % DAY == 0:
                self._forget()
            self._report(self.detector.close(minute, *_arrays(self._pending.pop(minute, {}))))
            self._report_principals(self.principals.close(minute))
            self._set_next()

    def _forget(self) -> None:
        """Forgets the keys that had no call for a long time, a shorter one if there is no room."""
        detector = self.detector
        for days in _FORGOTTEN:
            idle = set(detector.idle(days).tolist())
            if len(self._keys) - len(idle) <= MAX_KEYS * 3 // 4:
                break
        idle -= detector.expected_drops
        for rows_in_use in (detector.incidents, detector.expected_sums):
            idle -= rows_in_use.keys()
        for counts in (*self._pending.values(), *self._late.values()):
            idle -= counts.keys()
        if not idle:
            return
        rows = [row for row in range(len(self._keys)) if row not in idle]
        numbers = {row: number for number, row in enumerate(rows)}
        detector.keep(np.array(rows, np.intp))
        self._keys = [self._keys[row] for row in rows]
        self._rows = {_tuple(key): row for row, key in enumerate(self._keys)}
        for pending in (self._pending, self._late):
            for minute, counts in pending.items():
                renumbered = {numbers[row]: count for row, count in counts.items()}
                pending[minute] = defaultdict(int, renumbered)

    def resume(self, moment: datetime) -> None:
        """Continues at this time; if it is long after the last minute, calls were not recorded."""
        minute = minute_of(moment)
        if minute - self.now > _UNOBSERVED:
            self.detector.drops_from = minute + DROP_WINDOWS[-1]

    def _set_next(self) -> None:
        """Computes the time at which the next minute is closed."""
        self._next = time_of(self.now + 2) + LATENESS

    def _report(self, changes: Iterable[Transition]) -> None:
        for change in changes:
            self._number += 1
            key = self._keys[change.row]
            start, found, rises, end = change.start, change.found, change.rises, change.end
            self.findings.append(Detection(self._number, key, start, found, rises, end, self.since))

    def _report_principals(self, findings: Iterable[PrincipalFinding]) -> None:
        for finding in findings:
            self._number += 1
            self.principal_findings.append(replace(finding, number=self._number))

    def take_over(self, cursor: int, imported: int, before: Watch | None) -> None:
        """Replaces the previous watch, once everything up to these events is learned.

        Its open incidents and bursts continue unchanged.
        """
        self.cursor, self.imported = cursor, imported
        self._take_over_principals(before)
        self.findings = []
        if before is None:
            # Imported events end at some time: the calls missing after it are no drop.
            self.detector.drops_from = self.now + DROP_WINDOWS[-1]
            incidents = self.detector.incidents
            rises = {row: rise for row, rise in incidents.items() if rise.rises}
            self.detector.incidents = rises
            self._report(
                Transition(incident.row, incident.start, incident.found, True)
                for incident in rises.values()
            )
            return
        self._number, self.findings = before._number, before.findings
        self.detector.drops_from = before.detector.drops_from
        self.detector.incidents.clear()
        for row, incident in before.detector.incidents.items():
            own = self._rows.get(_tuple(before._keys[row]))
            if own is not None:
                incident.row = own
                self.detector.incidents[own] = incident

    def _take_over_principals(self, before: Watch | None) -> None:
        """Continues with the other watch's values of principals, and the learned values."""
        self.principal_findings = []
        if before is None or before.principals.types != self.principals.types:
            self._report_principals(self.principals.open_bursts())
            return
        self.principal_findings = before.principal_findings
        before.principals.add(self.principals)
        self.principals = before.principals

    def expect(self, expected: Sequence[Expected]) -> None:
        """Suppresses incidents no larger than these, in place of the previously suppressed ones."""
        detector = self.detector
        detector.expected_sums.clear()
        detector.expected_drops.clear()
        for incident in expected:
            row = self._row(_tuple(incident.key))
            if row is None:
                continue
            if not incident.rises:
                detector.expected_drops.add(row)
                continue
            largest = np.array(incident.largest, np.float32)
            others = detector.expected_sums.get(row, np.zeros_like(largest))
            detector.expected_sums[row] = np.maximum(largest, others)

    def acknowledge(self, number: int) -> None:
        """Forgets the findings up to a number: they are recorded."""
        self.findings = [finding for finding in self.findings if finding.number > number]
        self.principal_findings = [
            finding for finding in self.principal_findings if finding.number > number
        ]

    # Snapshots

    def snapshot(self) -> bytes:
        """Returns everything that `Watch.of` needs."""
        meta = _Meta(
            _FORMAT,
            self.preset,
            self.cursor,
            self.imported,
            self.since,
            self.now,
            self._watermark,
            self._keys,
            _as_pairs(self._pending),
            _as_pairs(self._late),
            self.detector.state(),
            self.findings,
            self._number,
            self.principals.state(),
            self.principal_findings,
            self.unwatched,
        )
        file = io.BytesIO()
        described = np.frombuffer(msgspec.msgpack.encode(meta), np.uint8)
        arrays = self.detector.baselines.arrays()
        np.savez(file, meta=described, **cast(Json, arrays))
        return file.getvalue()

    @classmethod
    def of(cls, snapshot: bytes) -> Watch:
        """Returns the watch that a snapshot was made of.

        Raises:
            StorageFailed: it is not a snapshot of this version.
        """
        try:
            with np.load(io.BytesIO(snapshot), allow_pickle=False) as arrays:
                meta = msgspec.msgpack.decode(arrays["meta"].tobytes(), type=_Meta)
                baselines = Baselines.of(meta.now, {k: arrays[k] for k in arrays if k != "meta"})
        except _NO_SNAPSHOT as error:
            raise StorageFailed(f"not a snapshot of insights: {error}") from error
        if meta.format != _FORMAT:
            raise StorageFailed(f"a snapshot of format {meta.format}, not {_FORMAT}")
        self = cls(meta.preset, meta.since)
        self.cursor, self.imported, self._number = meta.cursor, meta.imported, meta.number
        self.findings, self._watermark = meta.findings, meta.watermark
        self._keys = meta.keys
        self._rows = {_tuple(key): row for row, key in enumerate(meta.keys)}
        for target, pairs in ((self._pending, meta.pending), (self._late, meta.late)):
            for minute, counts in pairs:
                target[minute] = defaultdict(int, counts)
        self.detector.restore(baselines, meta.detector)
        self.principals = Principals.of(meta.principals)
        self.principal_findings, self.unwatched = meta.principal_findings, meta.unwatched
        self._set_next()
        return self


def _counts() -> defaultdict[int, int]:
    return defaultdict(int)


def _arrays(counts: dict[int, int]) -> tuple[Any, Any]:
    """Returns rows, in order, and their counts."""
    rows = np.fromiter(sorted(counts), np.intp, len(counts))
    return rows, np.array([counts[row] for row in rows.tolist()], np.float32)


def _is_text(key: tuple[Any, ...]) -> bool:
    """Returns whether a key can be stored: half a surrogate pair, in a foreign record, cannot."""
    try:
        "".join(part or "" for part in key).encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_pairs(counts: dict[int, defaultdict[int, int]]) -> list[tuple[int, list[tuple[int, int]]]]:
    return [(minute, list(calls.items())) for minute, calls in counts.items()]


def _tuple(key: CallKey) -> tuple[Any, ...]:
    return (key.account, key.region, key.category, key.event_source, key.event_name, key.error_code)
