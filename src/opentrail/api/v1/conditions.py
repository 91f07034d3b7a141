"""Parses the query parameters of searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import orjson
from starlette.requests import Request

from opentrail.api.v1.answers import invalid_parameter
from opentrail.api.v1.callers import is_by_token
from opentrail.core.attributes import attributes_of
from opentrail.core.errors import CloudTrailError
from opentrail.history.event_history import Search
from opentrail.ports.event_store import FoundEvent

MAX_EVENTS = 10_000
#: Maximum events in one answer to a browser.
MAX_SESSION_EVENTS = 200


def max_events(request: Request) -> int:
    """Returns the maximum events in one answer to a request."""
    return MAX_EVENTS if is_by_token(request) else MAX_SESSION_EVENTS


#: Search condition → the flag that lifts its default.
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
