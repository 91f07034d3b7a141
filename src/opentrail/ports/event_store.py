"""The searchable store behind event history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from opentrail.core.attributes import Attributes, Resource
from opentrail.core.event import DATA, MANAGEMENT, NETWORK_ACTIVITY, Entry
from opentrail.core.expression import Expression

#: Greater than any position.
LAST_POSITION = 2**62
#: A page ends once its records have more characters than this.
PAGE_TEXT = 16 << 20
#: The categories whose events expire before others.
DATA_CATEGORIES = (DATA, NETWORK_ACTIVITY)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The events that a store contained at a moment; by default its current events.

    `recorded` is the last recorded event's position, `imported` the last imported event's number.
    """

    recorded: int = LAST_POSITION
    imported: int = LAST_POSITION


#: The events that a store contains now.
PRESENT = Snapshot()


@dataclass(frozen=True, slots=True)
class EventQuery:
    """A page of events: newest first by (event time, position).

    `None` leaves a condition out. `snapshot` keeps later arrivals out of later pages; `before` is
    the (event time, position) of the last event of the previous page.
    """

    limit: int
    snapshot: Snapshot = Snapshot()
    account: str | None = None
    region: str | None = None
    categories: tuple[str, ...] | None = None
    attribute: tuple[str, str] | None = None
    start: datetime | None = None
    end: datetime | None = None
    before: tuple[datetime, int] | None = None
    expression: Expression | None = None
    #: Only events recorded or imported since this time.
    recorded_since: datetime | None = None
    #: The same for the events of `DATA_CATEGORIES`.
    data_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """One event of a page, with LookupEvents' fields in addition to the record.

    `position` is the event's position in the journal. Imported events are not in the journal:
    they are numbered in order of import, and their position is that number below zero.
    """

    position: int
    event_time: datetime
    event_id: str
    event_name: str
    event_source: str
    read_only: bool
    username: str | None
    access_key_id: str | None
    resources: tuple[Resource, ...]
    record: str

    @property
    def is_imported(self) -> bool:
        """Whether the event was imported, not recorded."""
        return self.position < 0

    @property
    def order(self) -> tuple[datetime, int]:
        """The event's time, then its order of arrival among events of the same second."""
        return self.event_time, abs(self.position)

    @classmethod
    def of(cls, position: int, attributes: Attributes, record: str) -> FoundEvent:
        """Returns the event in a record with these attributes; times are whole seconds."""
        return cls(
            position,
            attributes.event_time.replace(microsecond=0),
            attributes.event_id,
            attributes.event_name,
            attributes.event_source,
            attributes.read_only,
            attributes.username,
            attributes.access_key_id,
            attributes.resources,
            record,
        )


@dataclass(frozen=True, slots=True)
class CallCounts:
    """The number of events of one kind, by minute of event time.

    `minutes`, in ascending order, are minutes since 1970. `counts` has the number of events of each
    of them. Minutes without events are left out.
    """

    account: str
    region: str
    category: str
    event_source: str
    event_name: str
    error_code: str | None
    read_only: bool
    minutes: list[int]
    counts: list[int]


@dataclass(frozen=True, slots=True)
class CallKey:
    """The subject of a call rate or an error rate.

    With an error code, the key has all events with this code. Without one it has the events that
    count for a call rate (cloudtrail-format §11.1): writes among management events, all data
    events.
    """

    account: str
    region: str
    category: str
    event_source: str
    event_name: str
    error_code: str | None = None

    @property
    def only_writes(self) -> bool:
        """Whether read-only events are left out."""
        return self.error_code is None and self.category == MANAGEMENT


@dataclass(frozen=True, slots=True)
class PrincipalCounts:
    """The number of events of one kind by one principal, program and agent, by minute.

    `principal` is an ARN, without the session's name if it is a role session's; None if the caller
    has no ARN. `user_agent_family` and `agent`, the name of an agent, are as in
    `core/user_agents.py`. `minutes`, of event times, and `counts` are as in `CallCounts`.
    """

    account: str
    region: str
    event_source: str
    event_name: str
    principal: str | None
    user_agent_family: str | None
    agent: str | None
    error_code: str | None
    minutes: list[int]
    counts: list[int]


#: A value and the number of events that have it.
ValueCount = tuple[str, int]
#: The error code that events without one are counted under (cloudtrail-format §11.2).
NO_ERROR = "null"


@dataclass(frozen=True, slots=True)
class PrincipalActivity:
    """The numbers of events and of failed events of a principal, and its first and last time.

    `arn` is the caller's ARN; for a session, the session's ARN.
    """

    arn: str
    events: int
    failed: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class ValueCounts:
    """The number of a key's events, and their most frequent values in descending order.

    The lists are the attributions of an Insights event (cloudtrail-format §11.2). Events without an
    ARN are counted by `invokedBy`, then by `principalId`; events without the value, in no list.
    """

    events: int
    user_identity_arn: list[ValueCount]
    user_agent: list[ValueCount]
    error_code: list[ValueCount]


@dataclass(frozen=True, slots=True)
class PeriodCounts:
    """The number of events with (`failed`) and without (`ok`) an error code in a period."""

    start: datetime
    ok: int
    failed: int


#: Fields of an event whose most frequent values a store can find. The names are the same as in
#: `Attributes`; `resource_types` has the types of all resources of an event.
CountedField = Literal[
    "access_key_id",
    "account",
    "agent",
    "category",
    "error_code",
    "event_name",
    "event_source",
    "principal_arn",
    "region",
    "resource_types",
    "source_ip",
    "username",
]


@dataclass(frozen=True, slots=True)
class EventOverview:
    """The counts of each period, and the most frequent values of each field."""

    periods: list[PeriodCounts]
    values: dict[CountedField, list[ValueCount]]


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A range of positions, and the listed file with its records, except lost ones."""

    first: int
    last: int
    #: None: the journal has lost the whole range, or a store selects no event there.
    name: str | None
    #: When it was listed, after all of its records were made.
    listed: datetime
    #: SHA-256 of its index, in hexadecimal digits; None without an index.
    index: str | None = None
    #: Bytes of the file, of event data stores alone.
    bytes: int = 0
    #: Whether events of the range are lost, and no operator has accepted that; of stores.
    is_lost: bool = False


#: Why events expired: they were recorded long ago, event history is too large, the disk fills up.
ExpiryReason = Literal["retention", "size", "disk"]


@dataclass(frozen=True, slots=True)
class Excess:
    """The bytes that a store must free, beginning with the oldest data events.

    With `only_data` no other events go.
    """

    bytes: int
    reason: ExpiryReason
    only_data: bool = False


@dataclass(frozen=True, slots=True)
class ExpiredEvents:
    """Events of one category that expired together, with their first and last position and time.

    Positions of imported events are their numbers below zero.
    """

    category: str
    reason: ExpiryReason
    count: int
    first: int
    last: int
    oldest: datetime
    newest: datetime


class EventStore(Protocol):
    """Records by their attributes.

    `count`, `histogram`, `top_values` and `overview` are of exactly the events that the pages of a
    query have; they ignore `before`, and all but `count` also `limit`.

    The other counts are of the events of a snapshot with `start <= event time < end`.

    All of them may take long, and end when they are cancelled.
    """

    @property
    def position(self) -> int:
        """The last position that lookups see."""
        ...

    @property
    def snapshot(self) -> Snapshot:
        """The events that lookups see now."""
        ...

    async def add(self, entries: Sequence[Entry]) -> None:
        """Return once lookups see the entries; entries already there are left out."""
        ...

    async def lookup(self, query: EventQuery) -> list[FoundEvent]:
        """Return the page that `query` describes; see also `PAGE_TEXT`."""
        ...

    async def count(self, query: EventQuery) -> int:
        """Return the number of events of a query; `query.limit` if there are more than that."""
        ...

    async def histogram(self, query: EventQuery, seconds: int) -> list[PeriodCounts]:
        """Return the counts of each period that has any, in order of time.

        Periods have `seconds` seconds, and begin at multiples of that since 1970.
        """
        ...

    async def top_values(
        self,
        query: EventQuery,
        fields: Sequence[CountedField],
        limit: int,
        prefix: str = "",
    ) -> dict[CountedField, list[ValueCount]]:
        """Return for each field its `limit` most frequent values, the most frequent first.

        Values that are equally frequent are in order of their code points. A value is counted once
        for each event that has it; absent and empty values are left out. With a prefix only values
        that begin with it are found, ignoring case.
        """
        ...

    async def overview(
        self, query: EventQuery, seconds: int, fields: Sequence[CountedField], limit: int
    ) -> EventOverview:
        """Return the results of `histogram` and `top_values`; shared data is read once."""
        ...

    async def list_principals(self, query: EventQuery, limit: int) -> list[PrincipalActivity]:
        """Return the `limit` principals with an ARN that called last, the last one first.

        Principals that called in the same second are in order of the code points of their ARNs.
        """
        ...

    async def count_calls(
        self, start: datetime, end: datetime, snapshot: Snapshot = PRESENT
    ) -> list[CallCounts]:
        """Return the counts of all kinds of management and data events, in any order.

        A response has up to 8 bytes for each minute of each kind. Ask by the day: one with 360,000
        events is 3 MB, and is counted in half a second.
        """
        ...

    async def count_principals(
        self, start: datetime, end: datetime, snapshot: Snapshot = PRESENT
    ) -> list[PrincipalCounts]:
        """Return the counts of management and data events by principal, in any order.

        Ask by the day: every record is read for its user agent, which makes it slower than
        `count_calls`.
        """
        ...

    async def count_values(
        self,
        key: CallKey,
        start: datetime,
        end: datetime,
        snapshot: Snapshot = PRESENT,
        limit: int = 50,
    ) -> ValueCounts:
        """Return the exact counts of a key's events and of each attribute's `limit` top values."""
        ...

    async def count_key(
        self,
        key: CallKey,
        start: datetime,
        end: datetime,
        period: int,
        snapshot: Snapshot = PRESENT,
        recorded_since: datetime | None = None,
    ) -> list[tuple[datetime, int]]:
        """Return the number of a key's events in each period that has any, in order of time.

        Periods have `period` seconds, and begin at multiples of that since 1970. With
        `recorded_since` only events count that were recorded or imported since then.
        """
        ...

    async def close(self) -> None:
        """Return once files are closed."""
        ...
