"""Sigma rules as pySigma parses them, applied one by one to a record: slow and plain.

Strings become regular expressions of Python; a field's values are found by recursion.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from typing import Any

from sigma.conditions import ConditionAND, ConditionNOT, ConditionOR, ConditionValueExpression
from sigma.rule import SigmaRule
from sigma.types import (
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SpecialChars,
)


def fires(rule: SigmaRule, record: dict[str, Any]) -> bool:
    """Returns whether a record matches any condition of a rule."""
    return any(_holds(condition.parsed, record) for condition in rule.detection.parsed_condition)


def _holds(node: Any, record: dict[str, Any]) -> bool:
    if isinstance(node, ConditionAND):
        return all(_holds(child, record) for child in node.args)
    if isinstance(node, ConditionOR):
        return any(_holds(child, record) for child in node.args)
    if isinstance(node, ConditionNOT):
        return not _holds(node.args[0], record)
    if isinstance(node, ConditionValueExpression):
        leaves = [leaf for leaf in _leaves(record) if leaf is not None]
        return any(re.search(_regex(node.value), _text(leaf), re.I | re.S) for leaf in leaves)
    return _fits(node.value, node.field, record)


def _fits(value: Any, field: str, record: dict[str, Any]) -> bool:
    found = list(_nodes(record, field.split(".")))
    there = [each for each in found if each is not None]
    if isinstance(value, SigmaExpansion):
        return any(_fits(each, field, record) for each in value.values)
    if isinstance(value, SigmaExists):
        return bool(found) == value.exists
    if isinstance(value, SigmaNull):
        return not there
    if isinstance(value, SigmaFieldReference):
        others = [_text(each).lower() for each in _nodes(record, value.field.split(".")) if each]
        return any(_refers(value, _text(each).lower(), other) for each in there for other in others)
    return any(_is(value, each) for each in there)


def _refers(value: SigmaFieldReference, text: str, other: str) -> bool:
    if value.starts_with:
        return text.startswith(other)
    return text.endswith(other) if value.ends_with else text == other


def _is(value: Any, actual: Any) -> bool:
    if isinstance(value, SigmaCasedString):
        return re.fullmatch(_regex(value), _text(actual), re.S) is not None
    if isinstance(value, SigmaString):
        return re.fullmatch(_regex(value), _text(actual), re.I | re.S) is not None
    if isinstance(value, SigmaBool):
        return _text(actual).lower() == str(value.boolean).lower()
    if isinstance(value, SigmaRegularExpression):
        flags = sum(value.sigma_to_python_flags[flag] for flag in value.flags)
        return re.search(value.regexp.to_plain(), _text(actual), flags) is not None
    if isinstance(value, SigmaCIDRExpression):
        try:
            return ipaddress.ip_address(_text(actual)) in value.network
        except ValueError:
            return False
    number = _number(actual)
    if number is None:
        return False
    if isinstance(value, SigmaCompareExpression):
        bound = value.number.number
        orders = {"LT": number < bound, "LTE": number <= bound, "GT": number > bound}
        return orders.get(value.op.name, number >= bound)
    assert isinstance(value, SigmaNumber)
    return number == value.number


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(_text(value))
    except ValueError:
        return None


def _regex(value: Any) -> str:
    if isinstance(value, SigmaNumber):
        return re.escape(str(value.number))
    wildcards = {SpecialChars.WILDCARD_MULTI: ".*", SpecialChars.WILDCARD_SINGLE: "."}
    return "".join(wildcards.get(part) or re.escape(part) for part in value.s)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _nodes(value: Any, path: list[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _nodes(item, path)
    elif not path:
        yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from _nodes(value[path[0]], path[1:])


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    else:
        yield value
