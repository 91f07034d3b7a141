"""The shapes of answers about events, callers and resources, apart from what makes them.

Commands load them with the questions that have such answers, so this imports little.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from opentrail.core.facts import (
    AccountId,
    EventId,
    IpAddress,
    KeyId,
    Region,
    ResourceType,
    Time,
    Word,
)
from opentrail.core.user_agents import AgentKind

#: What a name is the name of.
Kind = Literal["principal", "session", "resource"]
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
MethodKind = Literal["console", "cli", "sdk", "code", "service", "opentrail", "other"]


class ResourceRow(TypedDict):
    """A resource that an event names."""

    type: ResourceType | None
    name: str


class SentencePart(TypedDict):
    """Words of a clause with the spaces around them; `kind` says what they name."""

    kind: PartKind
    text: str


class MethodRow(TypedDict):
    """How a call was made."""

    kind: MethodKind
    name: str


class AgentRow(TypedDict):
    """The agent or tool that made a call, as its caller says."""

    name: str
    kind: AgentKind
    #: The agent's session or run; None: it names none.
    session: str | None
    #: For whom the agent acts; None: it does not say.
    delegator: str | None


class CallRow(TypedDict):
    """What the record of an event says, without sentences."""

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
    """An event as lists and the head of its page show it."""

    #: What happened, beginning with its time in UTC.
    sentence: str
    #: The same without its time.
    clause: str
    #: The parts of `clause`, whose texts make it when joined.
    parts: list[SentencePart]
    #: None: it is not recorded.
    method: MethodRow | None
    #: None: the call was made by no agent that is known.
    agent: AgentRow | None
