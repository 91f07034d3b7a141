"""`opentrail explain`: why a call was denied."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from opentrail.commands.arguments import add_client
from opentrail.commands.client import ask
from opentrail.core.errors import UsageError
from opentrail.core.text import printable


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
    denial = ask(options, "/api/v1/explain", {"event": options.event})
    if options.json:
        print(json.dumps(denial))
    else:
        _print(denial)
    return 1 if denial["verdict"] == "not denied" else 0


def _print(denial: Mapping[str, Any]) -> None:
    out = sys.stdout.write
    out(f"{printable(denial['sentence'])}.\n\n")
    if denial["verdict"] == "not denied":
        out("It was not denied.\n")
        return
    decided = f" ({denial['policyType']})" if denial["policyType"] else ""
    out(f"  verdict   {denial['verdict']}{decided}\n")
    out(f"  action    {denial['action'] or 'not known'}\n")
    if denial["resource"]:
        out(f"  resource  {printable(denial['resource'])}\n")
    if denial["errorMessage"]:
        out(f"  message   {printable(denial['errorMessage'])}\n")
    out("\n")
    for text in denial["missing"]:
        out(f"- {text}\n")
