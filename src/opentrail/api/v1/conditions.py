"""Parses the query parameters of searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import orjson
from starlette.requests import Request

from opentrail.api.v1.answers import invalid_parameter
from opentrail.api.v1.callers import is_by_token
from opentrail.core.attributes import attributes_of
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import AGENT_SOURCE, MANAGEMENT, parse_moment
from opentrail.core.expression import (
    And,
    Compare,
    Expression,
    ExpressionError,
    Not,
    Text,
    conditions_in,
    parse,
)
from opentrail.history.event_history import Search
from opentrail.ports.event_store import FoundEvent

MAX_EVENTS = 10_000
#: Maximum events in one answer to a browser.
MAX_SESSION_EVENTS = 200


def max_events(request: Request) -> int:
    """Returns how many events one answer to a request may have."""
    return MAX_EVENTS if is_by_token(request) else MAX_SESSION_EVENTS


def search_in(query: Mapping[str, str], now: datetime) -> Search:
    """Returns the search by `expression`, `since`, `until`, account, Region and categories.

    Raises:
        CloudTrailError: a parameter is invalid.
    """
    start, end = (_time(name, query.get(name), now) for name in ("since", "until"))
    if start is not None and end is not None and start > end:
        message = f"since must not be after until: {query['since']} is after {query['until']}"
        raise CloudTrailError("InvalidTimeRangeException", message)
    return Search(
        account=query.get("account"),
        region=query.get("region"),
        categories=None if query.get("categories") == "all" else (MANAGEMENT,),
        expression=_expression(query.get("expression"), now),
        start=start,
        end=end,
    )


#: Fields by which one searches for events of any call.
_OF_ANY_CALL = {"account", "category", "event_time", "read_only", "region"}
_NO_QUESTION = Not(Compare(("event_source",), "=", AGENT_SOURCE, is_field=True))


def listed(search: Search) -> Search:
    """Returns the search of a list: without the questions of agents, unless they are asked for.

    They are asked for by any condition other than time, account, Region, category, outcome and
    kind. An agent would else find its own questions before what it looks for.
    """
    for condition in conditions_in(search.expression) if search.expression else ():
        match condition:
            case Text():
                return search
            case Compare(path, is_field=is_field) if not is_field or path[0] not in _OF_ANY_CALL:
                return search
    parts = (search.expression, _NO_QUESTION) if search.expression else (_NO_QUESTION,)
    return replace(search, expression=And(parts))


#: Condition of a search → the flag that lifts its default.
_FLAGS = {
    "account": "--all-accounts",
    "region": "--all-regions",
    "categories": "--all-categories",
}


def defaults_in(query: Mapping[str, str]) -> list[str]:
    """Returns the conditions that the command line added by default.

    Raises:
        CloudTrailError: a condition has no default.
    """
    names = [name for name in query.get("defaults", "").split(",") if name]
    for name in names:
        if name not in _FLAGS:
            raise invalid_parameter(f"defaults must be of {', '.join(_FLAGS)}, not {name!r}")
    return names


def without_defaults(search: Search, defaults: Sequence[str]) -> Search:
    """Returns a search without some of its conditions."""
    return replace(search, **dict.fromkeys(defaults))


def hiding_defaults(search: Search, defaults: Sequence[str], event: FoundEvent) -> list[str]:
    """Returns the flags that lift the defaults which hide an event."""
    attributes, categories = attributes_of(orjson.loads(event.record)), search.categories
    hides = {
        "account": attributes.account != search.account,
        "region": attributes.region != search.region,
        "categories": categories is not None and attributes.category not in categories,
    }
    return [_FLAGS[name] for name in defaults if hides[name]]


def count_in(query: Mapping[str, str], name: str, most: int = MAX_EVENTS) -> int | None:
    """Returns the number in a parameter; None if it is absent.

    Raises:
        CloudTrailError: `InvalidMaxResultsException` unless it is a number from 1 to `most`.
    """
    text = query.get(name)
    if text is None:
        return None
    number = _number(text)
    if number is None or not 1 <= number <= most:
        raise CloudTrailError(
            "InvalidMaxResultsException", f"{name} must be 1 to {most}, not {text!r}"
        )
    return number


def position_in(query: Mapping[str, str], name: str, head: int) -> int | None:
    """Returns the journal position in a parameter; None if it is absent.

    Raises:
        CloudTrailError: `InvalidParameterException` unless it is a position up to `head`.
    """
    text = query.get(name)
    if text is None:
        return None
    number = _number(text)
    if number is None or number > head:
        raise invalid_parameter(
            f"{name} must be a position of this server's journal, 0 to {head}, not {text!r}"
        )
    return number


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _expression(text: str | None, now: datetime) -> Expression | None:
    if not text:
        return None
    try:
        return parse(text, now)
    except ExpressionError as error:
        raise invalid_parameter(str(error)) from error


def _time(name: str, text: str | None, now: datetime) -> datetime | None:
    if not text:
        return None
    try:
        return parse_moment(text, now)
    except ValueError as error:
        raise CloudTrailError("InvalidTimeRangeException", f"{name} {error}") from error
