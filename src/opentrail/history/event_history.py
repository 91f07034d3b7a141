"""Event history: the events of the last 90 days, visible immediately."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, get_args

from opentrail.core.errors import CloudTrailError, StoreRestarted, Throttled
from opentrail.core.expression import And, Compare, Expression, Or, literal
from opentrail.core.expression.tree import FIELDS
from opentrail.history.history_follower import HistoryFollower
from opentrail.history.page_tokens import PageToken, PageTokens
from opentrail.ports.clock import Clock
from opentrail.ports.event_store import (
    DATA_CATEGORIES,
    PAGE_TEXT,
    CallKey,
    CountedField,
    EventQuery,
    EventStore,
    FoundEvent,
    PeriodCounts,
    PrincipalActivity,
    Snapshot,
    ValueCount,
)
from opentrail.ports.metrics import Metrics

#: Periods of a histogram, at most.
MAX_BUCKETS = 120
#: Seconds.
HOUR = 3_600
#: Seconds.
_DAY = 86_400
#: Seconds of the periods; longer ones are multiples of the last.
_ROUND = (
    *(1, 2, 5, 10, 15, 30),
    *(60 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(HOUR * hours for hours in (1, 2, 3, 6, 12)),
    *(_DAY * days for days in (1, 2, 7, 14, 30, 90, 365)),
)
#: Start of the range of `datetime`, in seconds since 1970.
_FIRST_SECOND = -62_135_596_800
#: End of that range.
_LAST_SECOND = 253_402_300_799


@dataclass(frozen=True, slots=True)
class Histogram:
    """The counts of consecutive periods of `seconds` seconds, empty ones included.

    `start` is the start of the first one, `end` the end of the last one.
    """

    start: datetime
    end: datetime
    seconds: int
    periods: list[PeriodCounts]


def round_period(first: int, last: int, most: int) -> int:
    """Returns the shortest round period, in seconds, so that `most` periods cover both times.

    `most` is at least 2: no single period contains times before and after 1970.

    >>> round_period(0, 3_599, 60)
    60
    """
    multiples = (_ROUND[-1] << doubled for doubled in itertools.count(1))
    periods = itertools.chain(_ROUND, multiples)
    return next(period for period in periods if last // period - first // period < most)


def histogram_of(counts: Sequence[PeriodCounts], seconds: int, first: int, last: int) -> Histogram:
    """Returns the histogram of counts between two times, in seconds since 1970.

    The periods of the counts are as long as the histogram's, or parts of them.
    """
    sums = {number: [0, 0] for number in range(first // seconds, last // seconds + 1)}
    for period in counts:
        results = sums[int(period.start.timestamp()) // seconds]
        results[0] += period.ok
        results[1] += period.failed
    starts = [_moment(number * seconds) for number in sums]
    end = _moment((max(sums, default=first // seconds - 1) + 1) * seconds)
    periods = [
        PeriodCounts(start, *results) for start, results in zip(starts, sums.values(), strict=True)
    ]
    return Histogram(starts[0] if starts else end, end, seconds, periods)


def _moment(second: int) -> datetime:
    return datetime.fromtimestamp(max(_FIRST_SECOND, min(second, _LAST_SECOND)), UTC)


T = TypeVar("T")

PAGE = 50
#: Characters of records after which `History.latest` reads no more pages.
MAX_LATEST_TEXT = 64 << 20
#: Events are counted up to this number.
MAX_COUNTED = 10_000
#: Most frequent values of a field.
TOP_VALUES = 20
#: The range of a histogram without events whose search has no start.
_EMPTY_RANGE = timedelta(days=7)
#: The first time at which it can end.
_FIRST_END = datetime.min.replace(tzinfo=UTC) + _EMPTY_RANGE


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


@dataclass(frozen=True, slots=True)
class Activity:
    """All events of a search: the first one's time, their counts by hour, most frequent values."""

    first: datetime
    hours: list[PeriodCounts]
    values: dict[str, list[ValueCount]]

    @property
    def events(self) -> int:
        """The number of events."""
        return sum(hour.ok + hour.failed for hour in self.hours)


class History:
    """Finds events, and counts them.

    Args:
        store: the events.
        clock: the time.
        metrics: count the time until records were visible.
        token_key: seals page tokens.
        retention: the time for which events are found.
        newest: returns the last durable position; None if lookups do not wait for it.
        data_retention: the time for which data events are found; None: the same as for others.
    """

    def __init__(
        self,
        store: EventStore,
        clock: Clock,
        metrics: Metrics,
        token_key: bytes,
        retention: timedelta = timedelta(days=90),
        newest: Callable[[], Awaitable[int]] | None = None,
        data_retention: timedelta | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._tokens = PageTokens(token_key)
        self._retention = retention
        self._data_retention = data_retention
        #: Makes the journal's entries visible in the store.
        self.follower = HistoryFollower(store, clock, metrics, newest or _none)
        #: Accounts whose events are found; None: all.
        self._accounts: tuple[str, ...] | None = None

    def limited_to(self, accounts: Sequence[str] | None) -> History:
        """Returns a view of this history that finds events of these accounts only; None: all.

        All its methods are limited to them; the tokens of its pages are valid for this view only.
        """
        view = copy.copy(self)
        view._accounts = None if accounts is None else tuple(accounts)
        return view

    async def search(self, search: Search, limit: int = PAGE, token: str | None = None) -> Page:
        """Returns one page, newest first.

        A token freezes the first page's view: later arrivals do not move later pages.

        Raises:
            CloudTrailError: `InvalidNextTokenException` for a token that is not ours, or was given
                for another search.
        """
        return await self._with_retry(lambda: self._search(search, limit, token))

    async def count(self, search: CountSearch, limit: int, token: str | None = None) -> CountPage:
        """Returns one page of counts, in order of time; as with `search`, a token freezes them.

        Every period is counted completely, including the periods that contain `start` and `end`.

        Raises:
            CloudTrailError: as `search`.
        """
        return await self._with_retry(lambda: self._count(search, limit, token))

    async def count_events(self, search: Search, most: int = MAX_COUNTED) -> EventCount:
        """Returns the number of events of a search, counted up to `most`."""

        async def count() -> EventCount:
            events_counted = await self._store.count(await self._newest_query(search, most + 1))
            return EventCount(min(events_counted, most), events_counted <= most)

        return await self._with_retry(count)

    async def histogram(self, search: Search, buckets: int = 60) -> Histogram:
        """Returns the counts of a search's events in at most `buckets` periods, 2 to 120.

        The periods are a round number of seconds, minutes, hours or days long, and begin at
        multiples of that since 1970 (UTC). Without a start they begin in the hour of the oldest
        event; without an end they extend to now, or to the newest event if that is later.
        """
        return await self._with_retry(
            lambda: self._histogram(search, buckets, self._store.histogram)
        )

    async def facets(
        self, search: Search, fields: Sequence[str], limit: int = TOP_VALUES, prefix: str = ""
    ) -> dict[str, list[ValueCount]]:
        """Returns the most frequent values of fields among the events of a search.

        Fields have their names of search expressions, such as `eventName` or `sourceIp`. With a
        prefix only values that begin with it are found, ignoring case.

        Raises:
            CloudTrailError: `InvalidParameterException` for a field whose values are not counted.
        """
        columns = {field: _countable_field(field) for field in fields}

        async def count() -> dict[str, list[ValueCount]]:
            query = await self._newest_query(search)
            values = await self._store.top_values(query, list(columns.values()), limit, prefix)
            return {field: values[column] for field, column in columns.items()}

        return await self._with_retry(count)

    async def overview(
        self, search: Search, fields: Sequence[str], buckets: int = 60, limit: int = TOP_VALUES
    ) -> tuple[Histogram, dict[str, list[ValueCount]]]:
        """Returns the results of `histogram` and `facets`, in the time of one of them.

        Raises:
            CloudTrailError: as `facets`.
        """
        columns = {field: _countable_field(field) for field in fields}

        async def answer() -> tuple[Histogram, dict[str, list[ValueCount]]]:
            values: dict[CountedField, list[ValueCount]] = {}

            async def count(query: EventQuery, seconds: int) -> list[PeriodCounts]:
                found = await self._store.overview(query, seconds, list(columns.values()), limit)
                values.update(found.values)
                return found.periods

            histogram = await self._histogram(search, buckets, count)
            return histogram, {field: values[column] for field, column in columns.items()}

        return await self._with_retry(answer)

    async def activity(
        self, search: Search, fields: Sequence[str], limit: int = TOP_VALUES
    ) -> Activity | None:
        """Returns when all events of a search were, and their values as `facets`; None: none are.

        Raises:
            CloudTrailError: as `facets`.
        """
        columns = {field: _countable_field(field) for field in fields}

        async def answer() -> Activity | None:
            query = await self._newest_query(search)
            overview = await self._store.overview(query, HOUR, list(columns.values()), limit)
            if not overview.periods:
                return None
            hour = overview.periods[0].start
            end = hour + timedelta(seconds=HOUR - 1)
            # Times are whole seconds: the first second that has events is exact.
            seconds = await self._store.histogram(replace(query, start=hour, end=end), 1)
            values = {field: overview.values[column] for field, column in columns.items()}
            return Activity(seconds[0].start if seconds else hour, overview.periods, values)

        return await self._with_retry(answer)

    async def principals(self, search: Search, limit: int) -> list[PrincipalActivity]:
        """Returns the principals with an ARN that called last, the last one first."""

        async def listed() -> list[PrincipalActivity]:
            return await self._store.list_principals(await self._newest_query(search), limit)

        return await self._with_retry(listed)

    async def values(
        self, field: str, prefix: str, search: Search, limit: int = TOP_VALUES
    ) -> list[ValueCount]:
        """Returns the most frequent values of a field that begin with a prefix, as `facets`."""
        values_by_field = await self.facets(search, [field], limit, prefix)
        return values_by_field[field]

    async def _histogram(
        self,
        search: Search,
        buckets: int,
        count: Callable[[EventQuery, int], Awaitable[list[PeriodCounts]]],
    ) -> Histogram:
        """Returns a histogram; `count` returns the counts of periods of some seconds."""
        query = await self._newest_query(search, limit=1)
        begin, last = search.start, search.end
        if last is None:
            newest = await self._store.lookup(query)
            last = max([self._clock.now(), *(event.event_time for event in newest)])
        counts: list[PeriodCounts] | None = None
        if begin is None:
            counts = await count(query, HOUR)
            begin = counts[0].start if counts else max(last, _FIRST_END) - _EMPTY_RANGE
        first, until = math.floor(begin.timestamp()), math.floor(last.timestamp())
        seconds = round_period(first, until, max(2, min(buckets, MAX_BUCKETS)))
        if counts is None or seconds % HOUR:
            counts = await count(query, seconds)
        return histogram_of(counts, seconds, first, until)

    async def _with_retry(self, answer: Callable[[], Awaitable[T]]) -> T:
        """Returns an answer once the hot layer has been rebuilt, and again if it is lost."""
        while True:
            await self.follower.until_rebuilt()
            with contextlib.suppress(StoreRestarted):
                return await answer()

    async def _count(self, search: CountSearch, limit: int, token: str | None) -> CountPage:
        if token is None:
            await self.follower.until_newest()
            first, last = _periods(search, self._clock.now())
            snapshot = self._store.snapshot
        else:
            page_token = await self._page_token(token, search)
            first, last, snapshot = page_token.first, page_token.second, page_token.snapshot
        if first >= last or not self._covers(search.key.account):
            return CountPage([], None)
        begin, end = datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC)
        since = self.kept_since
        if search.key.category in DATA_CATEGORIES:
            since = self.data_kept_since or since
        counts = await self._store.count_key(search.key, begin, end, search.period, snapshot, since)
        if search.with_zeros:
            counts_by_start = dict(counts)
            starts = [datetime.fromtimestamp(s, UTC) for s in range(first, last, search.period)]
            counts = [(start, counts_by_start.get(start, 0)) for start in starts]
        if len(counts) <= limit:
            return CountPage(counts, None)
        following = int(counts[limit][0].timestamp())
        next_page = PageToken(following, last, snapshot.recorded, snapshot.imported)
        return CountPage(counts[:limit], self._tokens.write(next_page, self._conditions(search)))

    async def _search(self, search: Search, limit: int, token: str | None) -> Page:
        if token is None:
            await self.follower.until_newest()
            before, snapshot = None, self._store.snapshot
        else:
            page_token = await self._page_token(token, search)
            before = (datetime.fromtimestamp(page_token.first, UTC), page_token.second)
            snapshot = page_token.snapshot
        query = replace(self._query(search, snapshot), limit=limit + 1, before=before)
        events = await self._store.lookup(query)
        if len(events) <= limit and sum(len(event.record) for event in events) <= PAGE_TEXT:
            return Page(events, None)
        page = events[:limit]
        last = page[-1]
        seconds = int(last.event_time.timestamp())
        next_page = PageToken(seconds, last.position, snapshot.recorded, snapshot.imported)
        return Page(page, self._tokens.write(next_page, self._conditions(search)))

    async def _page_token(self, token: str, search: Search | CountSearch) -> PageToken:
        """Returns the content of a token, once this server has every event that its issuer had.

        Raises:
            CloudTrailError: it is not ours, or was given for another search.
            Throttled: this server is behind.
        """
        page_token = self._tokens.read(token, self._conditions(search))
        is_behind = self._store.snapshot.imported < page_token.imported
        if is_behind or not await self.follower.is_visible(page_token.snapshot.recorded):
            message = "This server does not have the events of the previous page yet; try again."
            raise Throttled(message)
        return page_token

    def _query(self, search: Search, snapshot: Snapshot) -> EventQuery:
        return EventQuery(
            limit=0,
            snapshot=snapshot,
            account=search.account,
            region=search.region,
            categories=search.categories,
            attribute=search.attribute,
            expression=self._limit(search.expression),
            start=search.start,
            end=search.end,
            recorded_since=self.kept_since,
            data_since=self.data_kept_since,
        )

    def _limit(self, expression: Expression | None) -> Expression | None:
        """Returns the condition on events, including that the view has their account."""
        if self._accounts is None:
            return expression
        own: Expression = Or(
            tuple(Compare(("account",), "=", literal(account), True) for account in self._accounts)
        )
        return own if expression is None else And((expression, own))

    def _covers(self, account: str | None) -> bool:
        return self._accounts is None or account in self._accounts

    async def _newest_query(self, search: Search, limit: int = 0) -> EventQuery:
        """Returns the query of a search over all records that were durable before."""
        await self.follower.until_newest()
        return replace(self._query(search, self._store.snapshot), limit=limit)

    @property
    def kept_since(self) -> datetime:
        """The start of the retention period, by time of recording or import."""
        return self._clock.now() - self._retention

    @property
    def data_kept_since(self) -> datetime | None:
        """The same of data events; None if it is not later."""
        return None if self._data_retention is None else self._clock.now() - self._data_retention

    def _conditions(self, search: Search | CountSearch) -> dict[str, Any]:
        """Returns the search that a page's token is valid for."""
        return {**asdict(search), "within": self._accounts}

    async def latest(self, search: Search, limit: int) -> list[FoundEvent]:
        """Returns up to `limit` events, newest first, over as many pages as that takes.

        There are fewer of large ones; see `has_all`.
        """
        events: list[FoundEvent] = []
        token: str | None = None
        while has_all(events, limit):
            page = await self.search(search, min(1_000, limit - len(events)), token)
            events.extend(page.events)
            token = page.next_token
            if token is None:
                break
        return events

    async def events_of(self, name: str, search: Search, limit: int = 1_000) -> list[FoundEvent]:
        """Returns the events that name a resource `name`, which may be an ARN."""
        return await self.latest(replace(search, attribute=("ResourceName", name)), limit)

    async def earliest(self, search: Search) -> list[FoundEvent]:
        """Returns the events of the first second that has any of a search, newest first."""
        activity = await self.activity(search, ())
        return await self.latest(replace(search, end=activity.first), PAGE) if activity else []


def has_all(events: Sequence[FoundEvent], limit: int) -> bool:
    """Returns whether `History.latest` has certainly returned every event for `limit`."""
    return len(events) < limit and sum(len(e.record) for e in events) <= MAX_LATEST_TEXT


def _periods(search: CountSearch, now: datetime) -> tuple[int, int]:
    """Returns the start of the first period, and the end of the last, in seconds since 1970."""
    period = search.period
    first_kept = -(-int((now - search.kept).timestamp()) // period) * period
    end = math.ceil(min(search.end or now, now).timestamp() / period) * period
    if search.start is None:
        return first_kept, end
    return max(first_kept, int(search.start.timestamp()) // period * period), end


def _countable_field(name: str) -> CountedField:
    field = FIELDS.get(name.lower())
    for counted in get_args(CountedField):
        if counted == field:
            return counted  # type: ignore[no-any-return]
    names = [field_name for field_name, field in FIELDS.items() if field in get_args(CountedField)]
    raise CloudTrailError(
        "InvalidParameterException", f"field must be one of {', '.join(names)}, not {name!r}"
    )


def event_document(event: FoundEvent) -> dict[str, Any]:
    """Returns the Event shape of LookupEvents (cloudtrail-format §6)."""
    document: dict[str, Any] = {
        "EventId": event.event_id,
        "EventName": event.event_name,
        "ReadOnly": "true" if event.read_only else "false",
    }
    if event.access_key_id:
        document["AccessKeyId"] = event.access_key_id
    document["EventTime"] = int(event.event_time.timestamp())
    document["EventSource"] = event.event_source
    if event.username:
        document["Username"] = event.username
    resources = []
    for resource in event.resources:
        with_type = {"ResourceType": resource.type} if resource.type else {}
        resources.append({**with_type, "ResourceName": resource.name})
    document["Resources"] = resources
    document["CloudTrailEvent"] = event.record
    return document


async def _none() -> int:
    return 0
