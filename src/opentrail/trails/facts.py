"""What selectors ask of a record, read from its bytes once for all trails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from opentrail.core.event import as_object
from opentrail.core.selectors import EventFacts


class _Resource(msgspec.Struct):
    type: str | None = None
    ARN: str | None = None
    ARNPrefix: str | None = None
    arn: str | None = None


class _Identity(msgspec.Struct):
    arn: str | None = None


class _Wanted(msgspec.Struct):
    """The members that are read; every other one is passed over."""

    eventSource: str = ""  # noqa: N815 - AWS's names
    eventName: str = ""  # noqa: N815
    readOnly: bool | str | None = None  # noqa: N815
    eventType: str | None = None  # noqa: N815
    resources: list[_Resource] | None = None
    userIdentity: _Identity | None = None  # noqa: N815
    sessionCredentialFromConsole: bool | str | None = None  # noqa: N815
    errorCode: str | None = None  # noqa: N815
    vpcEndpointId: str | None = None  # noqa: N815


class _Timed(msgspec.Struct):
    eventTime: str  # noqa: N815


_WANTED = msgspec.json.Decoder(_Wanted)
_TIMED = msgspec.json.Decoder(_Timed)


def facts_of(record: bytes, category: str) -> EventFacts:
    """Returns the facts of a record; its category is what the journal says.

    Members of other types than AWS's count as left out.
    """
    try:
        read = _WANTED.decode(record)
    except msgspec.DecodeError:
        return _tolerant(json.loads(record), category)
    identity = read.userIdentity
    return EventFacts(
        category,
        read.eventSource,
        read.eventName,
        read.readOnly is True or read.readOnly == "true",
        read.eventType,
        tuple([(r.type, r.ARN or r.ARNPrefix or r.arn) for r in read.resources])
        if read.resources
        else (),
        identity.arn if identity is not None else None,
        read.sessionCredentialFromConsole is True or read.sessionCredentialFromConsole == "true",
        read.errorCode,
        read.vpcEndpointId,
    )


def _tolerant(record: Any, category: str) -> EventFacts:
    given = as_object(record)
    listed = given.get("resources")
    return EventFacts(
        category,
        _text(given.get("eventSource")) or "",
        _text(given.get("eventName")) or "",
        _is_true(given.get("readOnly")),
        _text(given.get("eventType")),
        tuple(_resource(as_object(r)) for r in listed) if isinstance(listed, list) else (),
        _text(as_object(given.get("userIdentity")).get("arn")),
        _is_true(given.get("sessionCredentialFromConsole")),
        _text(given.get("errorCode")),
        _text(given.get("vpcEndpointId")),
    )


def _resource(given: Mapping[str, Any]) -> tuple[str | None, str | None]:
    arns = (_text(given.get(name)) for name in ("ARN", "ARNPrefix", "arn"))
    return _text(given.get("type")), next(filter(None, arns), None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _is_true(value: Any) -> bool:
    return value is True or value == "true"


def event_time_of(record: bytes) -> str:
    """Returns a record's `eventTime`.

    Raises:
        KeyError: it has none.
    """
    try:
        return _TIMED.decode(record).eventTime
    except msgspec.DecodeError:
        return str(json.loads(record)["eventTime"])
