"""The starter rules: the matches of each, its near misses, and its description."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from opentrail.core.errors import UsageError
from opentrail.detections import rule_files as module
from opentrail.detections.backtest import backtest, narrowing
from opentrail.detections.matching import EVENT_NAME, EVENT_SOURCE
from opentrail.detections.rule_files import read, starter_rule, starter_rules, technique_of
from opentrail.detections.rules import (
    LEVELS,
    AllOf,
    AnyOf,
    Condition,
    DetectionRule,
    Negation,
    OneOf,
    RuleSelection,
)
from opentrail.detections.sigma import read_rules
from tests.detections.starter_calls import CALLS

FOLDER = Path(module.__file__).parent / "starter"
RULES = starter_rules()
NAMES = sorted(RULES)
each_rule = pytest.mark.parametrize("name", NAMES)
#: It has more names than its calls.
SAMPLED = "account_enumerated"


def outcomes(rule: DetectionRule) -> list[int]:
    """Counts a rule's matches of each of its calls, and of the same calls under other names."""
    groups = [
        one if isinstance(one, list) else [one] for calls in CALLS[rule.name] for one in calls
    ]
    others = [
        [{**record, member: "other.amazonaws.com"} for record in group]
        for member in (EVENT_NAME, EVENT_SOURCE)
        for group in groups[: len(CALLS[rule.name][0])]
    ]
    return [backtest([rule], group)[0].matches for group in (*groups, *others)]


def mutants(condition: Condition) -> Iterator[tuple[str, Condition]]:
    """Yields the removed part, and the condition without it."""
    match condition:
        case OneOf(field, values):
            for value in values if len(values) > 1 else ():
                rest = tuple(each for each in values if each != value)
                yield f"{field}={value}", OneOf(field, rest)
        case Negation(part):
            for what, mutant in mutants(part):
                yield f"not {what}", Negation(mutant)
        case AllOf(parts) | AnyOf(parts):
            kind: Any = type(condition)
            for number, part in enumerate(parts):
                others = (*parts[:number], *parts[number + 1 :])
                if others:
                    yield str(part), kind(others)
                for what, mutant in mutants(part):
                    yield what, kind((*parts[:number], mutant, *parts[number + 1 :]))


def with_condition(rule: DetectionRule, condition: Condition) -> DetectionRule:
    if rule.correlation is None:
        return msgspec.structs.replace(rule, condition=condition)
    [selection] = rule.correlation.selections
    changed = RuleSelection(selection.name, condition, selection.group_by)
    correlation = msgspec.structs.replace(rule.correlation, selections=(changed,))
    return msgspec.structs.replace(rule, correlation=correlation)


@each_rule
def test_rule_matches_its_calls_and_no_near_miss(name: str) -> None:
    matches, misses = CALLS[name]
    count = len(matches) + len(misses)
    assert outcomes(RULES[name])[:count] == [*[1] * len(matches), *[0] * len(misses)]
    assert min(len(matches), len(misses)) >= 2


@each_rule
def test_the_calls_reveal_each_missing_part(name: str) -> None:
    rule = RULES[name]
    [selection] = rule.selections
    expected = outcomes(rule)
    unnoticed = [
        what
        for what, mutant in mutants(selection.condition)
        if outcomes(with_condition(rule, mutant)) == expected
    ]
    assert unnoticed == [] or name == SAMPLED


@each_rule
def test_a_rule_has_the_parts_for_its_readers(name: str) -> None:
    rule = RULES[name]
    assert re.fullmatch(r"T\d{4}(\.\d{3})?", technique_of(rule))
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", rule.id)
    assert rule.author == "opentrail"
    assert rule.level in LEVELS
    assert rule.falsepositives
    assert re.fullmatch(r"[A-Z].*\. [A-Z].*\.", rule.description, re.S)
    assert "license: Apache-2.0" in rule.source


def test_thirty_rules_have_different_names_and_ids() -> None:
    assert len(RULES) == 30
    assert set(RULES) == set(CALLS) == {file.stem for file in FOLDER.glob("*.yml")}
    assert len({rule.id for rule in RULES.values()}) == len({r.title for r in RULES.values()}) == 30


def test_the_compiled_rules_match_the_files() -> None:
    found = read_rules([FOLDER])
    assert (found.refused, found.warnings) == ({}, {})
    compiled = {name: msgspec.structs.replace(rule, source="") for name, rule in RULES.items()}
    assert {r.name: msgspec.structs.replace(r, source="") for r in found.rules} == compiled


def test_starter_rules_need_no_extra_and_little_reading() -> None:
    assert read(["starter:all"]).rules == list(RULES.values())
    assert read(["starter:trail_stopped"]).rules == [starter_rule("trail_stopped")]
    assert "regex" not in (FOLDER / "compiled.json").read_text()
    slow = {name for name, rule in RULES.items() if narrowing([rule]) == ""}
    assert slow == {"many_denied_calls", "root_activity"}, "all events are read for these"
    with pytest.raises(UsageError, match="no starter rule 'none'; 'opentrail detections starter'"):
        read(["starter:none"])


def test_a_tag_resembling_a_technique_is_ignored() -> None:
    assert technique_of(DetectionRule("r", "R", tags=("attack.tactic", "attack.t1485"))) == "T1485"
