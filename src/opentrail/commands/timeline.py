"""`opentrail timeline`: what happened to something and what it did, in sentences."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from opentrail.commands.asked import add_question, answer_to
from opentrail.commands.rendering import warn_of_missing
from opentrail.core.text import printable

if TYPE_CHECKING:
    from opentrail.questions.timeline import Timeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_question(parser, "timeline")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints a timeline, oldest first; the exit code is 1 if nothing happened."""
    timeline: Timeline = answer_to("timeline", options)
    warn_of_missing(timeline)
    if options.json:
        print(json.dumps(timeline))
    else:
        _print(timeline)
    return 0 if timeline["entries"] else 1


def _print(timeline: Timeline) -> None:
    out = sys.stdout.write
    entries = timeline["entries"]
    if not entries:
        out(f"No event is about {printable(timeline['name'])}.\n")
        return
    day = ""
    for entry in entries:
        if entry["first"][:10] != day:
            day = entry["first"][:10]
            out(f"{day} (UTC)\n")
        out(f"  {_period(entry['first'], entry['last'])}  {printable(entry['words'])}\n")
        agent = entry["agent"]
        if agent and agent["name"] not in entry["words"]:
            out(f"  {'':17}  agent: {printable(agent['name'])}\n")
        if entry["behind"]:
            out(f"  {'':17}  behind it: {printable(entry['behind'])}\n")
    if not timeline["complete"]:
        until = f"{entries[0]['first']}"
        sys.stderr.write(f"these are the newest events; older ones: --until {until}\n")


def _period(first: str, last: str) -> str:
    """Returns when calls began and ended, in 17 characters: `09:00:00-09:14:59`."""
    if first == last:
        return f"{first[11:19]:17}"
    return f"{first[11:19]}-{last[11:19]}"
