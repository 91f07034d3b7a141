"""`opentrail policies`: what users and roles may do with opentrail's CloudTrail API."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from opentrail.commands.administration import POLICIES, add_administration, administer, policy_of
from opentrail.commands.arguments import Actions, account_id
from opentrail.core.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
    put = actions.add("put", "create or replace a policy")
    put.add_argument("policy", metavar="FILE.json", help="the policy")
    for action, text in (
        ("show", "print the document of a policy"),
        ("delete", "delete an unattached policy"),
    ):
        actions.add(action, text).add_argument("policy", metavar="NAME", help="the policy")
    for action, text in (
        ("attach", "attach a policy to a user or role"),
        ("detach", "detach a policy from a user or role"),
    ):
        attaching = actions.add(action, text)
        attaching.add_argument("policy", metavar="NAME|FILE", help="the policy")
        owner = attaching.add_mutually_exclusive_group(required=True)
        owner.add_argument("--user", metavar="NAME", help="this IAM user")
        owner.add_argument("--principal", metavar="ARN", help="this user or role")
    actions.add("list", "list policies and their attachments")
    for action_parser in actions:
        action_parser.add_argument(
            "--account", type=account_id, metavar="ID", help="account (123456789012)"
        )
        add_administration(action_parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs `opentrail policies` and returns its exit code.

    Raises:
        UsageError: an argument is wrong.
    """
    flags = vars(options)
    arguments: dict[str, Any] = {"action": options.action}
    arguments |= {name: flags[name] for name in ("user", "principal", "account") if flags.get(name)}
    if flags.get("policy"):
        arguments |= policy_of(options.policy)
    answer = administer(options, POLICIES, arguments)
    lines = [json.dumps(answer)] if options.json else _lines(arguments, answer)
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


def _lines(arguments: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    action = arguments["action"]
    if action == "list":
        return _list_of(answer)
    if action == "show":
        return [json.dumps(answer["Document"], indent=2)]
    if action == "put":
        return [answer["Arn"]]
    if action == "attach":
        return [f"{printable(answer['Principal'])}: {', '.join(answer['Policies'])}"]
    outcomes = {"detach": "is detached", "delete": "is deleted"}
    return [f"{arguments['name']} {outcomes[action]}"]


def _list_of(answer: dict[str, Any]) -> list[str]:
    lines = [printable(entry["Arn"]) for entry in answer["Policies"]]
    lines += [f"arn:aws:iam::aws:policy/{name}" for name in answer["AWSManaged"]]
    for entry in answer["Attached"]:
        lines.append(f"{printable(entry['Principal'])}: {', '.join(entry['Policies'])}")
    return lines
