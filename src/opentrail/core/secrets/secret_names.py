"""Names of members whose values are secrets (cloudtrail-format §4.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from opentrail.core.text import cached_if_short

HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"

_SECRET_NAME = re.compile(
    r"password|passphrase|secret[ _.-]?(access[ _.-]?)?key|secret[_-]?string|secret[_-]?binary"
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
#: Further endings, and beginnings, of names chosen by callers: settings, flags and references.
_ABOUT_A_CHOSEN_SECRET = re.compile(
    r"(arn|identifier|version|algorithm|type|mode|length|policy|policies|status|(?<![a-z])state"
    r"|rotation|rotated|required|reset|resets|enabled|disabled|expiry|expires|expiration|expired"
    r"|age|(?<!ac)count|team|owner|manager|provider|complexity|strength|history|reuse"
    r"|last[ _-]?used|changed|(updated|created|rotated|expire[sd]|changed|reset|used)[ _-]?at"
    r"|ref|reference|selector|url|uri|endpoint"
    r"|(?<=[a-z])(Id|Ids|Name)|[_.-](id|ids|name))$"
    r"|^(is|has|needs|requires?|should|can|allows?|enabled?|disabled?|uses?)([_-]|(?-i:(?=[A-Z])))"
    r"|^(create|get|put|update|delete|describe|list|rotate|restore|batch|generate|validate)"
    r"(-|(?-i:(?=Secret)))|(^|[_.-])existing[_-]?secret|^aws:(principal|request|resource)tag/",
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
    r"(secret|token|(api|app)[ _-]?key|authorization|pass[_-]?code|passwd|pwd|pswd|pass(in|out)"
    r"|credential)s?([_-]?(value|\d{1,3}))?$"
    r"|(signing|account|shared[ _-]?access|master|hmac|ssh|deploy|webhook|fernet|application"
    r"|subscription|functions|license)[ _-]?key$"
    r"|(^|[_.:/-])(sec[_-]?key|client[_-]?key([_-]data)?)$|masterauth$"
    r"|(^|[_.:/-])(pass|passw|pw|psk|pin|otp|cvv|cvc|jwt|bearer|dsn|pat|auths|kube[_-]?config([_-]content)?)\d?$"
    r"|(?-i:[a-z](Pass|Pw|PW|Jwt|JWT|Dsn|DSN|Pat|PAT))$|^(set-)?cookie$"
    r"|(?<!com)(?<!by)(?<!tres)(?<!sur)(?<!over)(?<!under)(?<=[a-z])pass$"
    r"|(?-i:encryption_key|ENCRYPTION_KEY)$|^string_?data$|docker_?config_?json$|dockercfg$|x-(amz|goog)-signature$"
    r"|^\*[a-z]\w*$",  # a parameter of AWS Data Pipeline that is hidden
    re.I,
)
#: Names of tokens that are not credentials: page tokens, and tokens of repeated calls.
_NO_SECRET = re.compile(
    r"(next|page|pagination|continuation|starting?|client|client[_-]?request|request|idempotency"
    r"|sync|upload|cancellation|reservation)[_-]?tokens?$"
    r"|(max|min|input|output|total|prompt|completion|used|stop)\w*[_-]?tokens$|^http[_-]?tokens$",
    re.I,
)
_MAX_NAME_LENGTH = 200
#: Characters at the end of a name that may mark a token as no credential.
_MAX_NO_SECRET_LENGTH = 64
#: Endings of members that hold a name, and endings of members next to them that hold its value.
_NAMING = re.compile(
    r"(name|key|path|id|identifier|attribute|field|option|property|parameter|variable|header"
    r"|setting|label|tag)$",
    re.I,
)
#: `PendingModifiedValues` of a database holds settings, not the value of another member.
_NAMED = re.compile(r"((?<!dified)values?(_?(list|set))?|default|glob|equals)$", re.I)
#: Maximum characters that decide about a name.
_MAX_ENDING_LENGTH = 12
#: Parts of a name in the form of a path, as in a JSON pointer.
_PATH_PARTS = re.compile(r"[/\[\]]+")


@cached_if_short(_MAX_NAME_LENGTH)
def looks_secret(name: str) -> bool:
    """Returns whether a member is a secret by its name.

    >>> looks_secret("MasterUserPassword"), looks_secret("X-Amz-Security-Token")
    (True, True)
    """
    return bool(_SECRET_NAME.search(name))


def names_secret(name: str) -> bool:
    """Returns whether a string member of a model is a secret by its name.

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
    is_secret = _SECRET_NAME.search(name) or (
        _SECRET_SOUND.search(name) and not _NO_SECRET.search(name[-_MAX_NO_SECRET_LENGTH:])
    )
    return bool(is_secret) and not _ABOUT_A_CHOSEN_SECRET.search(name)


def naming_members(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Returns the members that hold a name and the members that hold its value, None without both.

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
    """Returns whether a member holds a value that an adjacent member may name.

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
    """Returns the members that an adjacent member names as secrets.

    >>> hidden_members({"Name": "password", "Value": "hunter2"})
    ('Value',)
    >>> hidden_members({"op": "replace", "path": "/items/0/password", "value": "hunter2"})
    ('value',)
    """
    members = naming_members(values)
    hidden = members[1] if members and any(means_secret(values[m]) for m in members[0]) else ()
    if values.get("kind") == "Secret":
        hidden = (*hidden, "data", "stringData")
    elif "SecureString" in (values.get("Type"), values.get("type")):
        hidden = tuple(name for name in values if is_value(str(name)))
    return tuple(m for m in hidden if m in values and not isinstance(values[m], bool | None))


def means_secret(name: Any) -> bool:
    """Returns whether a name in a value is a secret's, as a whole or by a part of a path.

    >>> means_secret("/db/password"), means_secret("/tokens/0"), means_secret(5)
    (True, True, False)
    """
    if not isinstance(name, str):
        return False
    if sounds_secret(name):
        return True
    return "/" in name and any(sounds_secret(part) for part in _PATH_PARTS.split(name) if part)
