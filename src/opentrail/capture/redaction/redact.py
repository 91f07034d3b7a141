"""Redaction of values, by table, model or name, and of messages (cloudtrail-format §4.4)."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from html import escape
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus

from opentrail.capture.limits import MAX_COMPARED_BYTES, MAX_MESSAGE_LENGTH
from opentrail.capture.record_rules import rules
from opentrail.capture.redaction.embedded import within, without_option_values, without_variables
from opentrail.capture.redaction.secret_names import HIDDEN, hidden_members, sounds_secret

REMOVED_MARK = "<sensitiveDataRemoved>"
#: AWS's placeholders for a value, by the table of redaction.toml that lists it.
PLACEHOLDERS = {
    "hide": HIDDEN,
    "mark": REMOVED_MARK,
    "omit": "***OMITTED***",
    "stars": "**********",
}
#: The tables of redaction.toml that list members.
ACTIONS = (*PLACEHOLDERS, "values", "remove", "literals", "show")

#: Quoted texts, quoted names and numbers in a PartiQL statement.
_LITERAL = re.compile(r"""'[^']*'?|"[^"]*"?|(?<![\w.])\d[\w.]*(?:(?<=[eE])[+-]\d+)?""")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{8,}={1,2}|[A-Za-z0-9+/]{16,}")
_WORD = re.compile(r"""[^\s"'<>{}\[\],:;=&()?]{4,}""")
#: Shorter texts are not searched for in error messages, where they would be frequent.
MIN_SECRET_LENGTH = 4


@cache
def actions(source: str) -> dict[str, str]:
    """Returns the table that each member of a service is listed in, by its recorded name."""
    table = rules("redaction")
    found: dict[str, str] = {}
    for action in ACTIONS:
        for scope in ("*", source):
            found.update(dict.fromkeys(table[action].get(scope, ()), action))
    return found


def without_literals(text: Any) -> Any:
    """Returns a statement with its literals replaced: quoted texts and numbers.

    >>> without_literals("SELECT * FROM t WHERE a = 'x'")
    "SELECT * FROM t WHERE a = 'HIDDEN_DUE_TO_SECURITY_REASONS'"
    """
    if not isinstance(text, str):
        return HIDDEN
    return _LITERAL.sub(_hidden_literal, text)


def _hidden_literal(found: re.Match[str]) -> str:
    literal = found.group()
    if literal.startswith('"'):
        return literal  # a quoted name
    if not literal.startswith("'"):
        return HIDDEN
    inner = literal.strip("'")
    end = "'" if len(literal) > 1 and literal.endswith("'") else ""
    return f"'{HIDDEN if inner else ''}{end}"


def scrubbed(message: str, given: Any, shown: Any, never: Iterable[str] = ()) -> str:
    """Returns an error message without values that were given and are not recorded.

    Args:
        message: the error message.
        given: the parameters as they were given.
        shown: the parameters as they are recorded.
        never: other texts that must not be recorded, such as signatures.
    """
    message = message[:MAX_MESSAGE_LENGTH]
    hidden = {text for text in _texts(given) - _texts(shown) if len(text) >= MIN_SECRET_LENGTH}
    hidden |= {text for text in never if text}
    forms = _forms_in(message)
    secrets = {form(text) for text in hidden if len(text) <= len(message) for form in forms}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) <= len(message):
            message = message.replace(secret, HIDDEN)
    return within(message)


def without_words_of(body: bytes, message: str, shown: str) -> str:
    """Returns an error message without words of a body that could not be decoded.

    Args:
        body: the body.
        message: the error message.
        shown: recorded text, whose words are kept.
    """
    raw = body[:MAX_COMPARED_BYTES].decode("utf-8", "replace")
    given = f"{raw}\n{unquote_plus(raw)}" if "%" in raw or "+" in raw else raw

    def word(found: re.Match[str]) -> str:
        text = found.group()
        return HIDDEN if text in given and text not in shown else text

    return _WORD.sub(word, message[:MAX_MESSAGE_LENGTH])


def _forms_in(message: str) -> list[Callable[[str], str]]:
    """Returns the encodings in which a text may occur in this message."""
    forms: list[Callable[[str], str]] = [str]
    if "%" in message or "+" in message:
        forms += [quote, quote_plus, partial(quote, safe="")]
    if "&" in message:
        forms.append(escape)
    if "\\" in message:
        forms += [lambda text: json.dumps(text)[1:-1], _json_text]
    if _BASE64.search(message):
        forms.append(lambda text: base64.b64encode(text.encode("utf-8", "replace")).decode())
    return forms


def _json_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _texts(value: Any) -> set[str]:
    """Returns all texts of a value, and of JSON within them."""
    found: set[str] = set()
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            found.add(value)
            if value[:1] in ("{", "["):
                with contextlib.suppress(ValueError, RecursionError):
                    left.append(json.loads(value))
        elif isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, bytes):
            found.add(base64.b64encode(value).decode())
            found.add(value.decode("utf-8", "replace"))
        elif isinstance(value, bool | int):
            found.add(str(value).lower())  # the forms of EC2 and S3 turn texts into these
    return found


def without_named_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a form without those that the field beside them names as secrets.

    >>> without_named_fields({"Tag.1.Key": "password", "Tag.1.Value": "x", "Tag.2.Value": "y"})
    {'Tag.1.Key': 'password', 'Tag.1.Value': 'HIDDEN_DUE_TO_SECURITY_REASONS', 'Tag.2.Value': 'y'}
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, value in fields.items():
        before, _, last = str(name).rpartition(".")
        while last.isdigit() or last == "member":  # one of the values in a list
            before, _, last = before.rpartition(".")
        groups.setdefault(before, {}).setdefault(last, value)
    hidden = {
        f"{before}.{last}" if before else last
        for before, group in groups.items()
        for last in hidden_members(group)
    }
    if not hidden:
        return fields
    return {
        name: HIDDEN if any(f"{name}.".startswith(f"{one}.") for one in hidden) else value
        for name, value in fields.items()
    }


def by_name(value: Any, rename: Callable[[str], str]) -> Any:
    """Returns a value that has no model: names changed by `rename`, secrets hidden by name."""
    if isinstance(value, dict):
        hidden = hidden_members({str(name): item for name, item in value.items()})
        return {
            rename(str(name)): HIDDEN
            if sounds_secret(str(name)) or str(name) in hidden
            else by_name(without_variables(str(name), item), rename)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [by_name(item, rename) for item in without_option_values(value)]
    if isinstance(value, str):
        return within(value)
    return HIDDEN if isinstance(value, bytes) else value
