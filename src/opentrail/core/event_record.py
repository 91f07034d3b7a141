"""An event's record as bytes, with typed views that are decoded on demand."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from opentrail.core.event import Json
from opentrail.core.value_class import value_class

#: Any JSON value except an object: a member of a foreign record may have any type.
_Other = list[Any] | str | float | bool | None


class _Identity(msgspec.Struct):
    arn: Any = None


class _Resource(msgspec.Struct):
    type: Any = None
    ARN: Any = None
    ARNPrefix: Any = None
    arn: Any = None


class _Members(msgspec.Struct, rename="camel"):
    """The members of a record that `EventFields` needs; the decoder skips all others."""

    event_source: Any = None
    event_name: Any = None
    event_type: Any = None
    read_only: Any = None
    error_code: Any = None
    vpc_endpoint_id: Any = None
    session_credential_from_console: Any = None
    user_identity: _Identity | _Other = None
    resources: list[_Resource | _Other] | Json | str | float | bool | None = None


class _InsightDetails(msgspec.Struct, rename="camel"):
    event_source: Any = None
    insight_type: Any = None
    source_event_category: Any = None
    insight_source: Any = None


class _Insight(msgspec.Struct, rename="camel"):
    insight_details: _InsightDetails | _Other = None


class _Metadata(msgspec.Struct, rename={"channel_arn": "channelARN"}):
    channel_arn: Any = None


class _Channel(msgspec.Struct):
    metadata: _Metadata | _Other = None


class _Time(msgspec.Struct, rename="camel"):
    event_time: Any = msgspec.UNSET


class _Agent(msgspec.Struct, rename="camel"):
    user_agent: Any = None


T = TypeVar("T")
_MEMBERS = msgspec.json.Decoder(_Members)
_INSIGHT = msgspec.json.Decoder(_Insight)
_CHANNEL = msgspec.json.Decoder(_Channel)
_TIME = msgspec.json.Decoder(_Time)
_AGENT = msgspec.json.Decoder(_Agent)
_DOCUMENT: msgspec.json.Decoder[Json] = msgspec.json.Decoder(Json)


@value_class(frozen=True, slots=True)
class EventFields:
    """The members of a record that selectors and sinks read; None or "" if missing.

    A member whose type differs from AWS's counts as missing. `read_only` and `from_console` are
    false if missing: CloudTrail omits `sessionCredentialFromConsole` unless it is true, and event
    history counts an event without `readOnly` as a write. `resources` are pairs of type and ARN (or
    prefix of ARNs).
    """

    event_source: str = ""
    event_name: str = ""
    read_only: bool = False
    event_type: str | None = None
    resources: tuple[tuple[str | None, str | None], ...] = ()
    user_arn: str | None = None
    from_console: bool = False
    error_code: str | None = None
    vpc_endpoint_id: str | None = None


@value_class(frozen=True, slots=True)
class InsightFields:
    """The members of `insightDetails` that select an Insights event; "" if missing.

    `source` is the trail of an Insights event about data events.
    """

    event_source: str = ""
    insight_type: str = ""
    category: str = ""
    source: str = ""


class EventRecord:
    """The record of one event; each view of its bytes is decoded at most once, when first read."""

    __slots__ = ("_document", "_event_time", "_fields", "_insight", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._event_time: str | None = None
        self._fields: EventFields | None = None
        self._insight: InsightFields | None = None
        self._document: Json | None = None

    @property
    def event_time(self) -> str:
        """The text of `eventTime`.

        Raises:
            KeyError: the record has no `eventTime`.
        """
        if self._event_time is None:
            time = _decode(_TIME, self.raw).event_time
            if time is msgspec.UNSET:
                raise KeyError("eventTime")
            self._event_time = str(time)
        return self._event_time

    @property
    def fields(self) -> EventFields:
        if self._fields is None:
            members = _decode(_MEMBERS, self.raw)
            identity, resources = members.user_identity, members.resources
            self._fields = EventFields(
                _text(members.event_source) or "",
                _text(members.event_name) or "",
                _is_true(members.read_only),
                _text(members.event_type),
                tuple([_resource(resource) for resource in resources])
                if resources.__class__ is list
                else (),
                _text(identity.arn) if identity.__class__ is _Identity else None,
                _is_true(members.session_credential_from_console),
                _text(members.error_code),
                _text(members.vpc_endpoint_id),
            )
        return self._fields

    @property
    def insight(self) -> InsightFields:
        """The fields of an Insights event."""
        if self._insight is None:
            details = _decode(_INSIGHT, self.raw).insight_details
            insight_details = details if isinstance(details, _InsightDetails) else _InsightDetails()
            self._insight = InsightFields(
                _text(insight_details.event_source) or "",
                _text(insight_details.insight_type) or "",
                _text(insight_details.source_event_category) or "",
                _text(insight_details.insight_source) or "",
            )
        return self._insight

    @property
    def channel(self) -> str | None:
        """The ARN of the channel of an event that another service sent."""
        metadata = _decode(_CHANNEL, self.raw).metadata
        return _text(metadata.channel_arn) if isinstance(metadata, _Metadata) else None

    @property
    def user_agent(self) -> str | None:
        return _text(_decode(_AGENT, self.raw).user_agent)

    @property
    def document(self) -> Json:
        """The record with all its members."""
        if self._document is None:
            self._document = _decode(_DOCUMENT, self.raw)
        return self._document


def _decode(decoder: msgspec.json.Decoder[T], raw: bytes) -> T:
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError:  # msgspec rejects escaped lone surrogates
        return msgspec.convert(json.loads(raw), decoder.type)


def _resource(resource: _Resource | _Other) -> tuple[str | None, str | None]:
    if not isinstance(resource, _Resource):
        return None, None
    return _text(resource.type), _text(resource.ARN) or _text(resource.ARNPrefix) or _text(
        resource.arn
    )


def _text(value: Any) -> str | None:
    return value if value.__class__ is str else None


def _is_true(value: Any) -> bool:
    return value is True or value == "true"
