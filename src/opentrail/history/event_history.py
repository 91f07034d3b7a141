"""Event history: who did what in the last 90 days, visible at once."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import copy
import hashlib
import hmac
import json
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, get_args

from opentrail.core.errors import CloudTrailError, StoreRestarted
from opentrail.core.event import Entry
from opentrail.core.expression import And, Compare, Expression, Or, literal
from opentrail.core.expression.tree import FIELDS
from opentrail.history.histogram import HOUR, Histogram, histogram_of, round_period
from opentrail.metrics import Metrics
from opentrail.ports.clock import Clock
from opentrail.ports.event_store import (
    CallKey,
    CountedField,
    EventQuery,
    EventStore,
    FoundEvent,
    PeriodCounts,
    Snapshot,
    ValueCount,
)

T = TypeVar("T")

PAGE = 50
#: Events are counted up to this number.
MAX_COUNTED = 10_000
MAX_BUCKETS = 120
#: Most frequent values of a field.
TOP_VALUES = 20
#: The range of a histogram without events whose search has no start.
_EMPTY_RANGE = timedelta(days=7)
#: Maximum seconds that a look-up waits for records that are durable but not yet visible.
_MAX_WAIT_SECONDS = 0.5
#: Maximum seconds that a look-up waits for the hot layer to be rebuilt; then it reads what exists.
_MAX_REBUILD_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Search:
    """The conditions of a search; None means any. Times are inclusive."""

    account: str | None = None
    region: str | None = None
    categories: tuple[str, ...] | None = None
    attribute: tuple[str, str] | None = None
    expression: Expression | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Events, newest first, and the token of the next page if there is one."""

    events: list[FoundEvent]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class CountSearch:
    """The number of a key's events in each period of `period` seconds.

    `start` is inclusive, `end` exclusive; None means as far as `kept`, and now. `with_zeros`
    includes periods without events.
    """

    key: CallKey
    period: int
    kept: timedelta
    start: datetime | None = None
    end: datetime | None = None
    with_zeros: bool = False


@dataclass(frozen=True, slots=True)
class CountPage:
    """Starts of periods with their numbers of events, and the token of the next page if any."""

    counts: list[tuple[datetime, int]]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class EventCount:
    """A number of events; if it is not exact, there are more."""

    value: int
    is_exact: bool


class History:
    """Follows the journal into the event store, and pages through it."""

    name = "history"

    def __init__(
        self,
        store: EventStore,
        clock: Clock,
        metrics: Metrics,
        token_key: bytes,
        retention: timedelta = timedelta(days=90),
        head: Callable[[], int] = lambda: 0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._token_key = token_key
        self._retention = retention
        self._head = head
        #: Set while a look-up waits for the newest records.
        self.hurry = asyncio.Event()
        self._advanced = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._catch_up_to = 0
        #: Accounts whose events are found; None: all.
        self._accounts: tuple[str, ...] | None = None

    def within(self, accounts: Sequence[str] | None) -> History:
        """Returns a view of this history that finds events of these accounts only; None: all.

        Whatever the view is asked is narrowed; the tokens of its pages are good for it alone.
        """
        view = copy.copy(self)
        view._accounts = None if accounts is None else tuple(accounts)
        return view

    def catch_up_to(self, position: int) -> None:
        """Makes look-ups wait until this position is visible (the hot layer's rebuilding)."""
        self._catch_up_to = position
        if self._store.position >= position:
            self._caught_up.set()
        else:
            self._caught_up.clear()
            self.hurry.set()

    async def cursor(self) -> int:
        """Returns the last position in the store."""
        return self._store.position

    async def process(self, entries: Sequence[Entry]) -> None:
        """Makes the entries visible."""
        await self._store.add(entries)
        self._advanced.set()  # wakes those who wait now, and no later ones
        self._advanced.clear()
        if self._caught_up.is_set():
            made = [entry.recorded_at for entry in entries]
            self._metrics.visible.observe(made, self._clock.now())
        self._metrics.history_position.set(self._store.position)
        if self._store.position >= self._catch_up_to:
            self._caught_up.set()

    async def search(self, search: Search, limit: int = PAGE, token: str | None = None) -> Page:
        """Returns one page, newest first.

        A token freezes what the first page saw: later arrivals do not move later pages.

        Raises:
            CloudTrailError: `InvalidNextTokenException` for a token that is not ours, or was given
                for another search.
        """
        return await self._answered(lambda: self._search(search, limit, token))

    async def count(self, search: CountSearch, limit: int, token: str | None = None) -> CountPage:
        """Returns one page of counts, in order of time; as with `search`, a token freezes them.

        Every period is counted whole, also those that `start` and `end` are in.

        Raises:
            CloudTrailError: as `search`.
        """
        return await self._answered(lambda: self._count(search, limit, token))

    async def count_events(self, search: Search, most: int = MAX_COUNTED) -> EventCount:
        """Returns the number of events of a search, counted up to `most`."""

        async def counted() -> EventCount:
            found = await self._store.count(await self._newest_query(search, most + 1))
            return EventCount(min(found, most), found <= most)

        return await self._answered(counted)

    async def histogram(self, search: Search, buckets: int = 60) -> Histogram:
        """Returns the counts of a search's events in at most `buckets` periods, 2 to 120.

        The periods are a round number of seconds, minutes, hours or days long, and begin at
        multiples of that since 1970 (UTC). Without a start they begin in the hour of the oldest
        event; without an end they extend to the present, or to the newest event if that is later.
        """
        buckets = max(2, min(buckets, MAX_BUCKETS))
        return await self._answered(lambda: self._histogram(search, buckets))

    async def facets(
        self, search: Search, fields: Sequence[str], limit: int = TOP_VALUES, prefix: str = ""
    ) -> dict[str, list[ValueCount]]:
        """Returns the most frequent values of fields among the events of a search.

        Fields have their names of search expressions, such as `eventName` or `sourceIp`. With a
        prefix only values that begin with it are found, ignoring case.

        Raises:
            CloudTrailError: `InvalidParameterException` for a field whose values are not counted.
        """
        columns = {field: _counted_field(field) for field in fields}

        async def counted() -> dict[str, list[ValueCount]]:
            query = await self._newest_query(search)
            found = await self._store.top_values(query, list(columns.values()), limit, prefix)
            return {field: found[column] for field, column in columns.items()}

        return await self._answered(counted)

    async def values(
        self, field: str, prefix: str, search: Search, limit: int = TOP_VALUES
    ) -> list[ValueCount]:
        """Returns the most frequent values of a field that begin with a prefix, as `facets`."""
        found = await self.facets(search, [field], limit, prefix)
        return found[field]

    async def _histogram(self, search: Search, buckets: int) -> Histogram:
        query = await self._newest_query(search, limit=1)
        begin, last = search.start, search.end
        if last is None:
            newest = await self._store.lookup(query)
            last = max([self._clock.now(), *(event.event_time for event in newest)])
        counts: list[PeriodCounts] | None = None
        if begin is None:
            counts = await self._store.histogram(query, HOUR)
            begin = counts[0].start if counts else last - _EMPTY_RANGE
        first, until = math.floor(begin.timestamp()), math.floor(last.timestamp())
        seconds = round_period(first, until, buckets)
        if counts is None or seconds % HOUR:
            counts = await self._store.histogram(query, seconds)
        return histogram_of(counts, seconds, first, until)

    async def _answered(self, answer: Callable[[], Awaitable[T]]) -> T:
        """Returns an answer once the hot layer has been rebuilt."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_MAX_REBUILD_SECONDS):
                    await self._caught_up.wait()
            with contextlib.suppress(StoreRestarted):
                return await answer()

    async def _count(self, search: CountSearch, limit: int, token: str | None) -> CountPage:
        if token is None:
            await self._see_newest()
            first, last = _periods(search, self._clock.now())
            snapshot = self._store.snapshot
        else:
            first, last, *seen = self._read_token(token, search)
            snapshot = Snapshot(*seen)
        if first >= last or not self._covers(search.key.account):
            return CountPage([], None)
        begin, end = datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC)
        counts = await self._store.count_key(
            search.key, begin, end, search.period, snapshot, self.kept_since
        )
        if search.with_zeros:
            found = dict(counts)
            starts = [datetime.fromtimestamp(s, UTC) for s in range(first, last, search.period)]
            counts = [(start, found.get(start, 0)) for start in starts]
        if len(counts) <= limit:
            return CountPage(counts, None)
        rest = [int(counts[limit][0].timestamp()), last, *astuple(snapshot)]
        return CountPage(counts[:limit], self._write_token(rest, search))

    async def _search(self, search: Search, limit: int, token: str | None) -> Page:
        if token is None:
            await self._see_newest()
            before, snapshot = None, self._store.snapshot
        else:
            seconds, position, *seen = self._read_token(token, search)
            before = (datetime.fromtimestamp(seconds, UTC), position)
            snapshot = Snapshot(*seen)
        query = replace(self._query(search, snapshot), limit=limit + 1, before=before)
        found = await self._store.lookup(query)
        if len(found) <= limit:
            return Page(found, None)
        page = found[:limit]
        last = page[-1]
        rest = [int(last.event_time.timestamp()), last.position, *astuple(snapshot)]
        return Page(page, self._write_token(rest, search))

    def _query(self, search: Search, snapshot: Snapshot) -> EventQuery:
        return EventQuery(
            limit=0,
            snapshot=snapshot,
            account=search.account,
            region=search.region,
            categories=search.categories,
            attribute=search.attribute,
            expression=self._narrowed(search.expression),
            start=search.start,
            end=search.end,
            recorded_since=self.kept_since,
        )

    def _narrowed(self, expression: Expression | None) -> Expression | None:
        """Returns what must hold for an event, including that its account is one of the view's."""
        if self._accounts is None:
            return expression
        own: Expression = Or(
            tuple(Compare(("account",), "=", literal(one), True) for one in self._accounts)
        )
        return own if expression is None else And((expression, own))

    def _covers(self, account: str | None) -> bool:
        return self._accounts is None or account in self._accounts

    async def _newest_query(self, search: Search, limit: int = 0) -> EventQuery:
        """Returns the query of a search over all that was durable before."""
        await self._see_newest()
        return replace(self._query(search, self._store.snapshot), limit=limit)

    async def _see_newest(self) -> None:
        """Waits until all that was durable before is visible, so that callers find their own calls.

        The wait is bounded: what does not come in time comes a little later.
        """
        head = self._head()
        if self._store.position >= head:
            return
        self.hurry.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MAX_WAIT_SECONDS):
                while self._store.position < head:
                    await self._advanced.wait()
                    if self._store.position < head:
                        self.hurry.set()

    async def until_visible(self, position: int) -> None:
        """Returns once everything up to a position is visible."""
        while self._store.position < position:
            self.hurry.set()
            await self._advanced.wait()

    @property
    def kept_since(self) -> datetime:
        """The start of the retention period, by time of recording or import."""
        return self._clock.now() - self._retention

    def _write_token(self, numbers: list[int], search: Search | CountSearch) -> str:
        body = json.dumps(numbers).encode()
        return base64.urlsafe_b64encode(self._seal(body, search) + body).decode()

    def _read_token(self, token: str, search: Search | CountSearch) -> list[int]:
        """Returns the numbers of a token."""
        try:
            raw = base64.urlsafe_b64decode(token.encode())
        except (binascii.Error, ValueError) as error:
            raise _bad_token() from error
        seal, body = raw[:16], raw[16:]
        if not hmac.compare_digest(seal, self._seal(body, search)):
            raise _bad_token()
        numbers: list[int] = json.loads(body)
        return numbers

    def _seal(self, body: bytes, search: Search | CountSearch) -> bytes:
        """Binds a token to the caller's account and to the whole search (guarantee Z3)."""
        whole = {**asdict(search), "within": self._accounts}
        conditions = json.dumps(whole, default=str, sort_keys=True).encode()
        return hmac.digest(self._token_key, body + hashlib.sha256(conditions).digest(), "sha256")[
            :16
        ]

    async def latest(self, search: Search, limit: int) -> list[FoundEvent]:
        """Returns up to `limit` events, newest first, over as many pages as that takes."""
        found: list[FoundEvent] = []
        token: str | None = None
        while len(found) < limit:
            page = await self.search(search, min(1_000, limit - len(found)), token)
            found.extend(page.events)
            token = page.next_token
            if token is None:
                break
        return found

    async def about(self, name: str, search: Search, limit: int = 1_000) -> list[FoundEvent]:
        """Returns the events that name a resource `name`, which may be an ARN."""
        return await self.latest(replace(search, attribute=("ResourceName", name)), limit)


def _periods(search: CountSearch, now: datetime) -> tuple[int, int]:
    """Returns the start of the first period, and the end of the last, in seconds since 1970."""
    period = search.period
    kept = -(-int((now - search.kept).timestamp()) // period) * period
    end = math.ceil(min(search.end or now, now).timestamp() / period) * period
    if search.start is None:
        return kept, end
    return max(kept, int(search.start.timestamp()) // period * period), end


def _counted_field(name: str) -> CountedField:
    field = FIELDS.get(name.lower())
    for counted in get_args(CountedField):
        if counted == field:
            return counted  # type: ignore[no-any-return]
    names = [one for one, field in FIELDS.items() if field in get_args(CountedField)]
    raise CloudTrailError(
        "InvalidParameterException", f"field must be one of {', '.join(names)}, not {name!r}"
    )


def _bad_token() -> CloudTrailError:
    return CloudTrailError(
        "InvalidNextTokenException",
        "The next token is not valid, or it was given for a request with other parameters.",
    )


def shown_event(event: FoundEvent) -> dict[str, Any]:
    """Returns the Event shape of LookupEvents (cloudtrail-format §6)."""
    shown: dict[str, Any] = {
        "EventId": event.event_id,
        "EventName": event.event_name,
        "ReadOnly": "true" if event.read_only else "false",
    }
    if event.access_key_id:
        shown["AccessKeyId"] = event.access_key_id
    shown["EventTime"] = int(event.event_time.timestamp())
    shown["EventSource"] = event.event_source
    if event.username:
        shown["Username"] = event.username
    resources = []
    for resource in event.resources:
        named = {"ResourceType": resource.type} if resource.type else {}
        resources.append({**named, "ResourceName": resource.name})
    shown["Resources"] = resources
    shown["CloudTrailEvent"] = event.record
    return shown
