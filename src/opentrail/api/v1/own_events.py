"""Events of what users do with opentrail itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
from starlette.requests import Request

from opentrail.api.v1.callers import caller_of, identity_of
from opentrail.core.event import (
    EVENT_VERSION,
    MANAGEMENT,
    Json,
    NewEntry,
    format_time,
    new_event_id,
)
from opentrail.core.trail import GLOBAL_REGION
from opentrail.core.version import __version__
from opentrail.ports.clock import Clock
from opentrail.ports.journal import JournalWriter


def own_event(
    request: Request,
    now: datetime,
    identity: Json,
    source: str,
    name: str,
    user_agent: str,
    more: Json,
    is_read_only: bool = False,
    event_type: str = "AwsApiCall",
) -> NewEntry:
    """Returns the event that records a request.

    Arguments are members of its record; `more` has those about parameters, answer and error.
    """
    account, event_id = identity["accountId"], new_event_id()
    record: dict[str, Any] = {
        "eventVersion": EVENT_VERSION,
        "userIdentity": identity,
        "eventTime": format_time(now),
        "eventSource": source,
        "eventName": name,
        "awsRegion": GLOBAL_REGION,
        "sourceIPAddress": address_of(request),
        "userAgent": user_agent,
        **more,
        "eventID": event_id,
        "readOnly": is_read_only,
        "eventType": event_type,
        "managementEvent": True,
        "recipientAccountId": account,
        "eventCategory": MANAGEMENT,
    }
    raw = orjson.dumps(record)
    return NewEntry("api", now, account, GLOBAL_REGION, MANAGEMENT, event_id, raw)


def address_of(request: Request) -> str:
    """Returns the address from which a request came."""
    return request.client.host if request.client else "unknown"


class OwnChanges:
    """Records who changes what of opentrail itself, before it is changed."""

    def __init__(
        self, journal: JournalWriter, clock: Clock, account: Callable[[], str], source: str
    ) -> None:
        self._journal, self._clock = journal, clock
        self._account, self._source = account, source

    async def record(self, request: Request, name: str, parameters: Json) -> None:
        """Returns once the event of this name is durable.

        Raises:
            RecordRefused: it cannot be recorded, so nothing is to be changed.
        """
        entry = own_event(
            request,
            self._clock.now(),
            identity_of(self._account(), caller_of(request)),
            self._source,
            name,
            f"opentrail/{__version__}",
            {"requestParameters": parameters, "responseElements": None},
        )
        await self._journal.append([entry])
