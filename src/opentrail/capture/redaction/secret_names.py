"""Names of members whose values are secrets (cloudtrail-format §4.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"

_SECRET_NAME = re.compile(
    r"password|passphrase|secret[_.-]?(access[_.-]?)?key|secret[_-]?string|secret[_-]?binary"
    r"|(client|shared)[_.-]?secret|private[_.-]?key|plain[_-]?text|zip[_-]?file|user[_-]?data"
    r"|(auth|session|security|access|refresh|bearer|identity|jwt|secret|authorization|participant"
    r"|connection|(?-i:(?:^|[_.-])(?:id|api)|Id|ID|Api|API))[_.-]?tokens?$"
    r"|auth[_-]?key$|pre[_-]?shared[_-]?keys?$"
    r"|platform[_-]?credential$|^credentials$",
    re.I,
)
#: Endings of names that describe a secret without holding it.
_ABOUT_A_SECRET = re.compile(
    r"(arn|id|identifier|name|version|algorithm|type|mode|source|link|param|xpath|json_?key"
    r"|string_?key|format|policy|status|state|length)s?$",
    re.I,
)
#: Names of environment variables as a whole.
_ENVIRONMENT = re.compile(
    r"(^|_)env(_?var(iable)?s?)?$|environment_?variables?(_?override)?$|^environment(_?override)?$"
    r"|^(override|optimization)_?environment$",
    re.I,
)
#: Further names of secrets in documents without a model.
_SECRET_SOUND = re.compile(
    r"(secret|token|api[_-]?key|authorization|pass[_-]?code|passwd|pwd)s?$"
    r"|(^|[_.:-])(pass|pin|otp|cvv|cvc)$|^(set-)?cookie$",
    re.I,
)
#: Names of tokens that are not credentials: of pages, and of repeated calls.
_NO_SECRET = re.compile(
    r"(next|page|pagination|continuation|starting?|client|client[_-]?request|request|idempotency"
    r"|sync|upload|cancellation|reservation)[_-]?tokens?$"
    r"|(max|min|input|output|total|prompt|completion|used|stop)\w*[_-]?tokens$|^http[_-]?tokens$",
    re.I,
)
_LONGEST_NAME = 200
#: Members that hold a name, and those beside it that hold what it names, in lower case.
_NAMING = frozenset(
    {"name", "key", "parametername", "parameterkey", "optionname", "variablename", "attributename"}
)
_NAMED = frozenset({"value", "values", "parametervalue", "stringvalue", "optionvalue"})


def looks_secret(name: str) -> bool:
    """Returns whether a member is a secret by its name.

    >>> looks_secret("MasterUserPassword"), looks_secret("X-Amz-Security-Token")
    (True, True)
    """
    return _looks_secret(name) if len(name) <= _LONGEST_NAME else bool(_SECRET_NAME.search(name))


@lru_cache(4096)
def _looks_secret(name: str) -> bool:
    return bool(_SECRET_NAME.search(name))


def names_secret(name: str) -> bool:
    """Returns whether a text member of a model is a secret by its name.

    >>> names_secret("MasterUserPassword"), names_secret("MasterPasswordSecretArn")
    (True, False)
    """
    return looks_secret(name) and not _ABOUT_A_SECRET.search(name)


def names_environment(name: str) -> bool:
    """Returns whether a member holds environment variables by its name.

    >>> names_environment("environmentVariablesOverride"), names_environment("environmentId")
    (True, False)
    """
    return bool(_ENVIRONMENT.search(name))


def sounds_secret(name: str) -> bool:
    """Returns whether a member of a document without a model is a secret by its name.

    >>> sounds_secret("apiKey"), sounds_secret("token"), sounds_secret("nextToken")
    (True, True, False)
    """
    known = _sounds_secret if len(name) <= _LONGEST_NAME else _sounds_secret.__wrapped__
    return known(name)


@lru_cache(4096)
def _sounds_secret(name: str) -> bool:
    if looks_secret(name):
        return True
    return bool(_SECRET_SOUND.search(name)) and not _NO_SECRET.search(name)


def naming_members(names: Mapping[str, Any]) -> tuple[str, str] | None:
    """Returns the members that hold a name and its value, if there are two.

    >>> naming_members({"ParameterKey": "DBPassword", "ParameterValue": "hunter2"})
    ('ParameterKey', 'ParameterValue')
    """
    naming = next((name for name in names if name.lower() in _NAMING), None)
    named = next((name for name in names if name.lower() in _NAMED), None)
    return None if naming is None or named is None else (naming, named)


def hidden_member(given: Mapping[str, Any]) -> str | None:
    """Returns the member that is a secret because another member names it so, else None.

    >>> hidden_member({"Name": "password", "Value": "hunter2"})
    'Value'
    """
    members = naming_members(given)
    if members is None or not isinstance(given[members[0]], str):
        return None
    return members[1] if sounds_secret(given[members[0]]) else None
