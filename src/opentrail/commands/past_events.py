"""Past events for commands that evaluate each of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from opentrail.commands.client import find
from opentrail.commands.progress import call_progress
from opentrail.commands.rendering import warn_of_missing
from opentrail.core.errors import OpentrailError
from opentrail.core.text import printable

Record = Mapping[str, Any]

_STREAM = "/api/v1/events/stream"


def records(options: argparse.Namespace, expression: str) -> Iterator[Record]:
    """Yields the records that an expression finds, newest first, in all accounts and Regions.

    Args:
        options: those of `add_client`, and `since`.
        expression: a search expression; "" finds all events.
    """
    query = {
        "expression": expression or None,
        "since": options.since,
        "categories": "all",
    }
    with find(options).lines(_STREAM, query) as answer, call_progress("events") as progress:
        count = 0
        for lines in answer:
            for line in lines:
                if "EventId" in line:
                    yield orjson.loads(line["CloudTrailEvent"])
                elif "error" in line:
                    raise OpentrailError(printable(str(line["error"])))
                else:
                    progress.end()
                    warn_of_missing(line)
                    return
            count += len(lines)
            progress.reach(count, None)
    raise OpentrailError("the server's answer was cut")
