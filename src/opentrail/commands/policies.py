"""`opentrail policies`: what users and roles may do with opentrail's CloudTrail API."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from opentrail.commands.administration import POLICIES, add_administration, administer, policy_of
from opentrail.commands.arguments import Actions
from opentrail.core.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
    put = actions.add("put", "create or replace a policy")
    put.add_argument("policy", metavar="FILE.json", help="the policy")
    for action, text in (
        ("show", "print the document of a policy"),
        ("delete", "remove a policy that is not attached"),
    ):
        actions.add(action, text).add_argument("policy", metavar="NAME", help="the policy")
    for action, text in (
        ("attach", "attach a policy to a user or role"),
        ("detach", "detach a policy from a user or role"),
    ):
        attaching = actions.add(action, text)
        attaching.add_argument("policy", metavar="NAME|FILE", help="the policy")
        whose = attaching.add_mutually_exclusive_group(required=True)
        whose.add_argument("--user", metavar="NAME", help="this IAM user")
        whose.add_argument("--principal", metavar="ARN", help="this user or role")
    actions.add("list", "list policies, and what they are attached to")
    for each in actions:
        each.add_argument("--account", metavar="ID", help="account (123456789012)")
        add_administration(each)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs `opentrail policies` and returns its exit code.

    Raises:
        UsageError: an argument is wrong.
    """
    flags = vars(options)
    given: dict[str, Any] = {"action": options.action}
    given |= {name: flags[name] for name in ("user", "principal", "account") if flags.get(name)}
    if flags.get("policy"):
        given |= policy_of(options.policy)
    answer = administer(options, POLICIES, given)
    lines = [json.dumps(answer)] if options.json else _lines(given, answer)
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


def _lines(given: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    action = given["action"]
    if action == "list":
        return _list_of(answer)
    if action == "show":
        return [json.dumps(answer["Document"], indent=2)]
    if action == "put":
        return [answer["Arn"]]
    if action == "attach":
        return [f"{printable(answer['Principal'])}: {', '.join(answer['Policies'])}"]
    done = {"detach": "is detached", "delete": "is deleted"}
    return [f"{given['name']} {done[action]}"]


def _list_of(answer: dict[str, Any]) -> list[str]:
    lines = [printable(each["Arn"]) for each in answer["Policies"]]
    lines += [f"arn:aws:iam::aws:policy/{name}" for name in answer["AWSManaged"]]
    for each in answer["Attached"]:
        lines.append(f"{printable(each['Principal'])}: {', '.join(each['Policies'])}")
    return lines
