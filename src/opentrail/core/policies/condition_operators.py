"""Condition operators of policies, compiled to functions of a request's context.

The rules are in "IAM JSON policy elements: Condition operators": a missing key does not match,
except by a negated operator, `…IfExists`, `ForAllValues:` and `Null`; a set operator ignores
`IfExists`. In cases that IAM leaves open, the condition does not match: several values without a
set operator, and values of another type than the operator's.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from opentrail.core.policies.patterns import (
    Context,
    TextMatcher,
    has_variables,
    like_any,
    resolved,
)

Condition = Callable[[Context], bool]
#: Whether a context value matches a policy value; None if it has the wrong type.
_AnyOf = Callable[[str, Context], bool | None]
#: Makes a matcher of the policy's values.
_Family = Callable[[Sequence[str], bool], _AnyOf]

_OPERATOR = re.compile(r"(?:(ForAllValues|ForAnyValue):)?([A-Za-z]+?)(IfExists)?")
_EPOCH = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]+)?")
_COMPONENTS = 6


class ConditionError(ValueError):
    """An unknown condition operator, or a value of the wrong type."""


def condition(operator: str, key: str, values: Sequence[str], with_variables: bool) -> Condition:
    """Returns a condition.

    Args:
        operator: such as `ForAnyValue:StringLikeIfExists`.
        key: the condition key, in any case.
        values: the policy's values; one must match.
        with_variables: whether the policy's version has variables.

    Raises:
        ConditionError: the operator is unknown, or a value has the wrong type.
    """
    match = _OPERATOR.fullmatch(operator)
    name = match[2] if match else ""
    folded = key.lower()
    if match is None or (name == "Null" and match[0] != "Null"):
        raise ConditionError(f"Invalid Condition type : {operator}.")
    if name == "Null":
        return _null(folded, values)
    is_negated = name in _NEGATED
    family = _FAMILIES.get(_NEGATED.get(name, name))
    if family is None:
        raise ConditionError(f"Invalid Condition type : {operator}.")
    any_of = family(values, with_variables)
    if match[1] == "ForAllValues":
        return lambda context: all(
            _holds(any_of, value, context, is_negated) for value in context.get(folded, ())
        )
    if match[1] == "ForAnyValue":
        return lambda context: any(
            _holds(any_of, value, context, is_negated) for value in context.get(folded, ())
        )
    # A missing key matches a negated operator as it matches IfExists.
    return _single(any_of, folded, is_negated, is_negated or match[3] is not None)


def _single(any_of: _AnyOf, key: str, is_negated: bool, if_missing: bool) -> Condition:
    def holds(context: Context) -> bool:
        values = context.get(key)
        if not values:
            return if_missing
        return len(values) == 1 and _holds(any_of, values[0], context, is_negated)

    return holds


def _holds(any_of: _AnyOf, value: str, context: Context, is_negated: bool) -> bool:
    result = any_of(value, context)
    return result is not None and result is not is_negated


def _null(key: str, values: Sequence[str]) -> Condition:
    booleans = {_boolean(value) for value in values}
    if None in booleans:
        raise ConditionError("the value of Null must be true or false")
    return lambda context: (not context.get(key)) in booleans


# Strings and ARNs.


def _texts(fold: bool) -> _Family:
    def family(values: Sequence[str], with_variables: bool) -> _AnyOf:
        def same(text: str) -> str:
            return text.casefold() if fold else text

        fixed = frozenset(same(v) for v in values if not (with_variables and has_variables(v)))
        variable = [v for v in values if with_variables and has_variables(v)]
        if not variable:
            return lambda value, _context: same(value) in fixed
        return lambda value, context: (
            same(value) in fixed or any(same(resolved(v, context)) == same(value) for v in variable)
        )

    return family


def _arn_like(values: Sequence[str], with_variables: bool) -> _AnyOf:
    matchers = [_arn_matcher(value, with_variables) for value in values]

    def any_of(value: str, context: Context) -> bool | None:
        if value.count(":") < _COMPONENTS - 1:
            return None
        return any(matches(value, context) for matches in matchers)

    return any_of


def _arn_matcher(pattern: str, with_variables: bool) -> TextMatcher:
    """Returns a comparison of the six components of ARNs one by one."""
    parts = split_arn(pattern)
    if len(parts) < _COMPONENTS:
        if pattern != "*" and not (with_variables and has_variables(pattern)):
            raise ConditionError(f"{pattern!r} is not an ARN")
        return like_any([pattern], with_variables)
    matchers = [like_any([part], with_variables) for part in parts]
    return lambda value, context: all(
        matches(part, context)
        for matches, part in zip(matchers, value.split(":", _COMPONENTS - 1), strict=True)
    )


def split_arn(pattern: str) -> list[str]:
    """Returns the components of an ARN; colons within variables do not count."""
    parts, depth = [""], 0
    for index, char in enumerate(pattern):
        if pattern.startswith("${", index):
            depth += 1
        elif char == "}" and depth:
            depth -= 1
        if char == ":" and not depth and len(parts) < _COMPONENTS:
            parts.append("")
        else:
            parts[-1] += char
    return parts


# Other types: each value has one form, used to compare context values.


def _typed(read: Callable[[str], Any], fits: Callable[[Any, Any], bool]) -> _Family:
    def family(values: Sequence[str], _with_variables: bool) -> _AnyOf:
        expected = [read(value) for value in values]
        if None in expected:
            wrong = values[expected.index(None)]
            raise ConditionError(f"{wrong!r} is not of the operator's type")

        def any_of(text: str, _context: Context) -> bool | None:
            value = read(text)
            return None if value is None else any(fits(value, bound) for bound in expected)

        return any_of

    return family


def _number(text: str) -> float | None:
    # Neither "nan" nor "1_000" are numbers of JSON.
    if not re.fullmatch(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", text):
        return None
    return float(text)


def _moment(text: str) -> datetime | None:
    try:
        if _EPOCH.fullmatch(text):
            return datetime.fromtimestamp(float(text), UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _boolean(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text.lower())


def _binary(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _contains(value: _Network, network: _Network) -> bool:
    if value.version != network.version:
        return False
    return value.network_address in network and value.broadcast_address in network


_FAMILIES: dict[str, _Family] = {
    "StringEquals": _texts(fold=False),
    "StringEqualsIgnoreCase": _texts(fold=True),
    "StringLike": like_any,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "NumericEquals": _typed(_number, lambda a, b: bool(a == b)),
    "NumericLessThan": _typed(_number, lambda a, b: bool(a < b)),
    "NumericLessThanEquals": _typed(_number, lambda a, b: bool(a <= b)),
    "NumericGreaterThan": _typed(_number, lambda a, b: bool(a > b)),
    "NumericGreaterThanEquals": _typed(_number, lambda a, b: bool(a >= b)),
    "DateEquals": _typed(_moment, lambda a, b: bool(a == b)),
    "DateLessThan": _typed(_moment, lambda a, b: bool(a < b)),
    "DateLessThanEquals": _typed(_moment, lambda a, b: bool(a <= b)),
    "DateGreaterThan": _typed(_moment, lambda a, b: bool(a > b)),
    "DateGreaterThanEquals": _typed(_moment, lambda a, b: bool(a >= b)),
    "Bool": _typed(_boolean, lambda a, b: bool(a == b)),
    "BinaryEquals": _typed(_binary, lambda a, b: bool(a == b)),
    "IpAddress": _typed(_network, _contains),
}
#: Negated operator → its positive counterpart.
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
}
#: Every operator without its set operator and `IfExists`.
OPERATORS = frozenset({*_FAMILIES, *_NEGATED, "Null"})
