"""Regular expressions match the same on every supported build of Python.

CPython 3.11.2, which Debian 12 has, matches a possessive repetition of a group wrongly. Up to
3.13.0, one with captures inside may raise "The span of capturing group is wrong". A possessive
repetition of one character or class has neither fault, nor has an atomic group in an expression
without captures.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import opentrail
from opentrail.core.expression.tree import Pattern, regex_of
from opentrail.core.policies.patterns import globs

SOURCE = Path(opentrail.__file__).parent
#: A possessive repetition of a group, and an atomic group.
UNSAFE = re.compile(r"\)\s*(?:[*+?]|\{\d*,?\d*\})\+|\(\?>")
#: Joins literal strings with atomic groups, see `test_wildcards_capture_nothing`.
WILDCARDS = "core/text.py"


def strings(source: str) -> Iterator[tuple[int, str]]:
    """Yields the string literals of a module, parts of f-strings included, with their lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            value = node.value
            yield node.lineno, value if isinstance(value, str) else value.decode("latin-1")


def unsafe_lines(source: str) -> list[int]:
    return [line for line, text in strings(source) if UNSAFE.search(text)]


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('re.compile(r"(?:a|b)*+(c)")', [1]),
        ('re.compile(rb"(?:a|b)++")', [1]),
        ('x = 1\nre.compile(rf"(?:{A}){{1,20}}+")', [2]),
        ('re.compile(r"(?>a|b)c")', [1]),
        ('re.compile(r"([ab]++)[^c]{1,3}+(?:d|e)*")', []),
    ],
)
def test_unsafe_expressions_are_found(source: str, lines: list[int]) -> None:
    assert unsafe_lines(source) == lines


def test_no_group_is_possessive_or_atomic() -> None:
    unsafe = {
        str(module.relative_to(SOURCE)): lines
        for module in sorted(SOURCE.rglob("*.py"))
        if (lines := unsafe_lines(module.read_text()))
    }
    assert unsafe.pop(WILDCARDS)
    assert unsafe == {}


def test_wildcards_capture_nothing() -> None:
    assert globs(["a*(b)*c?*", "(*)|d**e"]).groups == 0
    assert regex_of(Pattern(("(a", None, ..., "b)", None))).groups == 0
