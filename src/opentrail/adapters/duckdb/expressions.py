"""Search expressions as SQL conditions, which every matching event meets.

Where SQL cannot decide exactly, `core/expression` decides on the rows that SQL selects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec import structs

from opentrail.adapters.duckdb.index import Index
from opentrail.core.event import SIGN_IN
from opentrail.core.expression import (
    And,
    Between,
    Compare,
    Expression,
    Is,
    Not,
    Or,
    Pattern,
    Text,
)
from opentrail.core.expression.tree import network_of


@dataclass(frozen=True, slots=True)
class SqlCondition:
    """A condition and its arguments; `exact` if only matching events meet it."""

    sql: str
    arguments: tuple[Any, ...]
    exact: bool


_ANY = SqlCondition("TRUE", (), False)
_TEXT_COLUMNS = frozenset(
    {
        "account",
        "access_key_id",
        "category",
        "error_code",
        "event_id",
        "event_name",
        "event_source",
        "principal_arn",
        "region",
        "source_ip",
        "username",
    }
)
_INDEXED = frozenset({"event_id", "resource_names"})
_LISTS = frozenset({"resource_names", "resource_types"})
#: Characters that JSON does not escape, or only as \uXXXX; and a member name of such characters.
_PLAIN, _PLAIN_NAME = (
    re.compile(r"[A-Za-z0-9 _.:,;=@#+-]+"),
    re.compile(r'"[A-Za-z0-9 _.:,;=@#+-]*"'),
)
#: A possible part of a number, which JSON may write differently: 1000, 1000.0, 1e3.
_MAYBE_NUMBER = re.compile(r"-?\d*(\.\d*)?(e[-+]?\d*)?|[-+]\d*", re.IGNORECASE)
#: A number in JSON that may be read as one with other digits; not 5, -7.25 or 1024.0.
_FLOAT = r"[:,\[]\s*-?([0-9]+\.?[0-9]*[eE]|[0-9]+\.[0-9]{5}|[0-9]{12,}\.|[0-9]{20})"
_SUFFIX = ".amazonaws.com"


def condition_of(expression: Expression, index: Index | None = None) -> SqlCondition:
    """Returns the condition that an expression implies on a table with this index."""
    return _CONDITIONS[type(expression)](expression, index)


def _and(expression: And, index: Index | None) -> SqlCondition:
    return _joined("AND", [condition_of(part, index) for part in expression.parts], "TRUE")


def _or(expression: Or, index: Index | None) -> SqlCondition:
    return _joined("OR", [condition_of(part, index) for part in expression.parts], "FALSE")


def _joined(word: str, parts: list[SqlCondition], empty: str, exact: bool = True) -> SqlCondition:
    if not parts:
        return SqlCondition(empty, (), exact)
    arguments = tuple(argument for part in parts for argument in part.arguments)
    sql = f" {word} ".join(f"({part.sql})" for part in parts)
    return SqlCondition(sql, arguments, exact and all(part.exact for part in parts))


def _not(expression: Not, index: Index | None) -> SqlCondition:
    inner = condition_of(expression.part, index)
    if not inner.exact:
        return _ANY
    return SqlCondition(f"NOT coalesce(({inner.sql}), FALSE)", inner.arguments, True)


def _is(expression: Is, index: Index | None) -> SqlCondition:
    if expression.state in ("read", "write"):
        return SqlCondition(
            "read_only" if expression.state == "read" else "NOT read_only", (), True
        )
    if expression.state == "success":
        return SqlCondition("error_code IS NULL", (), False)
    # A failed login has no error code; only its record shows it.
    return SqlCondition("(error_code IS NOT NULL OR event_source = ?)", (SIGN_IN,), False)


def _between(expression: Between, index: Index | None) -> SqlCondition:
    parts = []
    if expression.start is not None:
        parts.append(_time(expression.start, "event_time >= ?"))
    if expression.end is not None:
        rest = expression.end.microsecond > 0
        parts.append(_time(expression.end, "event_time <= ?" if rest else "event_time < ?"))
    return _joined("AND", parts, "TRUE")


def _time(moment: datetime, sql: str) -> SqlCondition:
    return SqlCondition(sql, (int(moment.timestamp()),), moment.microsecond == 0)


def _compare(expression: Compare, index: Index | None) -> SqlCondition:
    if expression.operator == "!=":
        return _not(Not(structs.replace(expression, operator="=")), index)
    if not expression.is_field:
        return _in_record(expression)
    column = expression.path[0]
    if expression.operator == ":" and column in _TEXT_COLUMNS and expression.value.isascii():
        if index is not None and column == "event_id":
            return _somewhere("lower(record)", [expression.value.lower()])
        sql = f"contains(lower({column}), ?)"
        return SqlCondition(sql, (expression.value.lower(),), False)
    if expression.operator != "=" or network_of(expression) is not None:
        return _ANY
    return _equals(column, expression, index)


def _equals(column: str, expression: Compare, index: Index | None) -> SqlCondition:
    pattern = expression.pattern
    plain = pattern.plain
    if index is not None and column in _INDEXED:
        return _indexed(column, pattern, index)
    if column == "read_only":
        return _matches("CAST(read_only AS VARCHAR)", pattern)
    if column in _LISTS:
        return (
            _ANY if plain is None else SqlCondition(f"list_contains({column}, ?)", (plain,), True)
        )
    if column == "event_source" and "." not in expression.value:
        if plain is not None:
            return SqlCondition("event_source IN (?, ?)", (plain, plain + _SUFFIX), True)
        return _ANY
    return _matches(column, pattern) if column in _TEXT_COLUMNS else _ANY


def _indexed(column: str, pattern: Pattern, index: Index) -> SqlCondition:
    """Uses a sealed file's index in place of a column that it does not have."""
    plain = pattern.plain
    if column == "event_id":
        if plain is None:
            return _somewhere("record", pattern.literals)
        sql, arguments = index.has_id(plain)
        return SqlCondition(sql, tuple(arguments), False)
    sql, arguments = (
        index.has_resource_like(_like(pattern)) if plain is None else index.has_resource(plain)
    )
    return SqlCondition(sql, tuple(arguments), True)


def _matches(column: str, pattern: Pattern) -> SqlCondition:
    if pattern.plain is not None:
        return SqlCondition(f"{column} = ?", (pattern.plain,), True)
    return SqlCondition(f"{column} LIKE ? ESCAPE '\\'", (_like(pattern),), True)


def _like(pattern: Pattern) -> str:
    return "".join(
        "%" if part is None else "_" if part is ... else re.sub(r"([\\%_])", r"\\\1", part)
        for part in pattern.parts
    )


def _in_record(expression: Compare) -> SqlCondition:
    """Searches the record for the path's last member, and the longest literal of the value."""
    named = _somewhere("record", [f'"{expression.path[-1]}"'], _PLAIN_NAME)
    value = _ANY
    if expression.operator == "=" and network_of(expression) is None:
        value = _somewhere("record", expression.pattern.literals)
    elif expression.operator == ":":
        value = _somewhere("lower(record)", [expression.value.lower()])
    return _joined("AND", [part for part in (named, value) if part is not _ANY], "TRUE", False)


def _text(expression: Text, index: Index | None) -> SqlCondition:
    return _somewhere("lower(record)", [expression.text.lower()])


def _somewhere(text: str, wanted: Sequence[str], plain: re.Pattern[str] = _PLAIN) -> SqlCondition:
    """Searches for a literal that must occur in the text, however JSON escapes it."""
    runs = [run for one in wanted if one.isascii() for run in plain.findall(one)]
    # JSON may escape any letter: \u003d.
    found = f"contains({text}, ?) OR contains(record, '\\u')"
    if words := [run for run in runs if not _MAYBE_NUMBER.fullmatch(run)]:
        return SqlCondition(f"({found})", (max(words, key=len),), False)
    if numbers := [run for run in runs if run.isdigit()]:
        return SqlCondition(
            f"({found} OR regexp_matches(record, ?))", (max(numbers, key=len), _FLOAT), False
        )
    return _ANY


_CONDITIONS: Mapping[type, Callable[[Any, Index | None], SqlCondition]] = {
    And: _and,
    Or: _or,
    Not: _not,
    Compare: _compare,
    Text: _text,
    Is: _is,
    Between: _between,
}
