"""Past events for commands that evaluate each of them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from opentrail.commands.client import find
from opentrail.commands.rendering import warn_of_missing
from opentrail.core.errors import OpentrailError, UsageError
from opentrail.core.event import format_time
from opentrail.core.text import printable

Record = Mapping[str, Any]

_STREAM = "/api/v1/events/stream"
_AGO = re.compile(r"(\d+)([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def records(options: argparse.Namespace, expression: str) -> Iterator[Record]:
    """Yields the records that an expression finds, newest first, in all accounts and Regions.

    Args:
        options: those of `add_client`, and `since`.
        expression: a search expression; "" finds all events.
    """
    query = {
        "expression": expression or None,
        "since": since_of(options.since, datetime.now(UTC)),
        "categories": "all",
    }
    with find(options).lines(_STREAM, query) as answer:
        for lines in answer:
            for line in lines:
                if "EventId" in line:
                    yield orjson.loads(line["CloudTrailEvent"])
                elif "error" in line:
                    raise OpentrailError(printable(str(line["error"])))
                else:
                    warn_of_missing(line)
                    return
    raise OpentrailError("the server's answer was cut")


def since_of(text: str, now: datetime) -> str:
    """Returns a time as the API takes it; `90d` is 90 days ago."""
    match = _AGO.fullmatch(text)
    if match is None:
        return text  # the server checks it
    try:
        return format_time(now - timedelta(**{_UNITS[match[2]]: int(match[1])}))
    except OverflowError as error:
        raise UsageError(f"--since must be such as 90d, or a time, not {text!r}") from error
