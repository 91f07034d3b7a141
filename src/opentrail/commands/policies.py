"""`opentrail policies`: what users and roles may do with opentrail's CloudTrail API."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from opentrail.commands.administration import POLICIES, administer, policy_of
from opentrail.core.text import printable


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
