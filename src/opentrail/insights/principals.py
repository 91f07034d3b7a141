"""First uses and bursts of principals: the types of Insights beyond AWS's two."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import msgspec

from opentrail.core.arns import without_session
from opentrail.core.event import Entry, parse_time
from opentrail.core.event_record import EventRecord
from opentrail.core.insight_types import (
    ACCESS_DENIED,
    API_FAN_OUT,
    BURST_TYPES,
    DENIED,
    NEW_AGENT,
    NEW_API,
    NEW_PRINCIPAL,
    NEW_REGION,
    NEW_USER_AGENT,
    WINDOW_MINUTES,
)
from opentrail.core.user_agents import agent_of, family_of
from opentrail.insights.baseline import DAY
from opentrail.insights.findings import PrincipalFinding
from opentrail.ports.event_store import PrincipalCounts

#: Days after which a value that was not seen again is forgotten.
FORGOTTEN_DAYS = 90
#: Maximum number of values; further ones are not stored.
MAX_VALUES = 500_000
#: Days after which values that were seen on one day only are forgotten while there is little room.
#: Anyone may invent services and programs, but hardly the same ones again and again.
_FORGOTTEN_WITHOUT_ROOM = (30, 7, 1)
_DAY_BITS = 16
_DAY_MASK = (1 << _DAY_BITS) - 1


class SeenState(msgspec.Struct):
    """The snapshot of seen values: the hashes, and the days of each, as arrays of 64 bits."""

    hashes: bytes = b""
    days: bytes = b""


def hash_of(*parts: str) -> int:
    """Returns the 64-bit hash of a value, the same in every process."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


class SeenValues:
    """The first and the last day on which each value was seen; days are counted from 1970.

    A value takes about 100 bytes.
    """

    def __init__(self) -> None:
        # Both days in one integer, which takes half the memory of a tuple.
        self._days: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._days)

    def first(self, value: int) -> int | None:
        """Returns the first day of a value."""
        days = self._days.get(value)
        return None if days is None else days >> _DAY_BITS

    def last(self, value: int) -> int | None:
        """Returns the last day of a value."""
        days = self._days.get(value)
        return None if days is None else days & _DAY_MASK

    def has(self, value: int, day: int) -> bool:
        """Returns whether a value is known on a day, and not forgotten."""
        last = self.last(value)
        return last is not None and day - last <= FORGOTTEN_DAYS

    def see(self, value: int, day: int) -> bool:
        """Stores that a value was seen on a day; returns False if there is not room for it."""
        days = self._days.get(value)
        if days is None and len(self._days) >= MAX_VALUES:
            return False
        first = last = day
        if days is not None and self.has(value, day):
            first = min(first, days >> _DAY_BITS)
            last = max(last, days & _DAY_MASK)
        self._days[value] = first << _DAY_BITS | last
        return True

    def forget(self, day: int) -> None:
        """Forgets values that were not seen in the days before this one."""
        self._days = {value: days for value, days in self._days.items() if self.has(value, day)}
        for idle in _FORGOTTEN_WITHOUT_ROOM:
            if len(self._days) <= MAX_VALUES * 3 // 4:
                break
            self._days = {
                value: days
                for value, days in self._days.items()
                if self.first(value) != self.last(value) or day - (days & _DAY_MASK) <= idle
            }

    def add(self, other: SeenValues) -> int:
        """Adds all values of another set; returns the number of values that did not fit."""
        refused = 0
        for value in other._days:
            for day in (other.first(value), other.last(value)):
                refused += day is not None and not self.see(value, day)
        return refused // 2

    def state(self) -> SeenState:
        """Returns the arguments of `SeenValues.of`."""
        hashes, days = array("Q", self._days.keys()), array("Q", self._days.values())
        return SeenState(hashes.tobytes(), days.tobytes())

    @classmethod
    def of(cls, state: SeenState) -> SeenValues:
        """Returns the set of this state."""
        self = cls()
        hashes, days = array("Q", state.hashes), array("Q", state.days)
        self._days = dict(zip(hashes, days, strict=True))
        return self


#: Days of history that an account must have before anything about it is reported.
LEARNING_DAYS = 14
#: Days whose largest windows a burst is compared with.
PAST_DAYS = 28
#: Minutes; later events are not part of bursts and are not reported, only learned.
_TOO_LATE = 180
#: Minutes; events that are further ahead are left out.
_TOO_EARLY = DAY
#: Minutes after which a burst is over in any case.
_MAX_BURST_MINUTES = DAY
#: Maximum APIs of one principal that are counted in one minute.
_MAX_APIS = 1_000
_MINUTE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class BurstRule:
    """A window is unusual if it has at least `floor`, and more than `factor` times the past."""

    floor: int
    factor: int


RULES = {ACCESS_DENIED: BurstRule(20, 3), API_FAN_OUT: BurstRule(30, 2)}


class _Trigger(msgspec.Struct, frozen=True):
    """The record's values for the event of a finding."""

    region: str
    event_source: str
    event_name: str
    event_id: str | None


class _Minute(msgspec.Struct):
    """A type's count in one minute of one principal: events, or hashes of APIs."""

    trigger: _Trigger
    events: int = 0
    apis: set[int] = msgspec.field(default_factory=set)


class _Burst(msgspec.Struct):
    """An open burst: minutes since 1970, and the values for its records.

    `threshold` is the largest window that is not unusual.
    """

    start: int
    last: int
    threshold: int
    usual: int
    observed: int
    days: int
    trigger: _Trigger


#: Type, account and principal.
_Key = tuple[str, str, str]


class PrincipalsState(msgspec.Struct):
    """The content of a snapshot."""

    types: tuple[str, ...] = ()
    now: int = 0
    unwatched: int = 0
    seen: SeenState = msgspec.field(default_factory=SeenState)
    recent: list[tuple[_Key, list[tuple[int, _Trigger, int, list[int]]]]] = []
    touched: list[tuple[int, list[_Key]]] = []
    largest: list[tuple[int, list[tuple[int, int]]]] = []
    open: list[tuple[_Key, _Burst]] = []


@dataclass(frozen=True, slots=True)
class _Use:
    """An event as the types see it; `time` is in seconds since 1970."""

    account: str
    principal: str | None
    user_agent: str | None
    agent: str | None
    error_code: str | None
    time: int
    trigger: _Trigger

    @property
    def minute(self) -> int:
        return self.time // _MINUTE_SECONDS

    @property
    def day(self) -> int:
        return self.time // (_MINUTE_SECONDS * DAY)


class Principals:
    """First uses by principals, and activity far above their usual.

    As for `Watch`, findings follow from the events and the times given. Days and minutes are event
    times, counted from 1970. Findings have no numbers yet.
    """

    def __init__(self, types: Iterable[str] = (), now: int = 0) -> None:
        self.types = tuple(types)
        #: Uses that are not watched, because there were too many values.
        self.unwatched = 0
        self._seen = SeenValues()
        #: The last closed minute.
        self.now = now
        self._bursts = [name for name in BURST_TYPES if name in self.types]
        self._recent: dict[_Key, dict[int, _Minute]] = {}
        #: Minutes with events since they were last closed.
        self._touched: dict[int, set[_Key]] = {}
        #: Hash of a key → day → the largest window that ended on it, if it may matter.
        self._largest: dict[int, dict[int, int]] = {}
        self._open: dict[_Key, _Burst] = {}

    # Events

    def observe(self, entry: Entry) -> list[PrincipalFinding]:
        """Processes a management or data event; returns its first uses."""
        use = _use_of(entry, NEW_AGENT in self.types) if self.types else None
        if use is None or not -FORGOTTEN_DAYS * DAY < use.minute - self.now < _TOO_EARLY:
            return []
        first_uses = self._see(use)
        if self.now - use.minute >= _TOO_LATE:
            return []
        self._count(use, 1)
        return [
            _first_use(name, use, value, days)
            for name, value, days in first_uses
            if self._is_first_today(name, use)
        ]

    def learn(self, counts: Iterable[PrincipalCounts]) -> None:
        """Learns from events of minutes that are not closed yet; reports no first uses."""
        for kind in counts:
            trigger = _Trigger(kind.region, kind.event_source, kind.event_name, None)
            use = _Use(
                kind.account,
                kind.principal,
                kind.user_agent_family,
                kind.agent,
                kind.error_code,
                kind.minutes[0] * _MINUTE_SECONDS,
                trigger,
            )
            self._see(use)
            self._see(replace(use, time=kind.minutes[-1] * _MINUTE_SECONDS))
            for minute, count in zip(kind.minutes, kind.counts, strict=True):
                self._count(replace(use, time=minute * _MINUTE_SECONDS), count)

    # First uses

    def _see(self, use: _Use) -> list[tuple[str, str, int]]:
        """Stores an event's values; returns the new ones: type, value, days without it.

        On the first day of a principal, only the principal is new, not its values.
        """
        account = hash_of("account", use.account)
        days_known = self._days_since(account, use.day)
        if not self._seen.see(account, use.day):
            self.unwatched += 1
            return []
        first_uses: list[tuple[str, str, int]] = []
        region = use.trigger.region
        if NEW_REGION in self.types and self._is_new(use, "region", use.account, region):
            first_uses.append((NEW_REGION, region, days_known))
        if use.principal is not None:
            active = self._days_since(hash_of("principal", use.account, use.principal), use.day)
            if self._is_new(use, "principal", use.account, use.principal):
                first_uses.append((NEW_PRINCIPAL, use.principal, days_known))
            if self._is_watched(use.account, use.principal):
                values = self._new_of_principal(use, use.principal)
                first_uses += [(name, value, active) for name, value in values if active > 0]
        return first_uses if days_known >= LEARNING_DAYS else []

    def _new_of_principal(self, use: _Use, principal: str) -> list[tuple[str, str]]:
        first_uses, trigger = [], use.trigger
        if NEW_API in self.types:
            api = (trigger.event_source, trigger.event_name)
            if self._is_new(use, "api", use.account, principal, *api):
                first_uses.append((NEW_API, api_name(*api)))
        for name, kind, value in (
            (NEW_USER_AGENT, "user agent", use.user_agent),
            (NEW_AGENT, "agent", use.agent),
        ):
            if value is None or name not in self.types:
                continue
            if self._is_new(use, kind, use.account, principal, value):
                first_uses.append((name, value))
        return first_uses

    def _is_watched(self, account: str, principal: str) -> bool:
        """Returns whether a principal is stored: there may not have been room for it."""
        return self._seen.first(hash_of("principal", account, principal)) is not None

    def _is_new(self, use: _Use, *value: str) -> bool:
        """Stores a value; returns whether it was new and there was room for it."""
        hashed = hash_of(*value)
        is_known = self._seen.has(hashed, use.day)
        is_stored = self._seen.see(hashed, use.day)
        self.unwatched += not is_stored
        return is_stored and not is_known

    def _days_since(self, hashed: int, day: int) -> int:
        """Returns the number of days since the first use of a value; 0 if it is unknown."""
        first = self._seen.first(hashed) if self._seen.has(hashed, day) else None
        return 0 if first is None else max(0, min(day - first, FORGOTTEN_DAYS))

    def _is_first_today(self, name: str, use: _Use) -> bool:
        subject = use.principal if name != NEW_REGION and use.principal is not None else ""
        return name in self.types and self._is_first_of_day(name, use.account, subject, use.day)

    def _is_first_of_day(self, name: str, account: str, subject: str, day: int) -> bool:
        """Stores that something is reported; returns False if it was, on this or a later day."""
        reported = hash_of("reported", name, account, subject)
        last = self._seen.last(reported)
        if last is not None and last >= day:
            return False
        return self._seen.see(reported, day)

    # Bursts

    def _count(self, use: _Use, events: int) -> None:
        """Counts events, if their principal is among the known ones."""
        if not self._bursts or use.principal is None:
            return
        if not self._is_watched(use.account, use.principal):
            return
        for name in self._bursts:
            if name == ACCESS_DENIED and not is_denied(use.error_code):
                continue
            key = (name, use.account, use.principal)
            minutes = self._recent.setdefault(key, {})
            counts = minutes.setdefault(use.minute, _Minute(use.trigger))
            counts.trigger = use.trigger
            if name == API_FAN_OUT and len(counts.apis) < _MAX_APIS:
                counts.apis.add(hash_of(use.trigger.event_source, use.trigger.event_name))
            counts.events += events
            self._touched.setdefault(use.minute, set()).add(key)

    def close(self, minute: int) -> list[PrincipalFinding]:
        """Returns the bursts that start or end, once the events of a minute have arrived.

        Minutes must ascend.
        """
        findings: list[PrincipalFinding] = []
        if minute // DAY != self.now // DAY:
            self._forget(minute // DAY)
        self.now = minute
        for touched in sorted(at for at in self._touched if at <= minute):
            for key in sorted(self._touched.pop(touched)):
                for last in range(touched, min(touched + WINDOW_MINUTES - 1, minute) + 1):
                    if self._starts(key, last):
                        findings.append(_start(key, self._open[key]))
        for key, burst in list(self._open.items()):
            if self._is_over(key, burst):
                del self._open[key]
                findings.append(replace(_start(key, burst), end=(burst.last + 1) * _MINUTE_SECONDS))
        if minute % WINDOW_MINUTES == 0:
            self._drop_minutes(minute - _TOO_LATE - WINDOW_MINUTES)
        return findings

    def _starts(self, key: _Key, last: int) -> bool:
        """Returns whether a burst starts with the window that ends with a minute; extends one."""
        rule, minutes = RULES[key[0]], self._window(key, last)
        observed, day = _size(key[0], minutes.values()), last // DAY
        if observed * rule.factor < rule.floor:
            return False
        days = self._largest.setdefault(hash_of(*key), {})
        usual = max((n for on, n in days.items() if day - PAST_DAYS <= on < day), default=0)
        days[day] = max(days.get(day, 0), observed)
        burst, threshold = self._open.get(key), max(rule.floor - 1, rule.factor * usual)
        if burst is not None and observed > burst.threshold:
            burst.observed, burst.last = max(burst.observed, observed), max(burst.last, *minutes)
        if burst is not None or observed <= threshold:
            return False
        name, account, principal = key
        start, days_known = min(minutes), self._days_since(hash_of("account", account), day)
        if days_known < LEARNING_DAYS or not self._is_first_of_day(
            name, account, principal, start // DAY
        ):
            return False
        newest, compared = max(minutes), min(days_known, PAST_DAYS)
        trigger = minutes[newest].trigger
        self._open[key] = _Burst(start, newest, threshold, usual, observed, compared, trigger)
        return True

    def _is_over(self, key: _Key, burst: _Burst) -> bool:
        """Returns whether the window that ends now is as usual."""
        observed = _size(key[0], self._window(key, self.now).values())
        return observed <= burst.threshold or self.now - burst.start >= _MAX_BURST_MINUTES

    def _window(self, key: _Key, last: int) -> dict[int, _Minute]:
        """Returns the minutes with events in the window that ends with a minute."""
        minutes = self._recent.get(key, {})
        return {at: counts for at, counts in minutes.items() if last - WINDOW_MINUTES < at <= last}

    def _drop_minutes(self, until: int) -> None:
        for key, minutes in list(self._recent.items()):
            self._recent[key] = {at: counts for at, counts in minutes.items() if at > until}
            if not self._recent[key]:
                del self._recent[key]

    def _forget(self, day: int) -> None:
        self._seen.forget(day)
        for hashed, days in list(self._largest.items()):
            self._largest[hashed] = {on: n for on, n in days.items() if on >= day - PAST_DAYS}
            if not self._largest[hashed]:
                del self._largest[hashed]

    # Learning

    def open_bursts(self) -> list[PrincipalFinding]:
        """Returns the starts of the bursts that are not over."""
        return [_start(key, burst) for key, burst in self._open.items()]

    def add(self, learned: Principals) -> None:
        """Adds values learned from events; both sets already have the values of the journal."""
        self.unwatched += self._seen.add(learned._seen)
        for hashed, days in learned._largest.items():
            largest = self._largest.setdefault(hashed, {})
            for day, observed in days.items():
                largest[day] = max(largest.get(day, 0), observed)

    # Snapshots

    def state(self) -> PrincipalsState:
        """Returns the arguments of `Principals.of`."""
        return PrincipalsState(
            self.types,
            self.now,
            self.unwatched,
            self._seen.state(),
            [
                (key, [(at, m.trigger, m.events, sorted(m.apis)) for at, m in minutes.items()])
                for key, minutes in self._recent.items()
            ],
            [(minute, sorted(keys)) for minute, keys in self._touched.items()],
            [(hashed, list(days.items())) for hashed, days in self._largest.items()],
            list(self._open.items()),
        )

    @classmethod
    def of(cls, state: PrincipalsState) -> Principals:
        """Returns the principals of this state."""
        self = cls(state.types, state.now)
        self.unwatched = state.unwatched
        self._seen = SeenValues.of(state.seen)
        for key, minutes in state.recent:
            self._recent[key] = {
                at: _Minute(trigger, events, set(apis)) for at, trigger, events, apis in minutes
            }
        self._touched = {minute: set(keys) for minute, keys in state.touched}
        self._largest = {hashed: dict(days) for hashed, days in state.largest}
        self._open = dict(state.open)
        return self


def is_denied(error_code: str | None) -> bool:
    """Returns whether a call was refused because a permission was missing.

    >>> is_denied("Client.UnauthorizedOperation"), is_denied("NoSuchKey"), is_denied(None)
    (True, False, False)
    """
    return error_code is not None and any(fnmatchcase(error_code, pattern) for pattern in DENIED)


def api_name(event_source: str, event_name: str) -> str:
    """Returns the name of an API as policies write it.

    >>> api_name("iam.amazonaws.com", "CreateAccessKey")
    'iam:CreateAccessKey'
    """
    return f"{event_source.removesuffix('.amazonaws.com')}:{event_name}"


def _first_use(name: str, use: _Use, value: str, days: int) -> PrincipalFinding:
    trigger = use.trigger
    event = (trigger.event_source, trigger.event_name, trigger.event_id)
    return PrincipalFinding(
        *(0, name, use.account, trigger.region, use.principal, value, *event),
        *(use.time, None, 0, 1, days),
    )


def _start(key: _Key, burst: _Burst) -> PrincipalFinding:
    name, account, principal = key
    trigger = burst.trigger
    event = (trigger.event_source, trigger.event_name, trigger.event_id)
    return PrincipalFinding(
        *(0, name, account, trigger.region, principal, None, *event),
        *(burst.start * _MINUTE_SECONDS, None, burst.usual, burst.observed, burst.days),
    )


def _size(name: str, minutes: Iterable[_Minute]) -> int:
    """Returns the number of events of a window, or of the different APIs in it."""
    if name == API_FAN_OUT:
        return len(set().union(*(minute.apis for minute in minutes)))
    return sum(minute.events for minute in minutes)


def _use_of(entry: Entry, with_agent: bool) -> _Use | None:
    record = EventRecord(entry.record)
    try:
        time = int(parse_time(record.event_time).timestamp())
    except (KeyError, ValueError):
        return None  # a foreign record
    fields, user_agent = record.fields, record.user_agent
    agent = agent_of(record.document) if with_agent else None
    return _Use(
        _clean(entry.account),
        _clean(without_session(fields.user_arn)) if fields.user_arn else None,
        family_of(_clean(user_agent)) if user_agent else None,
        agent["name"] if agent else None,
        fields.error_code,
        time,
        _Trigger(
            _clean(entry.region),
            _clean(fields.event_source),
            _clean(fields.event_name),
            _clean(entry.event_id),
        ),
    )


def _clean(text: str) -> str:
    """Returns text that can be written as UTF-8: foreign records may have lone surrogates."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
