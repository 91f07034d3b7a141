"""Stories of resources and principals, and the original callers behind events."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal, TypedDict

import orjson
from starlette.requests import Request

from opentrail.api.services import Services
from opentrail.api.v1.answers import invalid_parameter
from opentrail.api.v1.callers import seen_by
from opentrail.api.v1.routes import VIEWER, route
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Record, as_object, format_time
from opentrail.core.expression import And, Compare, Is, literal
from opentrail.history.event_history import History, Search, has_all
from opentrail.history.nearest import nearest_values
from opentrail.history.threads import in_thread
from opentrail.ports.event_store import FoundEvent, ValueCount
from opentrail.who.event_rows import find_event, rows_of
from opentrail.who.original_callers import chain_of, next_calls
from opentrail.who.resource_stories import who
from opentrail.who.sentence import actor, join, words_of
from opentrail.who.shapes import (
    CountedValue,
    Ends,
    EventRow,
    ProvenSentence,
    ResourceLife,
    ResourceStories,
    SentencePart,
)

#: Maximum newest events of a principal for the count of its user agents.
_MAX_AGENTS_OF = 1_000
#: Maximum values in each list.
_MAX_VALUES = 10
#: Maximum events whose original callers are found in one answer.
_MAX_ORIGINS = 200
#: Maximum rows of events of a principal.
_MAX_ROWS = 20
#: Maximum rows of events of a resource.
_MAX_ROWS_OF_RESOURCE = 200


class LifeStory(TypedDict):
    """The creator, the last changes and the deletion of a resource or principal."""

    #: In words, in the order in which it happened; the last of several changes.
    sentences: list[str]
    #: The event that the first sentence describes.
    maker: EventRow | None
    #: The same sentences of each former resource of that name, the latest first.
    former: list[list[str]]


class Principal(TypedDict):
    """The calls of a principal: their number, values and times."""

    arn: str
    #: The story of the user, or of the role of a session.
    story: LifeStory
    #: A short description of the principal.
    sentence: str
    first: str
    last: str
    events: int
    services: list[CountedValue]
    ips: list[CountedValue]
    keys: list[CountedValue]
    agents: list[CountedValue]
    #: Number of newest events that `agents` counts.
    agentsOf: int
    #: Events by weekday (Monday first) and hour, in UTC.
    hours: list[list[int]]
    latest: list[EventRow]


class ResourceStory(TypedDict):
    """The story of a resource in sentences, and the events that name it."""

    #: The answer of `who`; empty if it has none.
    sentences: list[str]
    story: LifeStory
    answers: list[ResourceLife]
    events: list[EventRow]
    #: Whether `events` is complete, not only the newest events.
    complete: bool


class NameAnswer(TypedDict):
    """The creator of a named resource, else the last action of that user; and later changes."""

    #: The name as spelled in events.
    name: str
    #: In words, with its time in UTC; None if the name is unknown.
    sentence: str | None
    #: The sentence without its time.
    clause: str | None
    #: The event that the sentence describes.
    event: EventRow | None
    #: Types of the name's resources, in words: `IAM user`.
    types: list[str]
    #: The original caller behind a role, in words; None: no role, or the caller is not recorded.
    behind: str | None
    #: Number of changes after the creation, and the last of them in words.
    changes: int
    #: Whether `changes` counts all changes.
    complete: bool
    lastChange: str | None
    #: Numbers of calls and failed calls of the user of that name; at most 10,000.
    calls: int
    failed: int


class CallerChain(TypedDict):
    """The calls that led to the caller of an event, and the caller's next calls."""

    #: Newest first: each call issued the credentials of the call before it, or of the event.
    steps: list[EventRow]
    #: The original caller, in words; None: it is not recorded.
    origin: str | None
    kind: Literal["human", "service", "unknown"]
    #: The end of the chain, in words.
    end: str
    #: The source identity of the sessions; None without one.
    sourceIdentity: str | None
    #: The session tags: key → value.
    sessionTags: dict[str, str]
    #: Oldest first.
    next: list[EventRow]


class OriginRow(TypedDict):
    """The original caller behind the credentials of an event."""

    kind: Literal["human", "service"]
    #: The caller, such as `IAM user John`.
    words: str
    #: The parts of `words`.
    parts: list[SentencePart]


class Origins(TypedDict):
    """The original caller of each event for which it is recorded, by event ID."""

    origins: dict[str, OriginRow]


class Stories:
    """The calls about principals and resources.

    Args:
        services: the features that operations use.
        missing: describes each range missing from event history.
    """

    def __init__(self, services: Services, missing: Callable[[], list[str]]) -> None:
        self._services = services
        self._missing = missing
        #: Held by an answer with thousands of events in memory.
        self._turn = asyncio.Lock()

    @route("GET", "/answer", VIEWER, "look up a name", query=("name",))
    async def answer(self, request: Request) -> NameAnswer:
        """Returns the creator of a named resource, or the last action of that user."""
        name = request.query_params.get("name", "").strip()
        if not name:
            raise invalid_parameter("name must be given")
        history = seen_by(request, self._services).history
        stories = await who(history, name)
        if not stories["answers"] and (other := await _same_but_case(history, name)):
            name, stories = other, await who(history, other)
        return await _answer(history, name, stories)

    @route("GET", "/events/{id}/caller", VIEWER, "see who was behind a call")
    async def caller(self, request: Request) -> CallerChain:
        """Returns the calls that led to the caller of an event, and the caller's next calls."""
        history = seen_by(request, self._services).history
        event = await find_event(history, request.path_params["id"])
        record = orjson.loads(event.record)
        chain = (await chain_of(history, record)).document()
        return {
            "steps": await _rows_of_evidence(history, chain["steps"]),
            "origin": chain["origin"],
            "kind": chain["kind"],
            "end": chain["end"],
            "sourceIdentity": chain["sourceIdentity"],
            "sessionTags": chain["sessionTags"],
            "next": await _rows_of_evidence(history, await next_calls(history, event, record)),
        }

    @route("GET", "/events/origins", VIEWER, "see who was behind some calls", query=("ids",))
    async def origins(self, request: Request) -> Origins:
        """Returns the original callers of events; leaves out events without a recorded one."""
        ids = request.query_params.get("ids", "").split(",")
        if len(ids) > _MAX_ORIGINS:
            message = f"ids must be at most {_MAX_ORIGINS} event IDs, not {len(ids)}"
            raise invalid_parameter(message)
        history = seen_by(request, self._services).history
        origins: dict[str, OriginRow] = {}
        for event_id in ids:
            for event in await history.latest(Search(attribute=("EventId", event_id)), 1):
                origin = (await chain_of(history, orjson.loads(event.record))).origin
                if origin.kind != "unknown":
                    origins[event_id] = {
                        "kind": origin.kind,
                        "words": join(origin.parts),
                        "parts": [{"kind": part.kind, "text": part.text} for part in origin.parts],
                    }
        return {"origins": origins}

    @route("GET", "/principals/{arn:path}", VIEWER, "see a principal")
    async def principal(self, request: Request) -> Principal:
        """Returns the numbers, values and times of a principal's calls."""
        async with self._turn:
            return await self._principal(request)

    async def _principal(self, request: Request) -> Principal:
        arn = request.path_params["arn"]
        same = Compare(("principal_arn",), "=", literal(arn), is_field=True)
        history = seen_by(request, self._services).history
        search = Search(expression=same)
        fields = ("eventSource", "sourceIpAddress", "accessKeyId")
        activity = await history.activity(search, fields, _MAX_VALUES)
        events = await history.latest(search, _MAX_AGENTS_OF)
        if not events or activity is None:
            raise CloudTrailError("PrincipalNotFound", f"there is no event of {arn}", 404)
        record: Record = orjson.loads(events[0].record)
        identity = as_object(record.get("userIdentity"))
        issuer = as_object(as_object(identity.get("sessionContext")).get("sessionIssuer"))
        hours = [[0] * 24 for _ in range(7)]
        for hour in activity.hours:
            hours[hour.start.weekday()][hour.start.hour] += hour.ok + hour.failed
        services, ips, keys = (_counted(activity.values[field]) for field in fields)
        return {
            "arn": arn,
            "story": await _life_story(history, await who(history, str(issuer.get("arn") or arn))),
            "sentence": actor(record),
            "first": format_time(activity.first),
            "last": format_time(events[0].event_time),
            "events": activity.events,
            "services": services,
            "ips": ips,
            "keys": keys,
            "agents": await in_thread(_user_agents, events),
            "agentsOf": len(events),
            "hours": hours,
            "latest": await rows_of(events[:_MAX_ROWS]),
        }

    @route("GET", "/resources", VIEWER, "see a resource", query=("name", "type", "account"))
    async def resource(self, request: Request) -> ResourceStory:
        """Returns who created, changed and deleted a resource, in sentences, and its events."""
        query = request.query_params
        history, name = seen_by(request, self._services).history, query.get("name", "")
        if not name:
            raise invalid_parameter("name must be given")
        answer = await who(history, name, query.get("type"), query.get("account"))
        events = await history.events_of(name, Search(), limit=_MAX_ROWS_OF_RESOURCE)
        return {
            "sentences": [answer["sentence"]] if answer["sentence"] else [],
            "story": await _life_story(history, answer),
            "answers": answer["answers"],
            "events": await rows_of(events),
            "complete": has_all(events, _MAX_ROWS_OF_RESOURCE),
        }


async def _life_story(history: History, answer: ResourceStories) -> LifeStory:
    """Returns the answer of `who` about the first resource of a name."""
    first = answer["answers"][0] if answer["answers"] else None
    changes = _changes_in(first, first["changed"]) if first else []
    makers = await _rows_of_evidence(history, changes[:1])
    return {
        "sentences": _sentences(changes),
        "maker": makers[0] if makers else None,
        "former": [_sentences(_changes_in(life)) for life in first["former"]] if first else [],
    }


def _changes_in(life: Ends, last: ProvenSentence | None = None) -> list[ProvenSentence]:
    """Returns the answer of `who` about the changes of a resource, in order."""
    return [each for each in (life["created"], *life["renamed"], last, life["deleted"]) if each]


def _sentences(changes: Iterable[ProvenSentence]) -> list[str]:
    return [*dict.fromkeys(change["sentence"] for change in changes)]


async def _same_but_case(history: History, name: str) -> str | None:
    """Returns the resource or user whose name differs from this one in case only."""
    expressions = [
        Compare((field,), "=", literal(name), is_field=True)
        for field in ("resource_names", "username")
    ]
    for expression in expressions:
        for found in await nearest_values(history, Search(expression=expression)):
            if found.difference == "case":
                return found.nearest
    return None


async def _answer(history: History, name: str, stories: ResourceStories) -> NameAnswer:
    """Returns the answer of `who`, and the last action of the user of the name."""
    by_name = Compare(("username",), "=", literal(name), is_field=True)
    failures = And((by_name, Is("failure")))
    calls = await history.count_events(Search(expression=by_name))
    failed = await history.count_events(Search(expression=failures)) if calls.value else calls
    answer: NameAnswer = {
        "name": name,
        "sentence": None,
        "clause": None,
        "event": None,
        "types": [],
        "behind": None,
        "changes": 0,
        "complete": True,
        "lastChange": None,
        "calls": calls.value,
        "failed": failed.value,
    }
    if stories["answers"]:
        first = stories["answers"][0]
        event = await find_event(history, str(stories["evidence"]["eventId"]))
        changed, chain = first["changed"], first["caller"]
        return {
            **answer,
            "sentence": stories["sentence"],
            "clause": (stories["sentence"] or "").partition(" UTC, ")[2],
            "event": (await rows_of([event]))[0],
            "types": [words_of(item["type"]) for item in stories["answers"]],
            "behind": chain["origin"] if chain["steps"] else None,
            "changes": changed["times"] if changed else 0,
            "complete": changed["complete"] if changed else True,
            "lastChange": changed["sentence"] if changed else None,
        }
    if calls.value:
        (row,) = await rows_of(await history.latest(Search(expression=by_name), 1))
        return {**answer, "sentence": row["sentence"], "clause": row["clause"], "event": row}
    return answer


async def _rows_of_evidence(
    history: History, statements: Iterable[ProvenSentence]
) -> list[EventRow]:
    """Returns the rows of the events that prove statements, in the order of the statements."""
    ids = [str(statement["evidence"]["eventId"]) for statement in statements]
    return await rows_of([await find_event(history, event_id) for event_id in ids])


def _user_agents(events: Iterable[FoundEvent]) -> list[CountedValue]:
    agents = (orjson.loads(event.record).get("userAgent") for event in events)
    named = Counter(agent for agent in agents if isinstance(agent, str) and agent)
    return _counted(named.most_common(_MAX_VALUES))


def _counted(values: Iterable[ValueCount]) -> list[CountedValue]:
    return [{"value": value, "count": count} for value, count in values]
