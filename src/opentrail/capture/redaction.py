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

from opentrail.capture.record_limits import (
    MAX_COMPARED_BYTES,
    MAX_HIDDEN_VALUES,
    MAX_MESSAGE_LENGTH,
)
from opentrail.capture.record_rules import rules
from opentrail.core.event import Json
from opentrail.core.partiql import without_values
from opentrail.core.secrets.embedded import hide_unsearchable, redact
from opentrail.core.secrets.secret_names import HIDDEN, hidden_members

REMOVED_MARK = "<sensitiveDataRemoved>"
#: AWS's placeholders for a value, by its table in redaction.toml.
PLACEHOLDERS = {
    "hide": HIDDEN,
    "mark": REMOVED_MARK,
    "omit": "***OMITTED***",
    "stars": "**********",
}
#: The tables of redaction.toml that list members.
ACTIONS = (*PLACEHOLDERS, "values", "remove", "literals", "show")

_BASE64 = re.compile(r"[A-Za-z0-9+/]{8,}={1,2}|[A-Za-z0-9+/]{16,}")
_WORD = re.compile(r"""[^\s"'<>{}\[\],:;=&()?]{4,}""")
#: Minimum characters of a string to search for in error messages; shorter ones are too frequent.
MIN_SECRET_LENGTH = 4
#: Shorter beginnings and ends of a hidden value are hidden only next to dots or stars.
_MIN_PART_LENGTH = 8
_CUT = ("..", "…", "**")
#: Comparisons of an error message with hidden values; beyond them the message is hidden.
_MAX_COMPARISONS = 20_000


@cache
def actions(source: str) -> dict[str, str]:
    """Returns the table of each member of a service, by its recorded name."""
    table = rules("redaction")
    table_of: dict[str, str] = {}
    for action in ACTIONS:
        for scope in ("*", source):
            table_of.update(dict.fromkeys(table[action].get(scope, ()), action))
    return table_of


def without_literals(text: Any) -> str:
    """Returns a statement of SQL without its strings and numbers."""
    return without_values(text) if isinstance(text, str) else HIDDEN


def redact_message(message: str, parameters: Any, recorded: Any, never: Iterable[str] = ()) -> str:
    """Returns an error message without values of the call that are not recorded.

    Args:
        message: the error message.
        parameters: the original parameters.
        recorded: the recorded parameters.
        never: other strings that must not be recorded, such as signatures.
    """
    try:
        return _redact_message(message[:MAX_MESSAGE_LENGTH], parameters, recorded, never)
    except Exception as error:  # noqa: BLE001 - logged
        return hide_unsearchable(error)


def _redact_message(message: str, parameters: Any, recorded: Any, never: Iterable[str]) -> str:
    hidden = {
        text for text in _texts(parameters) - _texts(recorded) if len(text) >= MIN_SECRET_LENGTH
    }
    if len(hidden) > MAX_HIDDEN_VALUES:
        return HIDDEN
    hidden |= {text for text in never if len(text) >= MIN_SECRET_LENGTH}  # not a placeholder `x`
    forms = _forms_in(message)
    secrets = {form(text) for text in hidden if len(text) <= len(message) for form in forms}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) <= len(message):
            message = message.replace(secret, HIDDEN)
    return redact(_without_parts(message, hidden) if hidden else message)


def _without_parts(message: str, values: Iterable[str]) -> str:
    """Returns an error message without values in any case, and without parts of them."""
    lower, size = _lower(message), MIN_SECRET_LENGTH
    places: dict[str, list[int]] = {}
    for at in range(len(lower) - size + 1):
        places.setdefault(lower[at : at + size], []).append(at)
    hidden, comparisons = bytearray(len(lower)), 0
    for value in map(_lower, values):
        if len(value) < size:
            continue
        heads, tails = places.get(value[:size], ()), places.get(value[-size:], ())
        comparisons += len(heads) + len(tails)
        if comparisons > _MAX_COMPARISONS:
            return HIDDEN
        for at in heads:
            end = at + _common_length(lower[at : at + len(value)], value)
            if end - at >= min(_MIN_PART_LENGTH, len(value)) or lower.startswith(_CUT, end):
                hidden[at:end] = b"x" * (end - at)
        for end in (at + size for at in tails):
            before = lower[max(0, end - len(value)) : end]
            start = end - _common_length(before[::-1], value[::-1])
            if end - start >= _MIN_PART_LENGTH or lower[:start].endswith(_CUT):
                hidden[start:end] = b"x" * (end - start)
    parts, end = [], 0
    for part in re.finditer(rb"x+", hidden):
        parts += [message[end : part.start()], HIDDEN]
        end = part.end()
    return "".join((*parts, message[end:]))


def _common_length(text: str, other: str) -> int:
    """Returns the length of two strings' common prefix."""
    pairs = enumerate(zip(text, other, strict=False))
    return next((at for at, (one, two) in pairs if one != two), min(len(text), len(other)))


def _lower(text: str) -> str:
    """Returns a string in lowercase, with the same number of characters."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower()[:1] for c in text)


def without_words_of(body: bytes, message: str, recorded: str) -> str:
    """Returns an error message without words of an undecodable body.

    Args:
        body: the body; the whole message is hidden if it has more than `MAX_COMPARED_BYTES`.
        message: the error message.
        recorded: recorded text, whose words remain.
    """
    if len(body) > MAX_COMPARED_BYTES:
        return HIDDEN
    raw = body.decode("utf-8", "replace")
    body_text = (f"{raw}\n{unquote_plus(raw)}" if "%" in raw or "+" in raw else raw).lower()

    def word(match: re.Match[str]) -> str:
        text = match.group()
        return HIDDEN if text.lower() in body_text and text not in recorded else text

    return _WORD.sub(word, message[:MAX_MESSAGE_LENGTH])


def _forms_in(message: str) -> list[Callable[[str], str]]:
    """Returns the possible encodings of a string in this message."""
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
    """Returns all strings of a value, and of JSON within them."""
    texts: set[str] = set()
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            texts.add(value)
            if value[:1] in ("{", "["):
                with contextlib.suppress(ValueError, RecursionError):
                    pending.append(json.loads(value))
        elif isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, bytes):
            texts.add(base64.b64encode(value).decode())
            texts.add(value.decode("utf-8", "replace"))
        elif isinstance(value, bool | int):
            texts.add(str(value).lower())  # the forms of EC2 and S3 turn strings into these
    return texts


def without_named_fields(fields: Json) -> Json:
    """Returns the fields of a form without the values of fields named as secrets next to them.

    >>> without_named_fields({"Tag.1.Key": "password", "Tag.1.Value": "x", "Tag.2.Value": "y"})
    {'Tag.1.Key': 'password', 'Tag.1.Value': 'HIDDEN_DUE_TO_SECURITY_REASONS', 'Tag.2.Value': 'y'}
    """
    groups: dict[str, Json] = {}
    for name, value in fields.items():
        before, _, last = str(name).rpartition(".")
        while last.isdigit() or last == "member":  # a value from a list
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
        name: HIDDEN if any(f"{name}.".startswith(f"{field}.") for field in hidden) else value
        for name, value in fields.items()
    }
