"""`opentrail explain`: why a call was denied."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from opentrail.commands.asked import add_question, answer_to
from opentrail.core.text import printable

if TYPE_CHECKING:
    from opentrail.questions.explain import ExplainedDenial


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_question(parser, "explain")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints what a record says of why its call was denied; the exit code is 1 if it was not."""
    denial: ExplainedDenial = answer_to("explain", options)
    if options.json:
        print(json.dumps(denial))
    else:
        _print(denial)
    return 1 if denial["verdict"] == "not denied" else 0


def _print(denial: ExplainedDenial) -> None:
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
