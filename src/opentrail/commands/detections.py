"""`opentrail detections`: Sigma rules, tested on past events and enabled for new ones."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from opentrail.commands.arguments import Actions, add_client
from opentrail.commands.client import ask, find
from opentrail.commands.progress import call_progress
from opentrail.commands.rendering import json_text, print_json, warn_of_missing
from opentrail.core.errors import NothingToDecide, OpentrailError
from opentrail.core.text import counted, printable
from opentrail.detections.backtest import Backtest, Replay, narrowing
from opentrail.detections.rule_files import read, starter_rule, starter_rules, technique_of
from opentrail.detections.rules import DetectionRule

_ROUTE = "/api/v1/detections"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
    testing = actions.add("test", "count matches of rules in past events")
    testing.add_argument(
        "--since", metavar="T", default="90d", help="30m, 12h, 90d (default), or a time"
    )
    enabling = actions.add(
        "enable", "apply rules to new events; replaces rules with the same names"
    )
    for reading in (testing, enabling):
        reading.add_argument(
            "rules",
            nargs="+",
            metavar="RULES",
            help="a file or folder of Sigma rules, starter:NAME, or starter:all",
        )
    starter = actions.add("starter", "list opentrail's own rules, or print one")
    starter.add_argument("name", nargs="?", metavar="NAME", help="name of a starter rule")
    starter.add_argument("--json", action="store_true", help="print JSON")
    listing = actions.add("list", "list the enabled rules and their number of matches")
    disabling = actions.add("disable", "stop applying a rule to new events")
    disabling.add_argument("names", nargs="+", metavar="NAME", help="name of an enabled rule")
    for action_parser in (testing, enabling, listing, disabling):
        add_client(action_parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs `opentrail detections` and returns its exit code: 1 if a rule was refused.

    Raises:
        UsageError: an argument is invalid, or no server is found.
    """
    actions = {
        "test": _test,
        "enable": _enable,
        "starter": _starter,
        "list": _list,
        "disable": _disable,
    }
    return actions[options.action](options)


def _read(options: argparse.Namespace) -> tuple[list[DetectionRule], Mapping[str, str]]:
    """Returns the rules in files, and the reasons for refused ones, which it also prints."""
    found = read(options.rules)
    for name, reasons in found.warnings.items():
        for reason in reasons:
            sys.stderr.write(printable(f"warning: rule {name}: {reason}") + "\n")
    for name, reason in found.refused.items():
        sys.stderr.write(printable(f"refused: rule {name}: {reason}") + "\n")
    return found.rules, found.refused


# Test


def _test(options: argparse.Namespace) -> int:
    rules, refused = _read(options)
    if not rules:
        return 1
    replay = Replay(rules)
    try:
        replay.add(records(options, narrowing(rules)))
    except OverflowError as error:
        raise OpentrailError(f"{error}; give a later --since") from error
    outcomes = replay.outcomes()
    outcomes.sort(key=lambda outcome: (-outcome.matches, outcome.rule.name))
    if not replay.events and not _has_events(options):
        raise NothingToDecide(f"no event since {options.since}: the rules were not tested")
    if options.json:
        document = {"rules": [outcome.document() for outcome in outcomes], "refused": refused}
        print_json(document)
    else:
        _print_outcomes(outcomes)
        sys.stderr.write(f"read {counted(replay.events, 'event')} that the rules could match\n")
    return 1 if refused else 0


def _has_events(options: argparse.Namespace) -> bool:
    query = {"since": options.since, "categories": "all", "limit": "1"}
    return bool(ask(options, "/api/v1/events", query)["events"])


def _print_outcomes(outcomes: Sequence[Backtest]) -> None:
    for outcome in outcomes:
        found, rule = outcome.document(), outcome.rule
        out = sys.stdout.write
        out(f"{printable(rule.name)} ({rule.level}): {counted(outcome.matches, 'match')}")
        out(f", {found['first']} to {found['last']}\n" if outcome.matches else "\n")
        for example in found["examples"]:
            ids, who = example["eventIds"], printable(str(example["principal"] or "no principal"))
            more = f" and {counted(len(ids) - 1, 'earlier event')}" if len(ids) > 1 else ""
            name = printable(example["eventName"])
            out(f"  {example['eventTime']}  {name} by {who}: {printable(ids[-1])}{more}\n")


# Starter rules


def _starter(options: argparse.Namespace) -> int:
    if options.name is not None:
        rule = starter_rule(options.name)
        lines = rule.source.rstrip().split("\n")
        shown = "\n".join(map(printable, lines))
        print(json_text(msgspec.to_builtins(rule)) if options.json else shown)
        return 0
    rules = list(starter_rules().values())
    if options.json:
        print_json({"rules": msgspec.to_builtins(rules)})
        return 0
    width = max(len(rule.name) for rule in rules)
    for rule in rules:
        sys.stdout.write(
            f"{rule.name:<{width}}  {rule.level:<8}  {technique_of(rule):<9}  {rule.title}\n"
        )
    return 0


# Live


def _enable(options: argparse.Namespace) -> int:
    rules, refused = _read(options)
    enabled = []
    for rule in rules:
        answer = ask(options, _ROUTE, {}, {"rule": msgspec.to_builtins(rule)})
        enabled.append(answer)
        if not options.json:
            sys.stdout.write(f"enabled: {printable(rule.name)} ({rule.level})\n")
    if options.json:
        print_json({"enabled": enabled, "refused": refused})
    return 1 if refused else 0


def _list(options: argparse.Namespace) -> int:
    answer = ask(options, _ROUTE, {})
    if options.json:
        print_json(answer)
        return 0
    for rule in answer["rules"]:
        last = f", the last at {rule['lastMatch']}" if rule["lastMatch"] else ""
        least = "" if rule.get("complete", True) else "at least "
        line = f"{rule['name']} ({rule['level']}): {least}{counted(rule['matches'], 'match')}{last}"
        sys.stdout.write(printable(line) + "\n")
    if not answer["rules"]:
        sys.stderr.write("no rules are enabled: 'opentrail detections enable RULES' enables some\n")
    return 0


def _disable(options: argparse.Namespace) -> int:
    for name in options.names:
        ask(options, f"{_ROUTE}/disable", {}, {"name": name})
        if not options.json:
            sys.stdout.write(f"disabled: {printable(name)}\n")
    if options.json:
        print_json({"disabled": options.names})
    return 0


# Past events

Record = Mapping[str, Any]

_STREAM = "/api/v1/events/stream"


def records(options: argparse.Namespace, expression: str) -> Iterator[Record]:
    """Yields the records that an expression finds, newest first, in all accounts and Regions.

    Args:
        options: the options of `add_client`, and `since`.
        expression: a search expression; "" finds all events.
    """
    query = {
        "expression": expression or None,
        "since": options.since,
        "categories": "all",
    }
    with find(options).lines(_STREAM, query) as answer, call_progress("events") as progress:
        count = 0
        for lines in answer:
            for line in lines:
                if "EventId" in line:
                    yield orjson.loads(line["CloudTrailEvent"])
                elif "error" in line:
                    raise OpentrailError(printable(str(line["error"])))
                else:
                    progress.end()
                    warn_of_missing(line)
                    return
            count += len(lines)
            progress.reach(count, None)
    raise OpentrailError("the server's answer was cut")
