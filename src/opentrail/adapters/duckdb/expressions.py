"""Search expressions as SQL conditions.

Where SQL cannot decide exactly, `core/expression` checks the rows that SQL selects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
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
    Opens,
    Or,
    Pattern,
    Text,
)
from opentrail.core.expression.tree import OPENING, network_of
from opentrail.core.user_agents import AGENTCORE, words_of


@dataclass(frozen=True, slots=True)
class SqlCondition:
    """A condition that every matching event meets, and its arguments.

    `certain` is a condition that only matching events meet, with its arguments.
    """

    sql: str
    arguments: tuple[Any, ...] = ()
    certain: tuple[str, tuple[Any, ...]] = ("FALSE", ())

    @property
    def exact(self) -> bool:
        """Whether SQL decides alone."""
        return self.certain == (self.sql, self.arguments)


def exactly(sql: str, *arguments: Any) -> SqlCondition:
    """Returns a condition that all matching events meet, and no others."""
    return SqlCondition(sql, arguments, (sql, arguments))


_ANY = SqlCondition("TRUE")
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
_LISTS = frozenset({"resource_names", "resource_types"})
#: Characters that JSON does not escape, or only as \uXXXX; and a member name of such characters.
_PLAIN, _PLAIN_NAME = (
    re.compile(r"[A-Za-z0-9 _.:,;=@#+-]+"),
    re.compile(r'"[A-Za-z0-9 _.:,;=@#+-]*"'),
)
#: Words whose ends are ASCII letters, and that JSON does not escape.
_WORDS = re.compile(r"[a-z]|[a-z][a-z0-9 _.:,;=@#+-]*[a-z]")
#: A possible part of a number, which JSON may write differently: 1000, 1000.0, 1e3.
_MAYBE_NUMBER = re.compile(r"-?\d*(\.\d*)?(e[-+]?\d*)?|[-+]\d*", re.IGNORECASE)
#: A JSON number with other possible spellings; not 5, -7.25 or 1024.0.
_FLOAT = r"[:,\[]\s*-?([0-9]+\.?[0-9]*[eE]|[0-9]+\.[0-9]{5}|[0-9]{12,}\.|[0-9]{20})"
#: A number of an address, in the form that `ipaddress` accepts.
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_OF_AGENT = (
    "'$.userAgent', '$.userIdentity.arn', '$.userIdentity.sessionContext.sourceIdentity',"
    " '$.additionalEventData.opentrail.agentTag', '$.userIdentity.invokedBy', '$.eventSource'"
)
#: The members of a record that `agent_in` reads, in its order, the event name only where it
#: matters, because calls are grouped by these; NULL for a record that DuckDB rejects, such as one
#: with an escaped lone surrogate.
AGENT_MEMBERS = (
    f"CASE WHEN event_source = '{AGENTCORE}'"
    f" THEN TRY(json_extract_string(record, [{_OF_AGENT}, '$.eventName']))"
    f" ELSE TRY(json_extract_string(record, [{_OF_AGENT}])) END"
)
_SUFFIX = ".amazonaws.com"
_SHORT_SOURCE = r"regexp_replace(event_source, '\.amazonaws\.com$', '')"


def condition_of(expression: Expression, index: Index | None = None) -> SqlCondition:
    """Returns the condition that an expression implies on a table with this index."""
    return _CONDITIONS[type(expression)](expression, index)


def _and(expression: And, index: Index | None) -> SqlCondition:
    return all_of([condition_of(part, index) for part in expression.parts])


def _or(expression: Or, index: Index | None) -> SqlCondition:
    return _joined("OR", [condition_of(part, index) for part in expression.parts], "FALSE")


def all_of(parts: Sequence[SqlCondition]) -> SqlCondition:
    """Returns the condition of events that match all parts."""
    return _joined("AND", parts, "TRUE")


def _joined(word: str, parts: Sequence[SqlCondition], empty: str) -> SqlCondition:
    if not parts:
        return exactly(empty)
    return SqlCondition(
        *_join(word, [(part.sql, part.arguments) for part in parts]),
        certain=_join(word, [part.certain for part in parts]),
    )


def _join(word: str, parts: Sequence[tuple[str, tuple[Any, ...]]]) -> tuple[str, tuple[Any, ...]]:
    sql = f" {word} ".join(f"({sql})" for sql, _ in parts)
    return sql, tuple(argument for _, arguments in parts for argument in arguments)


def _not(expression: Not, index: Index | None) -> SqlCondition:
    inner = condition_of(expression.part, index)
    certain, arguments = inner.certain
    return SqlCondition(
        f"NOT coalesce(({certain}), FALSE)",
        arguments,
        (f"NOT coalesce(({inner.sql}), FALSE)", inner.arguments),
    )


def _is(expression: Is, index: Index | None) -> SqlCondition:
    if expression.state in ("read", "write"):
        return exactly("read_only" if expression.state == "read" else "NOT read_only")
    # A failed login has no error code; only its record shows it.
    if expression.state == "success":
        certain = ("error_code IS NULL AND event_source <> ?", (SIGN_IN,))
        return SqlCondition("error_code IS NULL", certain=certain)
    possible = "(error_code IS NOT NULL OR event_source = ?)"
    return SqlCondition(possible, (SIGN_IN,), ("error_code IS NOT NULL", ()))


def _opens(_expression: Opens, _index: Index | None) -> SqlCondition:
    return SqlCondition(
        f"event_name IN ({', '.join('?' for _ in OPENING)})", tuple(sorted(OPENING))
    )


def _between(expression: Between, index: Index | None) -> SqlCondition:
    parts = []
    if expression.start is not None:
        parts.append(_time(expression.start, "event_time >= ?"))
    if expression.end is not None:
        has_fraction = expression.end.microsecond > 0
        parts.append(_time(expression.end, "event_time <= ?" if has_fraction else "event_time < ?"))
    return _joined("AND", parts, "TRUE")


def _time(moment: datetime, sql: str) -> SqlCondition:
    seconds = int(moment.timestamp())
    return SqlCondition(sql, (seconds,)) if moment.microsecond else exactly(sql, seconds)


def _compare(expression: Compare, index: Index | None) -> SqlCondition:
    if expression.operator == "!=":
        return _not(Not(structs.replace(expression, operator="=")), index)
    if not expression.is_field:
        return _in_record(expression)
    column = expression.path[0]
    if column == "agent":
        return _of_agent(expression)
    if expression.operator == ":" and expression.value.isascii():
        part = expression.value.lower()
        if column in _LISTS:
            return _in_list(column, _contains, part, index)
        if index is not None and column == "event_id":
            return _somewhere("lower(record)", [part])
        if column in _TEXT_COLUMNS:
            return exactly(_contains(column), part)
    if expression.operator != "=":
        return _ANY
    network = network_of(expression)
    if network is not None:
        return _in_network(column, network)
    return _equals(column, expression, index)


def _of_agent(expression: Compare) -> SqlCondition:
    """Searches members of the record for words of agents with such names; no column has agents."""
    value = expression.value.lower()
    matches: Mapping[str, Callable[[str], bool]] = {
        "=": expression.pattern.matches,
        ":": lambda name: value in name.lower(),
    }
    words = words_of(matches.get(expression.operator, lambda _: True))
    has_word = f"regexp_matches(array_to_string({AGENT_MEMBERS}, ' '), ?)"
    return SqlCondition(f"coalesce({has_word}, TRUE)", (pattern_of(words),))


def pattern_of(words: Sequence[str]) -> str:
    """Returns a case-insensitive pattern for text that contains one of some words."""
    return "(?i)" + "|".join(map(re.escape, words))


def _in_network(column: str, network: IPv4Network | IPv6Network) -> SqlCondition:
    """Returns the condition of addresses in a network, and of networks in it."""
    if network.version == 6:
        return SqlCondition(f"contains({column}, ':')")
    first, last = network.network_address.packed, network.broadcast_address.packed
    octets = [
        _OCTET if (low, high) == (0, 255) else f"({'|'.join(map(str, range(low, high + 1)))})"
        for low, high in zip(first, last, strict=True)
    ]
    fixed = "".join(f"{octet}." for octet in first[: network.prefixlen // 8])
    # The prefix excludes most addresses in a fraction of the time of a regular expression.
    begins, is_address = f"starts_with({column}, ?)", f"regexp_full_match({column}, ?)"
    arguments = (fixed[:-1] if len(octets) == fixed.count(".") else fixed, r"\.".join(octets))
    return SqlCondition(
        f"{begins} AND ({is_address} OR contains({column}, '/'))",
        arguments,
        (f"{begins} AND {is_address}", arguments),
    )


def _equals(column: str, expression: Compare, index: Index | None) -> SqlCondition:
    pattern = expression.pattern
    plain = pattern.plain
    if index is not None and column == "event_id":
        return _with_id(pattern, index)
    if index is not None and column == "resource_names" and plain is not None:
        sql, arguments = index.has_resource(plain)
        return exactly(sql, *arguments)
    if column == "read_only":
        return _matches("CAST(read_only AS VARCHAR)", pattern)
    if column in _LISTS:
        if plain is None:
            return _in_list(column, _is_like, _like(pattern), index)
        return exactly(f"list_contains({column}, ?)", plain)
    if column == "event_source" and "." not in expression.value:
        if plain is not None:
            return exactly("event_source IN (?, ?)", plain, plain + _SUFFIX)
        return _matches(_SHORT_SOURCE, pattern)
    return _matches(column, pattern) if column in _TEXT_COLUMNS else _ANY


def _with_id(pattern: Pattern, index: Index) -> SqlCondition:
    """Uses a sealed file's index in place of a missing column."""
    if pattern.plain is None:
        return _somewhere("record", pattern.literals)
    sql, arguments = index.has_id(pattern.plain)
    return SqlCondition(sql, tuple(arguments))


def _in_list(
    column: str, condition: Callable[[str], str], argument: str, index: Index | None
) -> SqlCondition:
    """Returns the condition that an item of a list meets another condition."""
    if index is not None and column == "resource_names":
        return exactly(index.has_resource_where(condition("name")), argument)
    return exactly(f"len(list_filter({column}, lambda item: {condition('item')})) > 0", argument)


def _matches(column: str, pattern: Pattern) -> SqlCondition:
    if pattern.plain is not None:
        return exactly(f"{column} = ?", pattern.plain)
    return exactly(_is_like(column), _like(pattern))


def _is_like(text: str) -> str:
    return f"{text} LIKE ? ESCAPE '\\'"


def _contains(text: str) -> str:
    return f"contains({lower_of(text)}, ?)"


def lower_of(text: str) -> str:
    """Returns the expression of a string in lower case; ASCII characters as Python's `lower`.

    DuckDB's `lower` differs for one character with an ASCII lower case.
    """
    return f"lower(replace({text}, 'İ', 'i̇'))"


def _like(pattern: Pattern) -> str:
    return "".join(
        "%" if part is None else "_" if part is ... else re.sub(r"([\\%_])", r"\\\1", part)
        for part in pattern.parts
    )


def _in_record(expression: Compare) -> SqlCondition:
    """Searches the record for the path's last member, and the longest literal of the value."""
    name = _somewhere("record", [f'"{expression.path[-1]}"'], _PLAIN_NAME)
    value = _ANY
    if expression.operator == "=" and network_of(expression) is None:
        value = _somewhere("record", expression.pattern.literals)
    elif expression.operator == ":":
        value = _somewhere("lower(record)", [expression.value.lower()])
    sql, arguments = _join("AND", [(part.sql, part.arguments) for part in (name, value)])
    return SqlCondition(sql, arguments)


def _text(expression: Text, index: Index | None) -> SqlCondition:
    text = expression.text.lower()
    condition = _somewhere("lower(record)", [text])
    if expression.is_part or not _WORDS.fullmatch(text) or condition.sql == _ANY.sql:
        return condition
    # JSON may escape any letter, and writes a line break before a word as backslash and letter.
    word = rf"(?i:{re.escape(text)})"
    capital = rf"[A-Za-z0-9]{text[0].upper()}(?i:{re.escape(text[1:])})"
    words = rf"((^|[^A-Za-z0-9]|\\[bfnrt]){word}|{capital})([^a-z0-9]|$)"
    found = SqlCondition("(regexp_matches(record, ?) OR contains(record, '\\u'))", (words,))
    return all_of([condition, found])


def _somewhere(text: str, literals: Sequence[str], plain: re.Pattern[str] = _PLAIN) -> SqlCondition:
    """Searches for a literal that must occur in the text, however JSON escapes it."""
    runs = [run for literal in literals if literal.isascii() for run in plain.findall(literal)]
    # JSON may escape any letter: \u003d.
    condition = f"contains({text}, ?) OR contains(record, '\\u')"
    if words := [run for run in runs if not _MAYBE_NUMBER.fullmatch(run)]:
        return SqlCondition(f"({condition})", (max(words, key=len),))
    if numbers := [run for run in runs if run.isdigit()]:
        return SqlCondition(
            f"({condition} OR regexp_matches(record, ?))", (max(numbers, key=len), _FLOAT)
        )
    return _ANY


_CONDITIONS: Mapping[type, Callable[[Any, Index | None], SqlCondition]] = {
    And: _and,
    Or: _or,
    Not: _not,
    Compare: _compare,
    Text: _text,
    Is: _is,
    Opens: _opens,
    Between: _between,
}
