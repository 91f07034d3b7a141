"""Detections: rules, their tests on past events, and their matches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple, TypedDict, cast

import msgspec
import orjson
from starlette.requests import Request

from opentrail.api.services import Services
from opentrail.api.v1.answers import invalid_parameter, text_in
from opentrail.api.v1.callers import OwnChanges, caller_of, seen_by
from opentrail.api.v1.conditions import count_in, max_events
from opentrail.api.v1.routes import ADMIN, VIEWER, route
from opentrail.core.errors import CloudTrailError, UsageError
from opentrail.core.event import DETECTION, Json, as_object, format_time
from opentrail.core.expression import And, Compare, literal
from opentrail.detections.backtest import Replay, narrowing
from opentrail.detections.enabled_rules import DETECTIONS_SOURCE, EnabledRule, EnabledRules
from opentrail.detections.matching import RuleIndex
from opentrail.detections.rule_files import (
    located,
    read_text,
    starter_rule,
    starter_rules,
    technique_of,
)
from opentrail.detections.rules import MAX_CORRELATION_SECONDS, DetectionRule, rule_of
from opentrail.history.event_history import PAGE, Search
from opentrail.history.threads import in_thread
from opentrail.history.written_searches import read_newest, search_in
from opentrail.ports.event_store import FoundEvent
from opentrail.who.event_rows import find_event

#: Newest matches that are counted for the list of rules.
_MAX_COUNTED = 10_000
#: Maximum events of a correlation that a test holds, about 200 bytes each.
_MAX_HELD = 100_000


class DetectionRow(TypedDict):
    """A rule, and the number of its matches."""

    name: str
    title: str
    level: str
    description: str
    author: str
    tags: list[str]
    references: list[str]
    #: Harmless causes of matches.
    falsePositives: list[str]
    #: MITRE ATT&CK techniques, such as `T1562.008`.
    technique: str
    #: Whether opentrail ships a rule of this name.
    starter: bool
    #: Type of a correlation: `event_count`, `value_count` or `temporal`; None for other rules.
    correlation: str | None
    #: None: the rule is not enabled.
    enabledAt: str | None
    enabledBy: str | None
    matches: int
    #: Whether `matches` counts all matches, not only those among the newest 10,000 of all rules.
    complete: bool
    lastMatch: str | None


class DetectionRules(TypedDict):
    """The enabled rules by name, and the starter rules that are not enabled."""

    rules: list[DetectionRow]
    notEnabled: list[DetectionRow]
    missing: list[str]


class DetectionDetail(DetectionRow):
    """A rule with the YAML that it was compiled from."""

    source: str


class DetectionExample(TypedDict):
    """A match that a test found."""

    eventTime: str
    eventName: str
    principal: str | None
    eventIds: list[str]


class DetectionTest(TypedDict):
    """The matches of a rule in past events."""

    rule: str
    title: str
    level: str
    matches: int
    first: str | None
    last: str | None
    #: The newest matches.
    examples: list[DetectionExample]
    #: Number of events read that the rule could match.
    events: int
    #: Time of the oldest event read, if older ones were not.
    readBackTo: str | None
    #: Parts of the rule that no event can match.
    warnings: list[str]
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
    #: Ids of the matched events, in order of time.
    eventIds: list[str]
    #: Values that the events of a correlation share, by field.
    groupBy: Mapping[str, str]


class DetectionMatches(TypedDict):
    """Matches, newest first, and the ranges missing from event history."""

    matches: list[DetectionMatch]
    missing: list[str]


class Detections:
    """The calls about detections.

    Args:
        services: the features that operations use.
        rules: the enabled rules.
        account: returns the account in which changes are recorded.
        missing: describes each range missing from event history.
    """

    def __init__(
        self,
        services: Services,
        rules: EnabledRules,
        account: Callable[[], str],
        missing: Callable[[], list[str]],
    ) -> None:
        self._services = services
        self._rules = rules
        self._changes = OwnChanges(services.journal, services.clock, account, DETECTIONS_SOURCE)
        self._missing = missing
        #: One test at a time, since each takes much of a processor.
        self._turn = asyncio.Lock()

    @route("GET", "/detections", VIEWER, "see the rules")
    async def list(self, request: Request) -> DetectionRules:
        """Returns the rules with the number of their matches."""
        enabled = {each.rule.name: each for each in await self._rules.all()}
        others = [rule for name, rule in starter_rules().items() if name not in enabled]
        matches = await self._matches(request, Search(), _MAX_COUNTED)
        return {
            "rules": [_row(each.rule, each, matches) for each in enabled.values()],
            "notEnabled": [_row(rule, None, matches) for rule in others],
            "missing": self._missing(),
        }

    @route("GET", "/detections/rule", VIEWER, "see one rule", query=("name",))
    async def show(self, request: Request) -> DetectionDetail:
        """Returns an enabled rule, or a starter rule, with its source."""
        name = request.query_params.get("name", "")
        rule, enabled = await self._named(name)
        matches = await self._matches(request, _of_rule(Search(), name), _MAX_COUNTED)
        return {**_row(rule, enabled, matches), "source": rule.source}

    async def _named(self, name: str) -> tuple[DetectionRule, EnabledRule | None]:
        """Returns the enabled rule, or else the starter rule, of a name.

        Raises:
            CloudTrailError: `DetectionNotFoundException`.
        """
        enabled = {each.rule.name: each for each in await self._rules.all()}.get(name)
        rule = enabled.rule if enabled else starter_rules().get(name)
        if rule is None:
            raise CloudTrailError("DetectionNotFoundException", f"there is no rule {name!r}", 404)
        return rule, enabled

    @route(
        "GET",
        "/detections/matches",
        VIEWER,
        "see matches of rules",
        query=("name", "event", "since", "until", "account", "region", "limit"),
    )
    async def matches(self, request: Request) -> DetectionMatches:
        """Returns matches, newest first, of the rule `name` or of the event with the id `event`."""
        query = request.query_params
        search = search_in(query, self._services.clock.now())
        if "name" in query:
            search = _of_rule(search, query["name"])
        if "event" in query:
            event = await find_event(seen_by(request, self._services).history, query["event"])
            search = _of_event(search, event)
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
        """Applies a rule to all future events, in place of an enabled rule of its name.

        Instead of `rule`, `starter` names a starter rule, or `source` is a Sigma rule as YAML.
        """
        rule = (await in_thread(_chosen, body)).rule
        RuleIndex((0, selection.condition) for selection in rule.selections)  # it is usable
        caller, clock = caller_of(request), self._services.clock
        after = await self._services.journal.newest()
        enabled = EnabledRule(rule, after, format_time(clock.now()), caller.name)
        compiled = msgspec.to_builtins(msgspec.structs.replace(rule, source=""))
        asked = {"name": rule.name, "rule": compiled}
        await self._changes.record(request, "EnableDetection", asked)
        await self._rules.put(rule.name, enabled)
        return _row(rule, enabled, ())

    @route(
        "POST",
        "/detections/test",
        ADMIN,
        "test a rule on past events",
        body='{"source": "title: …", "since": "90d"}',
    )
    async def test(self, request: Request, body: Json) -> DetectionTest:
        """Returns the matches of a rule in past events.

        Pass the rule as for enabling it, or the `name` of an enabled rule or a starter rule.
        """
        since = body.get("since", "90d")
        if not isinstance(since, str):
            raise invalid_parameter("since must be a time such as 90d or 2020-01-01T09:00:00Z")
        async with self._turn:
            if "name" in body:
                chosen = _Chosen((await self._named(text_in(body, "name")))[0])
            else:
                chosen = await in_thread(_chosen, body)
            replay, now = Replay([chosen.rule]), self._services.clock.now()
            expression = narrowing([chosen.rule])
            search = search_in({"expression": expression, "since": since, "categories": "all"}, now)

            def add(records: Iterator[Mapping[str, Any]]) -> bool:
                replay.add(records)
                return replay.counted < _MAX_HELD

            history = seen_by(request, self._services).history
            events, oldest = await read_newest(history, search, add)
            [outcome] = await in_thread(replay.outcomes)
        answer = {
            **outcome.document(),
            "events": events,
            "readBackTo": oldest,
            "warnings": chosen.warnings,
            "missing": self._missing(),
        }
        return cast(DetectionTest, answer)

    @route("POST", "/detections/disable", ADMIN, "disable a rule", body='{"name": "…"}')
    async def disable(self, request: Request, body: Json) -> Json:
        """Stops applying a rule; its matches remain."""
        name = body.get("name")
        if not isinstance(name, str):
            raise invalid_parameter("name must be the name of an enabled rule")
        await self._rules.get(name)
        await self._changes.record(request, "DisableDetection", {"name": name})
        await self._rules.delete(name)
        return {}


class _Chosen(NamedTuple):
    """The rule that a request is about."""

    rule: DetectionRule
    warnings: Sequence[str] = ()


def _chosen(body: Json) -> _Chosen:
    """Returns the rule in a body: compiled, by the name of a starter rule, or as YAML.

    Raises:
        UsageError: it is not valid, or can never match; the message has the line if it is known.
        CloudTrailError: `InvalidParameterException`.
    """
    if "starter" in body:
        return _Chosen(starter_rule(text_in(body, "starter")))
    if "source" not in body:
        return _Chosen(rule_of(body.get("rule")))
    source = text_in(body, "source")
    found = read_text(source)
    for reason in found.refused.values():
        raise UsageError(located(source, reason))
    if len(found.rules) > 1:
        names = ", ".join(rule.name for rule in found.rules)
        raise invalid_parameter(f"the text must have one rule to enable, not {names}")
    [rule] = found.rules
    return _Chosen(rule, found.warnings.get(rule.name, []))


def _of_rule(search: Search, name: str) -> Search:
    same_rule = Compare(("event_name",), "=", literal(name), is_field=True)
    both = same_rule if search.expression is None else And((search.expression, same_rule))
    return replace(search, expression=both)


def _of_event(search: Search, event: FoundEvent) -> Search:
    """Returns a search for matches that name an event, limited to the times they can have."""
    ids = ("detectionDetails", "eventIDs")
    named = Compare(ids, "=", literal(event.event_id), is_field=False)
    both = named if search.expression is None else And((search.expression, named))
    away = timedelta(seconds=MAX_CORRELATION_SECONDS)
    return replace(
        search, expression=both, start=event.event_time - away, end=event.event_time + away
    )


def _row(
    rule: DetectionRule, enabled: EnabledRule | None, matches: Sequence[DetectionMatch]
) -> DetectionRow:
    """Returns a rule with its matches among the newest ones."""
    own = [match for match in matches if match["rule"] == rule.name]
    return {
        "name": rule.name,
        "title": rule.title,
        "level": rule.level,
        "description": rule.description,
        "author": rule.author,
        "tags": [*rule.tags],
        "references": [*rule.references],
        "falsePositives": [*rule.falsepositives],
        "technique": technique_of(rule),
        "starter": rule.name in starter_rules(),
        "correlation": rule.correlation.type if rule.correlation else None,
        "enabledAt": enabled.enabled_at if enabled else None,
        "enabledBy": enabled.enabled_by if enabled else None,
        "matches": len(own),
        "complete": len(matches) < _MAX_COUNTED,
        "lastMatch": own[0]["eventTime"] if own else None,
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
