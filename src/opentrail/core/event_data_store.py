"""An event data store: its settings, and which events it has.

Source: "CreateEventDataStore" and "UpdateEventDataStore" of the API Reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal, Self

from opentrail.core.arns import STORE, CloudTrailArn
from opentrail.core.entry_matching import EntryBatch, matcher_of
from opentrail.core.event import (
    ACTIVITY,
    DATA,
    INSIGHT,
    MANAGEMENT,
    NETWORK_ACTIVITY,
    Entry,
    Json,
    parse_time,
)
from opentrail.core.selectors import ADVANCED, Selection
from opentrail.core.trail import Span, Tags

BillingMode = Literal["EXTENDABLE_RETENTION_PRICING", "FIXED_RETENTION_PRICING"]
StoreStatus = Literal["ENABLED", "STOPPED_INGESTION", "PENDING_DELETION"]
#: Categories of the events that stores can have.
STORE_CATEGORIES = (MANAGEMENT, DATA, NETWORK_ACTIVITY, INSIGHT, ACTIVITY)
#: Categories of which a store has no others.
ALONE = (INSIGHT, ACTIVITY)
#: Time in which a deleted store can be restored.
RESTORABLE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Phase:
    """The selection of a store from a journal position on.

    Attributes:
        after: the last position before it.
        selectors: advanced event selectors in the API's form; None: nothing.
        every_region: whether it selects events of all Regions.
        channels: the ARNs of the channels whose events it selects.
    """

    after: int
    selectors: list[Json] | None
    every_region: bool
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventDataStore:
    """A created event data store. Its events follow from the journal and its phases."""

    id: str
    name: str
    account: str
    region: str
    selectors: list[Json]
    multi_region: bool
    #: Days for which it has events, by their time.
    retention: int
    billing: BillingMode
    is_protected: bool
    created_at: str
    updated_at: str
    is_ingesting: bool
    deleted_at: str | None = None
    tags: Tags = ()
    #: The ARN of the role for federation; "": it is disabled, None: it was never enabled.
    federation_role: str | None = None
    phases: tuple[Phase, ...] = field(default_factory=tuple)
    #: The ARNs of the channels whose destination it is.
    channels: tuple[str, ...] = ()

    @property
    def arn(self) -> CloudTrailArn:
        """The store's ARN."""
        return CloudTrailArn(STORE, self.region, self.account, self.id)

    @property
    def key(self) -> str:
        """The key of its document."""
        return f"{self.account}/{self.region}/{self.id}"

    @property
    def status(self) -> StoreStatus:
        """Its status in the API."""
        if self.deleted_at is not None:
            return "PENDING_DELETION"
        return "ENABLED" if self.is_ingesting else "STOPPED_INGESTION"

    @property
    def is_federated(self) -> bool:
        """Whether an Iceberg table has its files."""
        return bool(self.federation_role)

    @property
    def categories(self) -> list[str]:
        """The categories of its events, in the order of the selectors."""
        advanced = Selection.from_document({ADVANCED: self.selectors}).advanced
        return list(dict.fromkeys(selector.category for selector in advanced))

    @property
    def category(self) -> str:
        """The category of its events; of a store for calls, the first one."""
        return self.categories[0]

    @property
    def family(self) -> str:
        """The category in `ALONE` of its events, or `MANAGEMENT` for all calls."""
        return self.category if self.category in ALONE else MANAGEMENT

    @property
    def restorable_until(self) -> datetime | None:
        """The time until which a deleted store can be restored."""
        return None if self.deleted_at is None else parse_time(self.deleted_at) + RESTORABLE

    def is_gone(self, now: datetime) -> bool:
        """Returns whether it can no longer be restored."""
        until = self.restorable_until
        return until is not None and until <= now

    def kept_since(self, now: datetime) -> datetime:
        """Returns the time since when it has events."""
        return now - timedelta(days=self.retention)

    def with_phase(self, after: int) -> Self:
        """Returns the store with its settings in effect from the position after `after` on."""
        is_selecting = self.is_ingesting and self.deleted_at is None
        selectors = self.selectors if is_selecting else None
        phase = Phase(after, selectors, self.multi_region, self.channels)
        former = tuple(each for each in self.phases if each.after < after)
        if former and replace(former[-1], after=after) == phase:
            return replace(self, phases=former)
        return replace(self, phases=(*former, phase))

    def phases_of(self, first: int, last: int) -> list[tuple[Phase | None, int, int]]:
        """Returns the parts of a range of positions, and the phase of each; None before all."""
        parts: list[tuple[Phase | None, int, int]] = []
        phase: Phase | None = None
        for following in self.phases:
            if first <= (until := min(last, following.after)):
                parts.append((phase, first, until))
                first = until + 1
            phase = following
        if first <= last:
            parts.append((phase, first, last))
        return parts

    def matcher(self, phase: Phase) -> Callable[[Entry, EntryBatch], bool]:
        """Returns a function that matches the entries which a phase selects."""
        if self.category == ACTIVITY:
            return self._sent_to(frozenset(phase.channels))
        span = Span(
            phase.after,
            None,
            "",
            "",
            "",
            every_region=phase.every_region,
            global_services=True,
            validation=False,
            selectors={ADVANCED: phase.selectors},
        )
        return matcher_of(str(self.arn), self.account, self.region, span)

    def _sent_to(self, channels: frozenset[str]) -> Callable[[Entry, EntryBatch], bool]:
        def matches(entry: Entry, batch: EntryBatch) -> bool:
            return (
                entry.category == ACTIVITY
                and entry.origin == "channel"
                and entry.account == self.account
                and batch.record_of(entry).channel in channels
            )

        return matches

    def document(self) -> Json:
        """Returns the document to store; only stores of `ACTIVITY` have channels."""
        document = asdict(self)
        if self.federation_role is None:
            del document["federation_role"]
        if self.category != ACTIVITY:
            for owner in (document, *document["phases"]):
                del owner["channels"]
        return document

    @classmethod
    def from_document(cls, document: Json) -> Self:
        """Returns the store that `document` describes; the inverse of `document`."""
        phases = tuple(Phase(**_with_channels(phase)) for phase in document["phases"])
        tags = tuple((key, value) for key, value in document["tags"])
        return cls(**{**_with_channels(document), "phases": phases, "tags": tags})


def _with_channels(document: Json) -> Json:
    return {**document, "channels": tuple(document.get("channels", ()))}
