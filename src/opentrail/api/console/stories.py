"""What the web console says of an incident, a principal and a resource."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import orjson
from starlette.requests import Request

from opentrail.api.conditions import count_in, search_in
from opentrail.api.console.events import rows_of
from opentrail.api.console.roles import seen_by
from opentrail.api.insights import describe, expect_incident, list_incidents, show_incident
from opentrail.api.operation import Services
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import INSIGHT, parse_time
from opentrail.core.expression import Compare, literal
from opentrail.history.event_history import PAGE, Search
from opentrail.who.answers import who
from opentrail.who.sentence import actor

Json = dict[str, Any]
_MAX_NOTE_LENGTH = 1_000
#: Events of a principal that are read for its summary, values in each list, rows of events.
_MAX_READ, _TOP, _LATEST, _LATEST_OF_RESOURCE = 5_000, 10, 20, 200


class Stories:
    """The calls about incidents, principals and resources."""

    def __init__(self, services: Services) -> None:
        self._services = services

    # Incidents

    async def incidents(self, request: Request) -> Json:
        """Returns incidents of unusual activity, newest first."""
        query = request.query_params
        search = replace(
            search_in(query, self._services.clock.now()), expression=None, categories=(INSIGHT,)
        )
        found = await list_incidents(
            seen_by(request, self._services), search, count_in(query, "limit") or PAGE
        )
        return {"incidents": [_incident(each) for each in found]}

    async def incident(self, request: Request) -> Json:
        """Returns one incident with its calls of each minute."""
        found = await show_incident(seen_by(request, self._services), request.path_params["id"])
        record = found["record"]
        context = record["insightDetails"].get("insightContext", {})
        return {
            **_incident(found),
            "minutes": [
                {"time": time, "calls": calls, "expected": found["baseline"]}
                for time, calls in found["minutes"]
            ],
            "attributions": context.get("attributions", []),
            "record": orjson.dumps(record, option=orjson.OPT_INDENT_2).decode(),
        }

    async def expect(self, request: Request, given: Json) -> Json:
        """Marks an incident as expected, with a note."""
        note = given.get("note", "")
        if not isinstance(note, str) or len(note) > _MAX_NOTE_LENGTH:
            message = f"note must be a text of up to {_MAX_NOTE_LENGTH} characters"
            raise CloudTrailError("InvalidParameterException", message)
        services = seen_by(request, self._services)
        return await expect_incident(services, request.path_params["id"], note)

    async def status(self, _request: Request) -> Json:
        """Returns what Insights is doing, and how far it is."""
        return await describe(self._services.insights)

    # Principals and resources

    async def principal(self, request: Request) -> Json:
        """Returns what a principal does, and when, from its latest events."""
        arn = request.path_params["arn"]
        same = Compare(("principal_arn",), "=", literal(arn), is_field=True)
        history = seen_by(request, self._services).history
        found = await history.latest(Search(expression=same), _MAX_READ)
        if not found:
            raise CloudTrailError("PrincipalNotFound", f"there is no event of {arn}", 404)
        rows = await rows_of(found)
        hours = [[0] * 24 for _ in range(7)]
        for row in rows:
            moment = parse_time(row["eventTime"])
            hours[moment.weekday()][moment.hour] += 1
        return {
            "arn": arn,
            "sentence": actor(orjson.loads(found[0].record)),
            "first": rows[-1]["eventTime"],
            "last": rows[0]["eventTime"],
            "events": len(rows),
            "complete": len(rows) < _MAX_READ,
            "services": _top(row["eventSource"] for row in rows),
            "ips": _top(row["sourceIp"] for row in rows),
            "keys": _top(row["accessKeyId"] for row in rows),
            "agents": _top(row["userAgent"] for row in rows),
            "hours": hours,
            "latest": rows[:_LATEST],
        }

    async def resource(self, request: Request) -> Json:
        """Returns who created, changed and deleted a resource, in sentences, and its events."""
        query = request.query_params
        name = query.get("name", "")
        if not name:
            raise CloudTrailError("InvalidParameterException", "name must be given")
        history = seen_by(request, self._services).history
        answer = await who(history, name, query.get("type"), query.get("account"))
        events = await history.about(name, Search(), limit=_LATEST_OF_RESOURCE)
        return {
            "sentences": [answer["sentence"]] if answer["sentence"] else [],
            "answers": answer["answers"],
            "events": await rows_of(events),
        }


def _incident(found: Json) -> Json:
    """Returns an incident in the page's form."""
    note = found["expected"]
    return {
        **{name: found[name] for name in ("id", "sentence", "start", "end", "account", "region")},
        "eventName": found["eventName"],
        "eventSource": found["eventSource"],
        "type": found["insightType"],
        "errorCode": found["errorCode"],
        "baseline": found["baseline"],
        "insight": found["average"],
        "identity": found["identity"],
        "expected": None if note is None else {"note": note},
    }


def _top(values: Iterable[str | None]) -> list[Json]:
    counted = Counter(value for value in values if value).most_common(_TOP)
    return [{"value": value, "count": count} for value, count in counted]
