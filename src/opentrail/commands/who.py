"""`opentrail who`: who created, changed and deleted a resource."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from opentrail.commands.asked import add_question, answer_to
from opentrail.commands.rendering import (
    print_answer,
    print_naming_hint,
    warn_of_missing,
    warn_of_nearest,
    warn_of_types,
)

if TYPE_CHECKING:
    from opentrail.questions.who import WhoAnswer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_question(parser, "who")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints a sentence with its evidence; the exit code is 1 if no record shows the creator."""
    answer: WhoAnswer = answer_to("who", options)
    warn_of_missing(answer)
    warn_of_nearest(answer)
    warn_of_types(answer, options.type)
    if options.json:
        print(json.dumps(answer))
    else:
        print_answer(answer, options.resource)
    if "an unknown caller" in (answer["sentence"] or ""):
        print_naming_hint()
    return 0 if answer["sentence"] else 1
