"""Statements of PartiQL and S3 Select: the table of a statement, and its text without values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from opentrail.core.event import objects_in

#: AWS's placeholder for a value ("Understanding DynamoDB log file entries").
REDACTED = "***(Redacted)"
_TABLE = re.compile(
    r"""\s*(?:SELECT\s(?:[^'"]|'[^']*'|"[^"]*")*?\sFROM|INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+
        "?(?P<table>[\w.-]{3,255}?)"?(?:\."(?P<index>[\w.-]{3,255})")?(?=\s|\Z)""",
    re.IGNORECASE | re.VERBOSE | re.ASCII,
)
#: A possibly truncated string, a quoted name, a number, or a brace.
_TOKEN = re.compile(r"""'(?:[^']|'')*'?|"[^"]*"?|(?<![\w.])\d[\w.]*(?:(?<=[eE])[+-]\d+)?|[{}]""")
#: Members that list statements: `requestItems` in AWS's records, the others in requests.
_LISTS = ("requestItems", "statements", "transactStatements")
_COLON = re.compile(r"\s*:")


def statements_of(parameters: Mapping[str, Any]) -> list[str]:
    """Returns the statements in the recorded parameters of a call of DynamoDB."""
    items = (item for name in _LISTS for item in objects_in(parameters.get(name)))
    texts = (each.get("statement") for each in (parameters, *items))
    return [text for text in texts if isinstance(text, str)]


def table_of(statement: str) -> tuple[str, str | None] | None:
    """Returns table and index of a statement, None for other strings.

    >>> table_of("SELECT * FROM Music WHERE Artist = 'x'")
    ('Music', None)
    >>> table_of('SELECT * FROM "Music"."ByYear"')
    ('Music', 'ByYear')
    """
    found = _TABLE.match(statement)
    return (found["table"], found["index"]) if found else None


def without_values(statement: str) -> str:
    """Returns a statement as AWS records it, without strings and numbers.

    Names of an item's attributes stay. AWS also shows values of keys; only the table knows which
    attributes are keys.

    >>> without_values("INSERT INTO Music VALUE {'Artist': 'x', 'Year': 1999}")
    "INSERT INTO Music VALUE {'Artist': ***(Redacted), 'Year': ***(Redacted)}"
    """
    depth, is_insert = 0, statement.lstrip()[:6].upper() == "INSERT"

    def shown(match: re.Match[str]) -> str:
        nonlocal depth
        word = match[0]
        if word in "{}":
            depth += 1 if word == "{" else -1
            return word
        if word[0] == "'" and depth == 1 and is_insert and _COLON.match(statement, match.end()):
            return word  # the name of an attribute
        is_name = word[0] == word[-1] == '"' and len(word) > 1
        return word if is_name else REDACTED

    return _TOKEN.sub(shown, statement)
