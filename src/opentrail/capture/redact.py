"""What of a value may be recorded: by list, by the model's marks, by name (capture.md §4)."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from opentrail.capture.embedded import within
from opentrail.capture.secret_names import HIDDEN, hidden_member, looks_secret
from opentrail.capture.tables import rules

REMOVED_MARK = "<sensitiveDataRemoved>"

#: Quoted texts, quoted names and numbers of a PartiQL statement.
_LITERAL = re.compile(r"""'[^']*'?|"[^"]*"?|(?<![\w.])\d[\w.]*(?:(?<=[eE])[+-]\d+)?""")
#: Errors are recorded up to a kilobyte; no more of them needs to be looked through.
_LONGEST_MESSAGE = 4_096
#: Shorter texts are not looked for in errors: they would be found in any.
_SHORTEST_SECRET = 4


@cache
def actions(label: str) -> dict[str, str]:
    """Returns the table that each member of a service is listed in, by its recorded name."""
    table = rules("redaction")
    found: dict[str, str] = {}
    for action in ("hide", "remove", "mark", "literals", "show"):
        for scope in ("*", label):
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
        return literal  # double quotes hold names
    if not literal.startswith("'"):
        return HIDDEN
    inner = literal.strip("'")
    end = "'" if len(literal) > 1 and literal.endswith("'") else ""
    return f"'{HIDDEN if inner else ''}{end}"


def scrubbed(message: str, given: Any, shown: Any, never: Iterable[str] = ()) -> str:
    """Returns an error's text without what was given but is not shown, such as a password.

    Args:
        message: the text.
        given: the parameters as they were given.
        shown: the parameters as they are recorded.
        never: other texts that are not to be told, such as signatures.
    """
    message = message[:_LONGEST_MESSAGE]
    kept = set(_texts(shown))
    secrets = {text for text in _texts(given) if len(text) >= _SHORTEST_SECRET} - kept
    secrets |= {text for text in never if text}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) <= len(message):
            message = message.replace(secret, HIDDEN)
    return within(message)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield base64.b64encode(value).decode()
        yield value.decode("utf-8", "replace")
    elif isinstance(value, bool | int):
        yield str(value).lower()  # the forms of EC2 and S3 turn texts into these


def by_name(value: Any, rename: Callable[[str], str]) -> Any:
    """Returns a value without a model: names changed by `rename`, secrets by name hidden."""
    if isinstance(value, dict):
        hidden = hidden_member({str(name): item for name, item in value.items()})
        return {
            rename(str(name)): HIDDEN
            if looks_secret(str(name)) or name == hidden
            else by_name(item, rename)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [by_name(item, rename) for item in value]
    if isinstance(value, str):
        return within(value)
    return HIDDEN if isinstance(value, bytes) else value
