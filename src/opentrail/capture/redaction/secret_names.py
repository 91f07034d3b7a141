"""Names of members whose values are secrets (cloudtrail-format §4.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from opentrail.core.caching import cached_if_short

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
    r"(secret|token|api[ _-]?key|authorization|pass[_-]?code|passwd|pwd|pswd|credential)s?$"
    r"|(signing|account|shared[_-]?access)[_-]?key$"
    r"|(^|[_.:/-])(pass|passw|pw|psk|pin|otp|cvv|cvc)$|(?-i:[a-z](Pass|Pw|PW))$|^(set-)?cookie$"
    r"|^\*[a-z]\w*$",  # a parameter of AWS Data Pipeline that is not shown
    re.I,
)
#: Names of tokens that are not credentials: of pages, and of repeated calls.
_NO_SECRET = re.compile(
    r"(next|page|pagination|continuation|starting?|client|client[_-]?request|request|idempotency"
    r"|sync|upload|cancellation|reservation)[_-]?tokens?$"
    r"|(max|min|input|output|total|prompt|completion|used|stop)\w*[_-]?tokens$|^http[_-]?tokens$",
    re.I,
)
_MAX_NAME_LENGTH = 200
#: Characters at the end of a name that may show that a token is not a credential.
_MAX_NO_SECRET_LENGTH = 64
#: Endings of members that hold a name, and of those beside them that hold what it names.
_NAMING = re.compile(
    r"(name|key|path|id|identifier|attribute|field|option|property|parameter|variable|header"
    r"|setting|label|tag)$",
    re.I,
)
#: `PendingModifiedValues` of a database holds settings, not what another member names.
_NAMED = re.compile(r"((?<!dified)values?(_?(list|set))?|default|glob|equals)$", re.I)
#: Characters of a name that may decide whether it is one of these.
_MAX_ENDING_LENGTH = 12
#: Parts of a name that is a path, as in a JSON pointer.
_PATH_PARTS = re.compile(r"[/\[\]]+")


def placeholder_for(value: str) -> str:
    """Returns the placeholder in the quotes of the value."""
    mark = value[:1] if value[:1] in "\"'" else ""
    return f"{mark}{HIDDEN}{mark}"


@cached_if_short(_MAX_NAME_LENGTH)
def looks_secret(name: str) -> bool:
    """Returns whether a member is a secret by its name.

    >>> looks_secret("MasterUserPassword"), looks_secret("X-Amz-Security-Token")
    (True, True)
    """
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


@cached_if_short(_MAX_NAME_LENGTH)
def sounds_secret(name: str) -> bool:
    """Returns whether a member of a document without a model is a secret by its name.

    >>> sounds_secret("apiKey"), sounds_secret("token"), sounds_secret("nextToken")
    (True, True, False)
    """
    if looks_secret(name):
        return True
    if not _SECRET_SOUND.search(name):
        return False
    return not _NO_SECRET.search(name[-_MAX_NO_SECRET_LENGTH:])


def naming_members(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Returns the members that hold a name and those that hold its value, None without both.

    >>> naming_members(["ParameterKey", "ParameterValue", "UsePreviousValue"])
    (('ParameterKey',), ('ParameterValue', 'UsePreviousValue'))
    """
    texts = tuple(name for name in names if isinstance(name, str))
    value_members = tuple(name for name in texts if is_value(name))
    if not value_members:
        return None
    naming = tuple(name for name in texts if _is_naming(name[-_MAX_ENDING_LENGTH:]))
    return (naming, value_members) if naming else None


def is_value(member: str) -> bool:
    """Returns whether a member holds a value that a member beside it may name.

    >>> is_value("ParameterValue"), is_value("valueFrom")
    (True, False)
    """
    return _is_named(member[-_MAX_ENDING_LENGTH:])


@lru_cache(4096)
def _is_named(ending: str) -> bool:
    return bool(_NAMED.search(ending))


@lru_cache(4096)
def _is_naming(ending: str) -> bool:
    return bool(_NAMING.search(ending))


def hidden_members(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the members that are secrets because a member beside them names them so.

    >>> hidden_members({"Name": "password", "Value": "hunter2"})
    ('Value',)
    >>> hidden_members({"op": "replace", "path": "/items/0/password", "value": "hunter2"})
    ('value',)
    """
    members = naming_members(values)
    if members is None or not any(means_secret(values[name]) for name in members[0]):
        return ()
    return tuple(name for name in members[1] if not isinstance(values[name], bool | None))


def means_secret(name: Any) -> bool:
    """Returns whether a name that is a value is a secret's, as a whole or by a part of a path.

    >>> means_secret("/db/password"), means_secret("/tokens/0"), means_secret(5)
    (True, True, False)
    """
    if not isinstance(name, str):
        return False
    if sounds_secret(name):
        return True
    return "/" in name and any(sounds_secret(part) for part in _PATH_PARTS.split(name) if part)
