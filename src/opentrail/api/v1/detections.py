"""Detections: the enabled rules, and the events that they matched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

import msgspec
import orjson
from starlette.requests import Request

from opentrail.api.operation import Services
from opentrail.api.v1.answers import Json, invalid_parameter
from opentrail.api.v1.callers import caller_of, seen_by
from opentrail.api.v1.conditions import count_in, max_events, search_in
from opentrail.api.v1.own_events import OwnChanges
from opentrail.api.v1.routes import ADMIN, VIEWER, route
from opentrail.core.event import DETECTION, as_object, format_time
from opentrail.core.expression import And, Compare, literal
from opentrail.detections.enabled import EnabledRule, EnabledRules
from opentrail.detections.matching import RuleIndex
from opentrail.detections.records import DETECTIONS_SOURCE
from opentrail.detections.rules import rule_of
from opentrail.history.event_history import PAGE, Search
from opentrail.history.threads import in_thread

#: Newest matches that are counted for the list of rules.
_MAX_COUNTED = 10_000


class DetectionRow(TypedDict):
    """An enabled rule, and how often it matched."""

    name: str
    title: str
    level: str
    description: str
    author: str
    tags: list[str]
    references: list[str]
    #: What a correlation counts: `event_count`, `value_count` or `temporal`; None for others.
    correlation: str | None
    enabledAt: str
    enabledBy: str
    matches: int
    #: Whether `matches` are all, not only those among the newest 10,000 of all rules.
    complete: bool
    lastMatch: str | None


class DetectionRules(TypedDict):
    """The enabled rules by name."""

    rules: list[DetectionRow]
    missing: list[str]


class DetectionMatch(TypedDict):
    """A match of a rule."""

    eventId: str
    eventTime: str
    rule: str
    title: str
    level: str
    account: str
    region: str
    eventSource: str
    eventName: str
    principals: list[str]
    #: Ids of the events that matched, in order of time.
    eventIds: list[str]
    #: Values that the events of a correlation share, by field.
    groupBy: Mapping[str, str]


class DetectionMatches(TypedDict):
    """Matches, newest first, and what event history lacks."""

    matches: list[DetectionMatch]
    missing: list[str]


class Detections:
    """The calls about detections.

    Args:
        services: what operations use.
        rules: the enabled rules.
        account: the account in which changes are recorded.
        missing: returns a description of each range that event history lacks.
    """

    def __init__(
        self,
        services: Services,
        rules: EnabledRules,
        account: str,
        missing: Callable[[], list[str]],
    ) -> None:
        self._services = services
        self._rules = rules
        self._changes = OwnChanges(services.journal, services.clock, account, DETECTIONS_SOURCE)
        self._missing = missing

    @route("GET", "/detections", VIEWER, "see the enabled rules")
    async def list(self, request: Request) -> DetectionRules:
        """Returns the enabled rules with the number of their matches."""
        enabled = await self._rules.all()
        matches = await self._matches(request, Search(), _MAX_COUNTED) if enabled else []
        is_complete = len(matches) < _MAX_COUNTED
        counts: dict[str, int] = {}
        last: dict[str, str] = {}
        for match in matches:
            counts[match["rule"]] = counts.get(match["rule"], 0) + 1
            last.setdefault(match["rule"], match["eventTime"])
        rules = [
            _document(each, counts.get(each.rule.name, 0), last.get(each.rule.name), is_complete)
            for each in enabled
        ]
        return {"rules": rules, "missing": self._missing()}

    @route(
        "GET",
        "/detections/matches",
        VIEWER,
        "see matches of rules",
        query=("name", "since", "until", "account", "region", "limit"),
    )
    async def matches(self, request: Request) -> DetectionMatches:
        """Returns matches, newest first; `name` is that of a rule."""
        query = request.query_params
        search = search_in(query, self._services.clock.now())
        if "name" in query:
            same_rule = Compare(("event_name",), "=", literal(query["name"]), is_field=True)
            both = same_rule if search.expression is None else And((search.expression, same_rule))
            search = replace(search, expression=both)
        limit = count_in(query, "limit", max_events(request)) or PAGE
        matches = await self._matches(request, search, limit)
        return {"matches": [*matches], "missing": self._missing()}

    async def _matches(
        self, request: Request, search: Search, limit: int
    ) -> Sequence[DetectionMatch]:
        history = seen_by(request, self._services).history
        events = await history.latest(replace(search, categories=(DETECTION,)), limit)
        return await in_thread(lambda: [_match(orjson.loads(e.record)) for e in events])

    @route(
        "POST",
        "/detections",
        ADMIN,
        "enable a rule",
        body='{"rule": {"name": "…", "title": "…", "level": "high", "condition": {"…": "…"}}}',
    )
    async def enable(self, request: Request, body: Json) -> DetectionRow:
        """Applies a rule to all events from now on, in place of the one with its name."""
        rule = rule_of(body.get("rule"))
        RuleIndex((0, selection.condition) for selection in rule.selections)  # it is usable
        caller, clock = caller_of(request), self._services.clock
        after = await self._services.journal.newest()
        enabled = EnabledRule(rule, after, format_time(clock.now()), caller.name)
        asked = {"rule": msgspec.to_builtins(rule)}
        await self._changes.record(request, "EnableDetection", asked)
        await self._rules.put(enabled)
        return _document(enabled, 0, None)

    @route("POST", "/detections/disable", ADMIN, "disable a rule", body='{"name": "…"}')
    async def disable(self, request: Request, body: Json) -> Json:
        """Applies a rule to no more events; what it matched remains."""
        name = body.get("name")
        if not isinstance(name, str):
            raise invalid_parameter("name must be the name of an enabled rule")
        enabled = await self._rules.get(name)
        await self._changes.record(request, "DisableDetection", {"name": enabled.rule.name})
        await self._rules.remove(name)
        return {}


def _document(
    enabled: EnabledRule, matches: int, last: str | None, is_complete: bool = True
) -> DetectionRow:
    rule = enabled.rule
    return {
        "name": rule.name,
        "title": rule.title,
        "level": rule.level,
        "description": rule.description,
        "author": rule.author,
        "tags": [*rule.tags],
        "references": [*rule.references],
        "correlation": rule.correlation.type if rule.correlation else None,
        "enabledAt": enabled.enabled_at,
        "enabledBy": enabled.enabled_by,
        "matches": matches,
        "complete": is_complete,
        "lastMatch": last,
    }


def _match(record: Mapping[str, Any]) -> DetectionMatch:
    details = as_object(record.get("detectionDetails"))
    return {
        "eventId": str(record.get("eventID")),
        "eventTime": str(record.get("eventTime")),
        "rule": str(details.get("eventName")),
        "title": str(details.get("title")),
        "level": str(details.get("level")),
        "account": str(record.get("recipientAccountId")),
        "region": str(record.get("awsRegion")),
        "eventSource": str(details.get("matchedEventSource")),
        "eventName": str(details.get("matchedEventName")),
        "principals": _texts(details.get("principals")),
        "eventIds": _texts(details.get("eventIDs")),
        "groupBy": {str(k): str(v) for k, v in as_object(details.get("groupBy")).items()},
    }


def _texts(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []
