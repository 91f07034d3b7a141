"""Patterns of policies: `*`, `?` and policy variables such as `${aws:username, 'guest'}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from opentrail.core.text import with_anything_between

Context = Mapping[str, tuple[str, ...]]
#: Whether a string matches, with variables read from the context.
TextMatcher = Callable[[str, Context], bool]

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_WITH_DEFAULT = re.compile(r"\s*([^,\s]+)\s*(?:,\s*'([^']*)'\s*)?")
#: Escapes of literal characters.
_LITERALS = frozenset("*?$")
_WILD = re.compile(r"[*?]|\$\{")
_SPECIAL = re.compile(r"[*?$]")
_ESCAPED = re.compile(r"\$\{([*?$])\}")


def globs(patterns: Iterable[str], flags: int = 0) -> re.Pattern[str]:
    """Returns an expression for patterns with `*` and `?` that matches in linear time."""
    sources = (_source([(pattern, False)]) for pattern in patterns)
    return re.compile("|".join(f"(?:{source})" for source in sources), flags | re.DOTALL)


def literal(text: str) -> str:
    """Returns a string as a policy pattern that matches only this string.

    >>> literal("a*")
    'a${*}'
    """
    return _SPECIAL.sub(r"${\g<0>}", text)


def meant_by(pattern: str) -> str:
    """Returns a pattern with its escaped characters as literals."""
    return _ESCAPED.sub(r"\1", pattern)


def may_overlap(one: str, other: str) -> bool:
    """Returns whether some string may match both patterns, by their literal beginnings.

    >>> may_overlap("secret:db-??????", "secret:db-a1B2c3"), may_overlap("vpc/*", "subnet/*")
    (True, False)
    """
    begin, other_begin = (_WILD.split(pattern, maxsplit=1)[0] for pattern in (one, other))
    return begin.startswith(other_begin) or other_begin.startswith(begin)


def has_variables(text: str) -> bool:
    return _VARIABLE.search(text) is not None


def resolved(text: str, context: Context) -> str:
    """Returns a string with its variables replaced; unknown ones stay unchanged."""
    return "".join(part for part, _ in _parts(text, context))


def like_any(patterns: Sequence[str], with_variables: bool) -> TextMatcher:
    """Returns a test of whether a string matches a pattern; values of variables are literal."""
    if "*" in patterns:
        return lambda _text, _context: True
    variable = [pattern for pattern in patterns if with_variables and has_variables(pattern)]
    fixed = [pattern for pattern in patterns if pattern not in variable]
    fullmatch = globs(fixed).fullmatch if fixed else None

    def matches(text: str, context: Context) -> bool:
        if fullmatch is not None and fullmatch(text) is not None:
            return True
        return any(
            re.fullmatch(_source(_parts(pattern, context)), text, re.DOTALL) for pattern in variable
        )

    return matches


def _source(parts: list[tuple[str, bool]]) -> str:
    """Returns the source of an expression for parts, each a pattern or, if True, literal."""
    chunks = [""]
    for part, is_literal in parts:
        first, *rest = [part] if is_literal else part.split("*")
        chunks[-1] += _fixed(first, is_literal)
        chunks += [_fixed(text, is_literal) for text in rest]
    return with_anything_between(chunks)


def _fixed(text: str, is_literal: bool) -> str:
    if is_literal or "?" not in text:
        return re.escape(text)
    return "".join("." if char == "?" else re.escape(char) for char in text)


def _parts(text: str, context: Context) -> list[tuple[str, bool]]:
    """Returns the parts of a string, each with whether it is a variable's value."""
    parts: list[tuple[str, bool]] = []
    end = 0
    for match in _VARIABLE.finditer(text):
        value = _value(match[1], context)
        parts.append((text[end : match.start()], False))
        parts.append((match[0] if value is None else value, True))
        end = match.end()
    parts.append((text[end:], False))
    return parts


def _value(variable: str, context: Context) -> str | None:
    if variable in _LITERALS:
        return variable
    match = _WITH_DEFAULT.fullmatch(variable)
    if match is None:
        return None
    values = context.get(match[1].lower(), ())
    # A key with several values has no single value to insert.
    return values[0] if len(values) == 1 else match[2]
