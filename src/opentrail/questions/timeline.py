"""The history of a principal or resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, TypedDict

from msgspec import Meta
from msgspec.structs import asdict

from opentrail.core.event import format_time
from opentrail.core.expression.subjects import Kind
from opentrail.core.facts import EventId, Time, Word
from opentrail.questions.question import Account, Asked, Question, Region, Since, Text, Until
from opentrail.who.shapes import AgentRow

if TYPE_CHECKING:
    from opentrail.who.timeline import CallGroup

#: Maximum events of a timeline.
_MAX_READ = 5_000


class TimelineEntry(TypedDict):
    """Calls of one operation by one caller with one outcome, made in quick succession."""

    #: Times of the first and of the last call.
    first: Time
    last: Time
    #: The action, in words.
    words: str
    calls: int
    eventName: Word
    errorCode: Word | None
    #: None: no known agent made the call.
    agent: AgentRow | None
    #: The original caller behind a session, in words; None: no session, or it is not recorded.
    behind: str | None
    #: Ids of the first calls; at most 20.
    eventIds: list[EventId]
    #: Names of resources; at most 20.
    resources: list[str]


class Timeline(TypedDict):
    """The history of a principal or resource, oldest first."""

    name: str
    #: The expression that finds the events.
    expression: str
    entries: list[TimelineEntry]
    #: Whether `entries` covers all events, not only the newest ones.
    complete: bool
    #: A description of each range missing from event history.
    missing: list[str]


class ShowTimeline(Question, frozen=True, kw_only=True):
    """Returns the newest events of a name, oldest first, grouped."""

    role: ClassVar = "viewer"
    purpose: ClassVar = "show the history of a principal or resource, in sentences"
    defaults: ClassVar = {"since": "7d"}
    is_large: ClassVar = True

    name: Annotated[
        Text, Meta(description="name or ARN of a principal or resource, session, or key id")
    ]
    kind: Annotated[Kind | None, Meta(description="kind of the name; all by default")] = None
    since: Since | None = None
    until: Until | None = None
    account: Account | None = None
    region: Region | None = None

    async def answer(self, asked: Asked) -> Timeline:
        """Reads the newest events, and groups similar calls into one entry."""
        from opentrail.core.expression.subjects import events_of
        from opentrail.history.event_history import has_all
        from opentrail.history.threads import in_thread
        from opentrail.history.written_searches import search_in
        from opentrail.who.timeline import entries_of, name_original_callers

        expression = events_of(self.name, self.kind)
        given = {name: value for name, value in asdict(self).items() if value is not None}
        query = {**given, "expression": expression, "categories": "all"}
        events = await asked.history.latest(search_in(query, asked.now), _MAX_READ)
        entries = await in_thread(entries_of, events[::-1])
        await name_original_callers(asked.history, entries)
        return {
            "name": self.name,
            "expression": expression,
            "entries": [_entry(each) for each in entries],
            "complete": has_all(events, _MAX_READ),
            "missing": asked.missing,
        }


def _entry(entry: CallGroup) -> TimelineEntry:
    from opentrail.core.user_agents import agent_of
    from opentrail.who.event_rows import agent_row

    return {
        "first": format_time(entry.first.event_time),
        "last": format_time(entry.last.event_time),
        "words": entry.words,
        "calls": entry.calls,
        "eventName": entry.first.event_name,
        "errorCode": entry.record.get("errorCode"),
        "agent": agent_row(agent_of(entry.record)),
        "behind": entry.behind,
        "eventIds": entry.event_ids,
        "resources": list(entry.resources),
    }
