"""What of a value may be recorded: by list, by the model's marks, by name (capture.md §4)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from opentrail.capture.tables import rules

HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"
REMOVED_MARK = "<sensitiveDataRemoved>"

_SECRET_NAME = re.compile(
    r"password|passphrase|secret_?(access_?)?key|secret_?string|secret_?binary|client_?secret"
    r"|private_?key|plain_?text|zip_?file|user_?data|(auth|session|security|access|refresh|bearer"
    r"|identity)_?token$|^credentials$",
    re.I,
)


@cache
def actions(label: str) -> dict[str, str]:
    """Returns what happens to members of a service by recorded name: `remove`, `hide`, `mark`."""
    table = rules("redaction")
    found: dict[str, str] = {}
    for action in ("hide", "remove", "mark"):
        for scope in ("*", label):
            found.update(dict.fromkeys(table[action].get(scope, ()), action))
    return found


def looks_secret(name: str) -> bool:
    """Returns whether a member's name alone says that its value is a secret."""
    return bool(_SECRET_NAME.search(name))


def by_name(value: Any, rename: Callable[[str], str]) -> Any:
    """Returns a value without a model: names changed by `rename`, secrets by name hidden."""
    if isinstance(value, dict):
        return {
            rename(str(name)): HIDDEN if looks_secret(str(name)) else by_name(item, rename)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [by_name(item, rename) for item in value]
    return HIDDEN if isinstance(value, bytes) else value
