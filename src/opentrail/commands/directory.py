"""`opentrail directory`: names the callers behind access keys that were made elsewhere."""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import Any

from opentrail.commands.administration import DIRECTORY, add_administration, administer
from opentrail.commands.arguments import Actions, account_id
from opentrail.commands.rendering import print_table
from opentrail.core.text import printable

#: What looks like an id of AWS's; these have 20 characters.
_OF_AWS = re.compile(r"(AKIA|ASIA)[A-Z0-9]*")
_AWS_CHARACTERS = 20
_GIVEN = ("key", "user", "root", "account", "arn", "principal_id")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
    adding = actions.add("add", "record future calls with a key as calls of a user")
    adding.add_argument("key", metavar="KEY-ID", help="the access key id")
    owner = adding.add_mutually_exclusive_group(required=True)
    owner.add_argument("--user", metavar="NAME", help="key of this IAM user")
    owner.add_argument("--root", action="store_true", help="key of the account's root user")
    adding.add_argument(
        "--account",
        type=account_id,
        metavar="ID",
        help="account (default: encoded in the key)",
    )
    adding.add_argument("--arn", metavar="ARN", help="ARN of the user, if it has a path")
    adding.add_argument("--principal-id", metavar="ID", help="unique id of the user: AIDA…")
    actions.add("list", "list the named keys")
    removing = actions.add("remove", "remove the name of a key")
    removing.add_argument("key", metavar="KEY-ID", help="the access key id")
    for action in actions:
        add_administration(action)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the action that the user chose and returns the exit code."""
    flags = vars(options)
    arguments = {name: flags[name] for name in _GIVEN if flags.get(name)}
    answer = administer(options, DIRECTORY, {"action": options.action, **arguments})
    if options.json:
        print(json.dumps(answer))
    elif options.action == "list":
        _print_keys(answer["keys"])
    elif options.action == "add":
        _warn_of_cut(options.key)
        print(f"new calls of {printable(options.key)} are recorded as {_caller(answer)}")
    else:
        print(f"removed {printable(options.key)}; the caller of its new calls is unknown")
    return 0


def _warn_of_cut(key: str) -> None:
    """Says that a key's id is shorter or longer than AWS's, since then no call is by it."""
    if _OF_AWS.fullmatch(key) and len(key) != _AWS_CHARACTERS:
        sys.stderr.write(
            f"opentrail: {printable(key)} has {len(key)} characters, AWS's key ids have "
            f"{_AWS_CHARACTERS}: is it whole?\n"
        )


def _caller(entry: dict[str, Any]) -> str:
    who = "the root user" if entry.get("root") else f"IAM user {printable(entry['user'])}"
    return f"{who} of account {entry['account']}" if entry.get("account") else who


def _print_keys(keys: list[dict[str, Any]]) -> None:
    if not keys:
        print("no keys are named; 'opentrail directory add KEY-ID --user NAME' names one")
        return
    rows = [
        (
            key["accessKeyId"],
            "(root)" if key.get("root") else key["user"],
            key.get("account") or "",
        )
        for key in keys
    ]
    print_table(("Access key", "User", "Account"), rows)
