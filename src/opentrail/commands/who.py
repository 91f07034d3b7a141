"""`opentrail who`: who created, changed and deleted a resource."""

from __future__ import annotations

import argparse
import json

from opentrail.commands.arguments import account_id, add_client
from opentrail.commands.client import ask
from opentrail.commands.rendering import (
    print_answer,
    print_naming_hint,
    warn_of_missing,
    warn_of_nearest,
    warn_of_types,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("resource", metavar="RESOURCE", help="name, ARN, BUCKET/KEY, tag Name, or user/Mary")
    add("--type", metavar="TYPE", help="only of this type or service: user, AWS::IAM::User, iam")
    add("--account", type=account_id, metavar="ID", help="only of this account")
    add_client(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints a sentence with its evidence; the exit code is 1 if no record shows the creator."""
    query = {"resource": options.resource, "type": options.type, "account": options.account}
    answer = ask(options, "/api/v1/who", query)
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
