"""`opentrail policy`: generates policies from recorded calls, tests and manages policies."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentrail.commands.administration import add_policy_actions
from opentrail.commands.arguments import Actions, add_client
from opentrail.commands.asked import add_question, answer_to
from opentrail.commands.conditions import since_of
from opentrail.commands.rendering import print_json, warn_of_missing
from opentrail.core.errors import (
    MalformedPolicy,
    NothingToDecide,
    OpentrailError,
    UsageError,
)
from opentrail.core.policies import documents_in, parse_policies
from opentrail.core.text import counted, printable
from opentrail.permissions.generate import MAX_CHARACTERS

if TYPE_CHECKING:
    from opentrail.questions.policies import CallBasis
    from opentrail.questions.policy_for import PolicyOfCalls
    from opentrail.questions.test_policy import CallsByDecision, PolicyTest
    from opentrail.questions.unused_actions import UnusedActions

#: Maximum lines of one list.
_MAX_LINES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
    generating = actions.add("generate", "print a policy that allows the past calls of a principal")
    add_question(generating, "policy-for")
    testing = actions.add("test", "list the past calls that a policy would have refused")
    testing.add_argument("policy", metavar="FILE.json", help="the policy, or a list of them")
    testing.add_argument(
        "--principal", metavar="PRINCIPAL", required=True, help="name or ARN of a user or role"
    )
    comparing = actions.add("unused", "list the actions of a policy that a principal never used")
    comparing.add_argument("principal", metavar="PRINCIPAL", help="name or ARN of a user or role")
    comparing.add_argument("policy", metavar="FILE.json", help="the policy, or a list of them")
    for action_parser in (testing, comparing):
        action_parser.add_argument(
            "--since", metavar="T", default="90d", help="30m, 12h, 90d (default), or a time"
        )
        add_client(action_parser)
    for action_parser in actions:
        action_parser.set_defaults(run=run)
    add_policy_actions(actions)


def run(options: argparse.Namespace) -> int:
    """Runs `opentrail policy` and returns its exit code.

    Raises:
        UsageError: an argument or the policy is invalid, or no server is found.
    """
    _require_principal(options)
    return {"generate": _generate, "test": _test, "unused": _list_unused}[options.action](options)


# The calls


def _require_principal(options: argparse.Namespace) -> None:
    if not options.principal or re.search(r'["\s]', options.principal):
        raise UsageError(
            f"PRINCIPAL must be the name or ARN of a user or role, not {options.principal!r}"
        )


def documents_of(path: Path) -> list[dict[str, Any]]:
    """Returns the valid policies of a file: a document, or a list of them.

    Raises:
        UsageError: the file cannot be read, or a document is invalid.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"the policy {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"the policy {path} is not JSON: {error}") from error
    try:
        parse_policies(document, path.name)
    except MalformedPolicy as error:
        raise UsageError(f"the policy {path} is not valid: {error}") from error
    return documents_in(document)


def _require_calls(options: argparse.Namespace, answer: CallBasis, calls: int) -> None:
    if not calls:
        since = since_of(options.since, datetime.now(UTC))
        raise NothingToDecide(
            f"no call of {printable(options.principal)} since {since}: "
            f"{answer['warning'] or 'no event of it is a call'}; give an earlier --since"
        )


def _warn(answer: CallBasis) -> None:
    """Prints on standard error the limits of an answer."""
    warn_of_missing(answer)
    if answer["warning"]:
        sys.stderr.write(f"opentrail: {answer['warning']}\n")


# Generate


def _generate(options: argparse.Namespace) -> int:
    made: PolicyOfCalls = answer_to("policy-for", options)
    _require_calls(options, made, made["events"])
    _warn(made)
    if options.json:
        print_json(made)
    else:
        policies = made["policies"]
        print_json(policies if len(policies) != 1 else policies[0], indent=2)
        _describe(made)
    return 0 if made["refusedByIt"] == 0 else 1


def _describe(made: PolicyOfCalls) -> None:
    """Prints the calls behind a generated policy, and its uncertainties."""
    out = sys.stderr.write
    calls, refused = made["calls"], made["refusedByIt"]
    out(
        f"\nfrom {counted(calls.get('allowed', 0), 'allowed call')}; left out: "
        f"{calls.get('denied', 0):,} denied, {calls.get('failed', 0):,} failed\n"
    )
    if refused is None:
        out("not replayed, because not all calls were read\n")
    else:
        out(f"replayed: it would have refused {refused:,} of the allowed calls\n")
    if len(made["policies"]) > 1:
        out(
            f"{len(made['policies'])} policies, because a managed one has {MAX_CHARACTERS:,} "
            "characters at most\n"
        )
    for text, counts in (
        ("left out, because AWS's authorization data has no such action", made["unverified"]),
        ("on every resource, because the records name none", made["unlimited"]),
        ("its records do not show the permissions it needs; add them yourself", made["unmapped"]),
    ):
        if counts:
            out(f"\n{text}:\n")
            for name, count in Counter(counts).most_common(_MAX_LINES):
                out(f"  {printable(name)} ({counted(count, 'call')})\n")
            if len(counts) > _MAX_LINES:
                out(f"  and {len(counts) - _MAX_LINES:,} more: --json lists all\n")


# Test


def _test(options: argparse.Namespace) -> int:
    options.policies = documents_of(Path(options.policy))
    tested: PolicyTest = answer_to("test-policy", options)
    was_allowed, was_denied = tested["allowedCalls"], tested["deniedCalls"]
    _require_calls(options, tested, _total(was_allowed) + _total(was_denied))
    _warn(tested)
    if options.json:
        print_json(tested)
    else:
        _print_test(tested)
    return 1 if was_allowed["denied"] else 0


def _total(calls: CallsByDecision) -> int:
    return calls["allowed"] + calls["denied"] + calls["unknown"]


def _print_test(tested: PolicyTest) -> None:
    out = sys.stdout.write
    was_allowed, was_denied = tested["allowedCalls"], tested["deniedCalls"]
    out(
        f"{counted(_total(was_allowed), 'allowed call')}: "
        f"{was_allowed['allowed']:,} would be allowed, {was_allowed['denied']:,} denied, "
        f"{was_allowed['unknown']:,} cannot be decided\n"
        f"{counted(_total(was_denied), 'denied call')}: "
        f"{was_denied['allowed']:,} would be allowed\n"
    )
    for title, differences in (
        ("Would be denied", tested["newlyDenied"]),
        ("Cannot be decided", tested["unknown"]),
        ("Would be allowed, but were denied", tested["newlyAllowed"]),
    ):
        if differences:
            out(f"\n{title}:\n")
        for each in differences[:_MAX_LINES]:
            reason = f", {each['reason']}" if each["reason"] else ""
            out(
                f"  {printable(each['action'])} on {printable(each['resource'])}"
                f"{printable(reason)}: {counted(each['calls'], 'call')}, "
                f"the last {printable(each['eventId'])} at {printable(each['eventTime'])}\n"
            )
        if len(differences) > _MAX_LINES:
            out(f"  and {len(differences) - _MAX_LINES:,} more: --json lists all\n")


# Unused


def _list_unused(options: argparse.Namespace) -> int:
    options.policies = documents_of(Path(options.policy))
    found: UnusedActions = answer_to("unused-actions", options)
    _require_calls(options, found, found["events"])
    warn_of_missing(found)
    if not found["complete"]:
        raise OpentrailError(f"unused actions are not known: {found['warning']}")
    if options.json:
        print_json({"patterns": found["patterns"]})
        return 0
    for row in found["patterns"]:
        count, total = len(row["used"]), len(row["used"]) + len(row["unused"] or ())
        sys.stdout.write(f"statement {row['statement']}, {printable(row['pattern'])}: ")
        if total < 2:
            sys.stdout.write("used\n" if count else "never used\n")
        else:
            names = f": {', '.join(row['used'])}" if count else ""
            sys.stdout.write(f"{count} of {total} actions used{names}\n")
    return 0
