"""The shapes of answers about events, callers, resources and incidents.

Commands load this module with the questions, so it imports little.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

from opentrail.core.facts import (
    AccountId,
    EventId,
    IpAddress,
    KeyId,
    RecordText,
    Region,
    ResourceType,
    Time,
    Word,
)
from opentrail.core.user_agents import AgentKind, MethodKind

PartKind = Literal[
    "actor-type",
    "actor",
    "agent",
    "session",
    "verb",
    "object-type",
    "object",
    "method",
    "refusal",
    "plain",
]


class ResourceRow(TypedDict):
    """A resource that an event names."""

    type: ResourceType | None
    name: str


class SentencePart(TypedDict):
    """Words of a clause with the spaces around them, and the `kind` of thing that they name."""

    kind: PartKind
    text: str


class MethodRow(TypedDict):
    """The method of a call."""

    kind: MethodKind
    name: str


class AgentRow(TypedDict):
    """The agent or tool that made a call, according to its caller."""

    name: str
    kind: AgentKind
    #: The agent's session or run; None: it does not name one.
    session: str | None
    #: The user for whom the agent acts; None: it does not name one.
    delegator: str | None


class CallRow(TypedDict):
    """The data in the record of an event, without sentences."""

    eventId: EventId
    eventTime: Time
    eventName: Word
    eventSource: Word
    region: Region
    account: AccountId
    category: Word
    readOnly: bool
    username: str | None
    principalType: Word | None
    arn: str | None
    accessKeyId: KeyId | None
    sourceIp: IpAddress | None
    userAgent: str | None
    errorCode: Word | None
    requestId: str | None
    mfa: bool | None
    resources: list[ResourceRow]


class EventRow(CallRow):
    """An event in lists and in the head of its page."""

    #: A description of the event that begins with its time in UTC.
    sentence: str
    #: The sentence without its time.
    clause: str
    #: The parts whose concatenation is `clause`.
    parts: list[SentencePart]
    #: None: the method is not recorded.
    method: MethodRow | None
    #: None: no known agent made the call.
    agent: AgentRow | None


class NearestRow(TypedDict):
    """A searched value that no event has, and the most similar value in events."""

    field: str
    #: The field in words.
    label: str
    value: str
    nearest: str
    events: int
    #: `case`: the values differ in case only.
    difference: Literal["case", "letters"]


class RecordEvidence(TypedDict):
    """The members of a record that prove a sentence."""

    eventId: EventId | None
    eventTime: Time | None
    eventName: Word | None
    sourceIPAddress: IpAddress | None
    userAgent: str | None
    accessKeyId: KeyId | None
    principal: str | None


class ProvenSentence(TypedDict):
    """A sentence about a call, and its evidence."""

    sentence: str
    evidence: RecordEvidence


class Creation(ProvenSentence):
    """The call that created a resource."""

    #: Whether the resource certainly did not exist before.
    certain: bool


class LastChange(ProvenSentence):
    """The last change of a resource."""

    #: Number of changes after the creation, and whether it counts all changes.
    times: int
    complete: bool


class CredentialChain(TypedDict):
    """The calls that issued a caller's credentials, back to the original caller."""

    #: The calls, nearest first.
    steps: list[ProvenSentence]
    #: The original caller, in words; None: it is not recorded.
    origin: str | None
    kind: Literal["human", "service", "unknown"]
    #: The end of the chain, in words.
    end: str
    #: The source identity of the sessions; None without one.
    sourceIdentity: str | None
    #: The session tags: key → value.
    sessionTags: dict[str, str]


class Ends(TypedDict):
    """The creation and deletion of a resource, and its names."""

    created: Creation | None
    renamed: list[ProvenSentence]
    deleted: ProvenSentence | None


class FormerLife(Ends):
    """Who created, renamed and deleted a former resource of a name."""

    name: str


class ResourceLife(Ends):
    """Who created, changed and deleted a resource, and who was behind the credentials."""

    type: ResourceType | None
    name: str
    account: AccountId
    region: Region | None
    changed: LastChange | None
    caller: CredentialChain
    #: The caller's next calls, oldest first.
    next: list[ProvenSentence]
    #: Former resources of the name, the latest first.
    former: list[FormerLife]


class ListedResource(TypedDict):
    """A resource in the list of named resources."""

    name: str
    type: ResourceType | None
    #: Its other names in the events, such as its ARN.
    aliases: list[str]
    #: The number of events that name it; None in a list by prefix.
    events: int | None
    #: Whether `events` counts all events; otherwise there are more.
    counted: bool
    #: The newest event that names it.
    latest: EventRow


class DocumentResource(TypedDict):
    """A resource in the form of LookupEvents."""

    ResourceType: NotRequired[ResourceType]
    ResourceName: str


class EventDocument(TypedDict):
    """An event in the form of LookupEvents."""

    EventId: EventId
    EventName: Word
    ReadOnly: Literal["true", "false"]
    AccessKeyId: NotRequired[KeyId]
    #: Seconds since 1970.
    EventTime: int
    EventSource: Word
    Username: NotRequired[str]
    Resources: list[DocumentResource]
    CloudTrailEvent: RecordText


class CountedValue(TypedDict):
    """A value, and the number of events that have it."""

    value: str
    count: int


class StreamedEvent(EventDocument):
    """An event of an export, with its position in the journal."""

    position: int


class HiddenEvents(TypedDict):
    """Events hidden by the default conditions of a search."""

    count: int
    complete: bool
    #: Flags of commands that lift these conditions.
    flags: list[str]
    regions: list[str]


class PartsRow(TypedDict):
    """Events that have the searched words as parts of words."""

    words: list[str]
    events: int
    complete: bool
    #: Members of records with these words.
    members: list[CountedValue]


class SearchHints(TypedDict, total=False):
    """Suggestions for a search, and events that it left out."""

    #: Values that differ in case only from the searched ones, and that the search used instead.
    corrected: list[NearestRow]
    nearest: list[NearestRow]
    parts: PartsRow
    #: Whether older events are left out, since the records are large.
    truncated: bool
    #: None: the defaults hide no events.
    hidden: HiddenEvents | None


class FoundEvents(SearchHints):
    """Events in the form of LookupEvents, newest first, and hints about the search."""

    events: list[EventDocument]
    #: A description of each range missing from event history.
    missing: list[str]


class ResourceStories(TypedDict):
    """Who created, changed and deleted the resources of a name."""

    #: Describes the first of `answers`; None without answers.
    sentence: str | None
    #: Number of events that name the resource.
    events: int
    #: The searched resource.
    resource: str
    #: The most recent first.
    answers: list[ResourceLife]
    #: The members that prove `sentence`, and the whole record.
    evidence: NotRequired[RecordEvidence]
    record: NotRequired[RecordText]
    #: If there are no `answers`: the first event that names the resource, if any.
    first: NotRequired[list[EventDocument]]


class IncidentFigures(TypedDict):
    """An incident of unusual activity."""

    id: EventId
    sentence: str
    state: Literal["open", "over"]
    start: Time
    end: Time | None
    account: AccountId
    region: Region
    eventSource: Word
    eventName: Word
    insightType: Word
    errorCode: Word | None
    #: Calls, or errors, in each minute, and their usual number.
    average: float
    baseline: float
    identity: str | None
    sourceIPAddress: IpAddress | None
    #: The note of an incident marked as expected; None: it is not marked.
    expected: str | None
    extension: Mapping[str, Any] | None


class IncidentRow(IncidentFigures):
    """An incident in a list."""

    #: Its duration in minutes, until now or its end.
    minutes: int


_Period = TypedDict("_Period", {"from": str, "until": str})


class IncidentDetail(IncidentFigures, _Period):
    """An incident with its record, and the calls per minute in a period around it."""

    record: Mapping[str, Any]
    #: Time and number of calls of each minute.
    minutes: list[tuple[str, int]]
