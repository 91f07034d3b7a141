"""`opentrail lookup`: finds events."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from opentrail.commands.arguments import add_client, add_conditions
from opentrail.commands.client import ask
from opentrail.commands.conditions import conditions_of, defaults_of, require_one_form
from opentrail.commands.rendering import (
    print_csv,
    print_events,
    print_naming_hint,
    print_records,
    warn_of_hidden,
    warn_of_missing,
    warn_of_nearest,
    warn_of_parts,
    warn_of_truncated,
)

if TYPE_CHECKING:
    from opentrail.who.shapes import FoundEvents

#: Part of records of callers with an unknown access key.
_UNKNOWN_CALLER = '"userIdentity":{"type":"Unknown"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_conditions(parser)
    parser.add_argument("--limit", metavar="N", default="50", help="maximum number of events (50)")
    parser.add_argument("--csv", action="store_true", help="print CSV")
    add_client(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints matching events, newest first, and returns the exit code."""
    require_one_form(options)
    defaults = ",".join(defaults_of(options)) or None
    query = {**conditions_of(options), "defaults": defaults, "nearest": "true"}
    answer: FoundEvents = ask(options, "/api/v1/events", query)
    events = answer["events"]
    warn_of_missing(answer)
    warn_of_nearest(answer)
    if options.json:
        print_records(events)
    elif options.csv:
        print_csv(events)
    else:
        print_events(events)
    warn_of_truncated(answer)
    warn_of_hidden(answer)
    warn_of_parts(answer)
    if any(_UNKNOWN_CALLER in event["CloudTrailEvent"] for event in events):
        print_naming_hint()
    return 0
