"""The tools of agents, which read from the JSON API of a running server and change nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from opentrail.core.errors import OpentrailError, UsageError
from opentrail.core.event import Json, format_time, parse_moment
from opentrail.core.expression.subjects import KINDS, Kind, events_of, quoted
from opentrail.core.secrets.embedded import search_limit, without_secrets
from opentrail.mcp.answer import (
    Answer,
    cleaned,
    first_that_fits,
    is_account,
    is_event_id,
    is_name,
    is_time,
    numbered,
    split,
    split_event,
    split_row,
)

#: Maximum trails in an answer.
_MAX_TRAILS = 20


class Ask(Protocol):
    """Asks the JSON API."""

    def __call__(
        self, path: str, query: Mapping[str, str | None], body: Json | None = None, /
    ) -> Any:
        """Return the answer; a body makes it a POST.

        Raises:
            OpentrailError: the server refuses the request, or is unreachable.
        """
        ...


def now() -> datetime:
    """Returns the current time."""
    return datetime.now(UTC)


class Tools:
    """The tools.

    Args:
        ask: sends a request to the JSON API.
        clock: returns the end of spans such as `2h`.
    """

    def __init__(self, ask: Ask, clock: Callable[[], datetime] = now) -> None:
        self._ask = ask
        self._clock = clock

    def lookup(
        self,
        expression: str,
        since: str,
        until: str,
        account: str,
        region: str,
        data_events: bool,
        limit: int,
        cursor: str,
    ) -> Answer:
        """Returns a page of the events of a search, newest first."""
        query = {
            "expression": expression or None,
            "since": self._time("since", since),
            "until": self._time("until", until),
            "account": account or None,
            "region": region or None,
            "categories": "all" if data_events else None,
            "defaults": None if data_events else "categories",
        }
        page = self._page(query, limit, cursor)
        return self._shortened(query, page, cursor, _event_list)

    def get_event(self, event_id: str) -> Answer:
        """Returns one event with its whole record, without secrets."""
        row, record = self._event(event_id)
        facts, text = split_event(row)

        def candidates() -> Iterator[Answer]:
            shown = cleaned(record)
            left_out: list[str] = []
            while True:
                more = {"left_out": left_out} if left_out else {}
                yield Answer({"event": facts, **more}, {"event": text, "record": shown}, 1)
                if not shown:
                    return
                largest = max(shown, key=lambda name: len(str(shown[name])))
                del shown[largest]
                left_out = [*left_out, largest if is_name(largest) else "another member"]

        return first_that_fits(candidates())

    def history_of(
        self, resource: str, principal: str, session: str, since: str, limit: int, cursor: str
    ) -> Answer:
        """Returns the history of a resource or caller, with equal calls grouped."""
        names: dict[Kind, str] = {
            "resource": resource,
            "principal": principal,
            "session": session,
        }
        named = [(name, kind) for kind, name in names.items() if name]
        if len(named) != 1:
            raise UsageError("give one of resource, principal and session")
        query = {
            "expression": events_of(*named[0]),
            "since": self._time("since", since),
            "categories": "all",
        }

        shown = _without_nothing({named[0][1]: named[0][0], "since": query["since"]})

        def grouped(_query: Json, page: Json) -> Answer:
            rows = page["events"]
            groups, texts = numbered(_groups_of(rows), _group_parts)
            facts = {"groups": groups, **_page_facts(shown, page)}
            untrusted: Json = {"groups": texts}
            if chain:
                facts["caller"], untrusted["caller"] = chain
            return Answer(facts, untrusted, len(rows))

        page = self._page(query, limit, cursor)
        if not page["events"] and not cursor:
            page["other_kinds"] = self._other_kinds(*named[0], query)
        chain: tuple[Json, Json] | None = None
        if page["events"] and not resource and not cursor:
            chain = self._caller_of(page["events"][0])
        return self._shortened(query, page, cursor, grouped)

    def verify(self, trail: str) -> Answer:
        """Returns the state of the store, and the findings of the trails' last verifications."""
        health = self._ask("/api/v1/health", {})
        facts: Json = {
            "store": {
                "status": health["status"],
                "recorded_position": health["recorded"],
                "visible_position": health["visible"],
                "problems": len(health["degradations"]),
            }
        }
        untrusted: Json = {"store": {"problems": health["degradations"]}}
        try:
            trails = self._ask("/api/v1/trails", {})["trails"]
        except OpentrailError as error:
            # A viewer may not see trails; answer with the state of the store.
            note = "Trails cannot be seen; this needs the role auditor."
            untrusted["trails"] = str(error)
            return first_that_fits([Answer({**facts, "note": note}, cleaned(untrusted), 0)])
        if trail:
            trails = [one for one in trails if trail in (one["name"], one["arn"])]
            if not trails:
                raise UsageError("no trail has this name or ARN; leave trail out to see all")

        def candidates() -> Iterator[Answer]:
            for count in range(min(_MAX_TRAILS, len(trails)), -1, -1):
                shown, texts = numbered(trails[:count], _trail_parts)
                listed = {"trails": shown, "more": len(trails) > count}
                yield Answer({**facts, **listed}, cleaned({**untrusted, "trails": texts}), count)

        return first_that_fits(candidates())

    def _other_kinds(self, name: str, kind: Kind, query: Mapping[str, str | None]) -> list[Kind]:
        """Returns the other kinds of things that have a name, by their events."""
        return [
            other
            for other in KINDS
            if other != kind
            and self._ask(
                "/api/v1/events/rows", {**query, "expression": events_of(name, other), "limit": "1"}
            )["events"]
        ]

    @search_limit()
    def _event(self, event_id: str) -> tuple[Json, Json]:
        """Returns the row and the record of an event, without the secrets of imported events.

        The id is never part of a path, because the id of an imported event can be any string.
        """
        query = {"expression": f"id={quoted(event_id)}", "categories": "all", "limit": "1"}
        rows = self._ask("/api/v1/events/rows", query)["events"]
        if not rows:
            raise UsageError(f"there is no event {event_id}")
        (event,) = self._ask("/api/v1/events", query)["events"]
        return rows[0], without_secrets(orjson.loads(event["CloudTrailEvent"]))

    def _page(self, query: Mapping[str, str | None], limit: int, cursor: str) -> Json:
        """Returns a page of events; an empty page has suggestions for the search."""
        more = {"limit": str(limit), "cursor": cursor or None}
        page: Json = self._ask("/api/v1/events/rows", {**query, **more})
        if not page["events"] and query["expression"]:
            search = {name: value for name, value in query.items() if name != "defaults"}
            page["nearest"] = self._ask("/api/v1/events/nearest", search)["nearest"]
        return page

    def _shortened(
        self,
        query: Mapping[str, str | None],
        page: Json,
        cursor: str,
        answer: Callable[[Json, Json], Answer],
    ) -> Answer:
        """Returns the answer with a page, or with as much of it as fits."""
        rows, shown = page["events"], _without_nothing(query)

        def is_too_large(count: int) -> bool:
            return not answer(shown, {**page, "events": rows[:count]}).fits()

        if is_too_large(len(rows)):
            too_many = bisect_left(range(len(rows)), True, key=is_too_large)
            # A cursor continues after the last event of its page.
            page = self._page(query, max(1, too_many - 1), cursor)
        return first_that_fits([answer(shown, page)])

    def _caller_of(self, row: Json) -> tuple[Json, Json] | None:
        """Returns the origin of the credentials of an event's caller; None for an unusual id."""
        if not is_event_id(row["eventId"]):
            return None
        chain = self._ask(f"/api/v1/events/{row['eventId']}/caller", {})
        steps, texts = numbered(chain["steps"], split_row)
        words = {"origin": chain["origin"], "end": chain["end"]}
        untrusted = {**cleaned(_without_nothing(words)), "steps": texts}
        return {"kind": chain["kind"], "steps": steps}, untrusted

    def _time(self, name: str, text: str) -> str | None:
        """Returns a time in the form of the API; `2h` is the time two hours ago."""
        if not text:
            return None
        try:
            return format_time(parse_moment(text, self._clock()))
        except ValueError as error:
            raise UsageError(f"{name} {error}") from error


def _without_nothing(members: Mapping[str, Any]) -> Json:
    return {name: value for name, value in members.items() if value is not None}


def _missing(answer: Mapping[str, Any]) -> Json:
    """Returns the number of ranges missing from event history, if any."""
    return {"missing_ranges": len(answer["missing"])} if answer["missing"] else {}


def _page_facts(query: Json, page: Json) -> Json:
    shown = {name: value for name, value in query.items() if name != "defaults"}
    return {"query": shown, "cursor": page["next"], **_missing(page), **_left_out(page)}


def _left_out(page: Json) -> Json:
    """Returns the number of hidden events, and the argument that shows them."""
    if hidden := page.get("hidden"):
        count = {"events": hidden["count"], "at_least": not hidden["complete"]}
        return {"left_out": {**count, "shown_with": "data_events"}}
    if kinds := page.get("other_kinds"):
        return {"note": f"The name has no such events; it has some as {' and '.join(kinds)}."}
    return {}


def _event_list(query: Json, page: Json) -> Answer:
    events, texts = numbered(page["events"], split_row)
    facts = {"events": events, **_page_facts(query, page)}
    untrusted: Json = {"events": texts}
    if nearest := page.get("nearest"):
        facts["note"] = "No event has such a value; `nearest` has the most similar ones."
        untrusted["nearest"] = cleaned(
            [{"value": item["value"], "nearest": item["nearest"]} for item in nearest]
        )
    return Answer(facts, untrusted, len(events))


def _groups_of(rows: Sequence[Json]) -> list[list[Json]]:
    """Returns rows grouped by call, caller and outcome, in order of the newest row."""
    groups: dict[tuple[Any, ...], list[Json]] = {}
    for row in rows:
        key = (row["eventSource"], row["eventName"], row["arn"], row["errorCode"])
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _group_parts(rows: Sequence[Json]) -> tuple[Json, Json]:
    """Returns both parts of a group: the newest event in words, and the ids of all events."""
    newest, oldest = rows[0], rows[-1]
    facts, text = split_row(newest)
    if len(rows) > 1:
        first = oldest["eventTime"]
        facts |= {"times": len(rows), "first": first if is_time(first) else None}
        facts["event_ids"] = [row["eventId"] for row in rows if is_event_id(row["eventId"])]
    return facts, text


def _trail_parts(trail: Mapping[str, Any]) -> tuple[Json, Json]:
    members = {
        "status": ("status", is_name),
        "account": ("account", is_account),
        "region": ("homeRegion", is_name),
        "last_log_file": ("latestDelivery", is_time),
        "last_digest_file": ("latestDigest", is_time),
    }
    facts, untrusted = split(trail, members)
    facts["validation"] = trail["validation"]
    verified = trail["verified"]
    facts["verified"] = None
    untrusted |= {"name": trail["name"], "bucket": trail["bucket"]}
    if trail["reason"]:
        untrusted["reason"] = trail["reason"]
    if verified:
        findings = verified["findings"]
        facts["verified"] = {
            "at": verified["at"],
            "valid": verified["valid"],
            "findings": len(findings) + verified["more"],
        }
        untrusted["findings"] = [
            {"object": finding["name"], "reason": finding["reason"]} for finding in findings[:5]
        ]
    return facts, cleaned(untrusted)
