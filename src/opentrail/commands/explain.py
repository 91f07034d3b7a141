"""`opentrail explain`: why a call was denied."""

from __future__ import annotations

import argparse
import json
import sys

import orjson

from opentrail.commands.arguments import add_client
from opentrail.commands.client import ask
from opentrail.core.errors import UsageError
from opentrail.core.text import printable
from opentrail.permissions.denials import Denial, explain
from opentrail.who.sentence import sentence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("event", metavar="EVENT-ID", help="the id of an event")
    add_client(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints what a record says of why its call was denied; the exit code is 1 if it was not.

    Raises:
        UsageError: there is no such event.
    """
    if not options.event or '"' in options.event or "\\" in options.event:
        raise UsageError(f"EVENT-ID must be the id of an event, not {options.event!r}")
    query = {"expression": f'id="{options.event}"', "categories": "all", "limit": "1"}
    events = ask(options, "/api/v1/events", query)["events"]
    if not events:
        raise UsageError(f"there is no event {printable(options.event)}")
    record = orjson.loads(events[0]["CloudTrailEvent"])
    denial = explain(record)
    is_call = "eventName" in record
    words = sentence(record) if is_call else "There is no sentence about this event"
    if options.json:
        document = {
            "sentence": words,
            "verdict": denial.verdict,
            "action": denial.action,
            "isActionRecorded": denial.is_action_recorded,
            "policyType": denial.policy_type,
            "resource": denial.resource,
            "missing": list(denial.missing),
            "errorCode": record.get("errorCode"),
            "errorMessage": record.get("errorMessage"),
        }
        print(json.dumps(document))
    else:
        _print(words, denial, record.get("errorMessage"))
    return 1 if denial.verdict == "not denied" else 0


def _print(words: str, denial: Denial, message: str | None) -> None:
    out = sys.stdout.write
    out(f"{printable(words)}.\n\n")
    if denial.verdict == "not denied":
        out("It was not denied.\n")
        return
    decided = f" ({denial.policy_type})" if denial.policy_type else ""
    out(f"  verdict   {denial.verdict}{decided}\n")
    out(f"  action    {denial.action or 'not known'}\n")
    if denial.resource:
        out(f"  resource  {printable(denial.resource)}\n")
    if message:
        out(f"  message   {printable(message)}\n")
    out("\n")
    for text in denial.missing:
        out(f"- {text}\n")
