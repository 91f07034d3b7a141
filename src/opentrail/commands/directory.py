"""`opentrail directory`: names the callers behind access keys that were made elsewhere."""

from __future__ import annotations

import argparse
import json
from typing import Any

from opentrail.commands.administration import DIRECTORY, administer
from opentrail.commands.rendering import print_table
from opentrail.core.text import printable

_GIVEN = ("key", "user", "root", "account", "arn", "principal_id")


def run(options: argparse.Namespace) -> int:
    """Runs the action that the user chose and returns the exit code."""
    flags = vars(options)
    given = {name: flags[name] for name in _GIVEN if flags.get(name)}
    answer = administer(options, DIRECTORY, {"action": options.action, **given})
    if options.json:
        print(json.dumps(answer))
    elif options.action == "list":
        _print_keys(answer["keys"])
    elif options.action == "add":
        print(f"calls of {printable(options.key)} are recorded as {_caller(answer)} from now on")
    else:
        print(
            f"{printable(options.key)} is removed; its calls are of an unknown caller from now on"
        )
    return 0


def _caller(entry: dict[str, Any]) -> str:
    who = "the root user" if entry.get("root") else f"IAM user {printable(entry['user'])}"
    return f"{who} of account {entry['account']}" if entry.get("account") else who


def _print_keys(keys: list[dict[str, Any]]) -> None:
    if not keys:
        print("no keys are named; 'opentrail directory add KEY-ID --user NAME' names one")
        return
    rows = [
        (
            each["accessKeyId"],
            "(root)" if each.get("root") else each["user"],
            each.get("account") or "",
        )
        for each in keys
    ]
    print_table(("Access key", "User", "Account"), rows)
