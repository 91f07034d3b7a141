"""Secrets in YAML: in blocks, and in pairs of name and value.

Not a parser: it reads a string line by line, and leaves the lines unchanged except for hidden
values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opentrail.core.secrets.secret_names import (
    HIDDEN,
    hidden_members,
    sounds_secret,
)

#: A line with a key: `- Name: value`.
_KEY = re.compile(
    r"""(?P<indent>[ \t]*)(?P<dashes>(?:-[ \t]+)*)(?P<quote>['"]?)"""
    r"""(?P<name>[\w$*./~+][^\s'"#{}\[\],]{0,199}?)(?P=quote)[ \t]*:"""
    r"""(?:[ \t]++(?P<value>[^\s#].*)|[ \t]*+(?:(?<=[ \t])\#.*)?)$"""
)
_COMMENT = re.compile(r"(?<=[ \t])#")
#: The mark of a block scalar, in which `#` does not begin a comment.
_SCALAR = re.compile(r"[|>][-+\d]*$")
_BLANK = ("", "#", "\n", "\r")
_NOT_A_SECRET = frozenset({"", "true", "false", "null", "~", "yes", "no"})
#: Members of a template parameter that may hold its value.
_DEFAULTS = ("Default", "AllowedValues")


@dataclass(frozen=True, slots=True)
class YamlEntry:
    """A key of a mapping, and its position.

    `column` is the column of the key itself, after the dashes of a list. Entries of one mapping
    have the same `mapping`.
    """

    line: int
    column: int
    mapping: int
    name: str
    value: str
    #: Where the value begins in the line.
    start: int


def without_yaml_secrets(text: str) -> str:
    r"""Returns a string without the secrets that it names in YAML.

    >>> without_yaml_secrets("- Key: password\n  Value: hunter2\n")
    '- Key: password\n  Value: HIDDEN_DUE_TO_SECURITY_REASONS\n'
    """
    lines = text.splitlines(keepends=True)
    mappings: dict[int, list[YamlEntry]] = {}
    for entry in yaml_entries(lines):
        mappings.setdefault(entry.mapping, []).append(entry)
    hidden = [entry for entries in mappings.values() for entry in _hidden(entries)]
    if not hidden:
        return text
    parts: list[str] = []
    next_line = 0
    for entry in sorted(hidden, key=lambda hidden_entry: hidden_entry.line):
        if entry.line < next_line:
            continue  # within an already hidden part
        end = yaml_end(lines, entry)
        parts += [*lines[next_line : entry.line], _hidden_line(lines, entry, end)]
        next_line = end
    return "".join((*parts, *lines[next_line:]))


def yaml_entries(lines: list[str]) -> list[YamlEntry]:
    """Returns the keys of a string's lines, those in block scalars included."""
    entries: list[YamlEntry] = []
    #: Columns and numbers of the mappings that a line may continue; inner ones come last.
    open_mappings: list[tuple[int, int]] = []
    count = 0
    for number, line in enumerate(lines):
        text = line.lstrip(" \t")
        if text[:1] in _BLANK:
            continue
        match = _KEY.match(line.rstrip("\r\n")) if ":" in line else None
        indent = len(line) - len(text)
        column = indent if match is None else match.end("dashes")
        is_item = match is not None and column > indent
        deepest = indent if is_item else column
        while open_mappings and open_mappings[-1][0] > deepest:
            open_mappings.pop()
        if match is None:
            continue
        if not open_mappings or open_mappings[-1][0] < column:
            count += 1
            open_mappings.append((column, count))
        name, value = match["name"], _COMMENT.split(match["value"] or "", 1)[0].rstrip(" \t")
        start = match.start("value") if value else -1
        entries.append(YamlEntry(number, column, open_mappings[-1][1], name, value, start))
    return entries


def yaml_end(lines: list[str], entry: YamlEntry) -> int:
    """Returns the line after an entry's value."""
    end = number = entry.line + 1
    is_scalar = _SCALAR.search(entry.value) is not None
    for number in range(entry.line + 1, len(lines)):
        line = lines[number]
        indent = _indent(line)
        if _is_blank(line) and not (is_scalar and line.strip() and indent > entry.column):
            continue
        # A list may begin in the column of its key.
        is_list = indent == entry.column and not entry.value and line.lstrip()[:2] in ("- ", "-\n")
        if indent <= entry.column and not is_list:
            break
        end = number + 1
    return end


def is_hushed(value: Any) -> bool:
    """Returns whether the `NoEcho` of a template parameter hides its value."""
    if value is None or value is False:
        return False
    return str(value).strip().strip("\"'").lower() not in ("false", "no", "")


def hidden_defaults(parameter: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the members with values of a hidden template parameter.

    >>> hidden_defaults({"Type": "String", "NoEcho": "true", "Default": "hunter2"})
    ('Default',)
    """
    if not is_hushed(parameter.get("NoEcho")):
        return ()
    return tuple(name for name in _DEFAULTS if name in parameter)


def _is_blank(line: str) -> bool:
    text = line.strip()
    return not text or text[0] == "#"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _hidden(entries: list[YamlEntry]) -> list[YamlEntry]:
    """Returns the hidden entries of a mapping."""
    hidden: set[str] = set()
    if len(entries) > 1:
        mapping = {entry.name: _plain(entry.value) for entry in entries}
        hidden = {*hidden_members(mapping), *hidden_defaults(mapping)}
    return [entry for entry in entries if entry.name in hidden or sounds_secret(entry.name)]


def _plain(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0] else value


def _hidden_line(lines: list[str], entry: YamlEntry, end: int) -> str:
    """Returns the line of an entry with its value and block hidden."""
    line = lines[entry.line]
    has_block = end > entry.line + 1
    if not has_block and (entry.value.lower() in _NOT_A_SECRET or HIDDEN in entry.value):
        return line
    start = entry.start if entry.value else len(line.rstrip())
    between = "" if entry.value else " "
    newline = "\n" if lines[end - 1].endswith("\n") else ""
    return f"{line[:start]}{between}{HIDDEN}{newline}"
