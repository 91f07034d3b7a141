"""The shapes of answers about incidents, apart from what makes them; see `who/shapes.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from opentrail.core.facts import AccountId, EventId, IpAddress, Region, Time, Word


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
    #: Calls, or errors, in each minute, and how many are usual.
    average: float
    baseline: float
    identity: str | None
    sourceIPAddress: IpAddress | None
    #: The note with which it was marked as expected; None: it was not.
    expected: str | None
    extension: Mapping[str, Any] | None


class IncidentRow(IncidentFigures):
    """An incident in a list."""

    #: Its minutes up to now, or to its end.
    minutes: int


_Period = TypedDict("_Period", {"from": str, "until": str})


class IncidentDetail(IncidentFigures, _Period):
    """An incident with its record, and its calls of each minute in a period around it."""

    record: Mapping[str, Any]
    #: Time and number of calls of each minute.
    minutes: list[tuple[str, int]]
