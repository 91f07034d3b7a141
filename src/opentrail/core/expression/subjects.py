"""Search expressions for the events of a principal or resource, by its name."""

from __future__ import annotations

import re
from typing import Literal

from opentrail.core.arns import parse_arn
from opentrail.core.expression import literal

#: The kind of thing that a name denotes.
Kind = Literal["principal", "session", "resource"]
_ACCESS_KEY = re.compile(r"A[A-Z]{3}[A-Z0-9]{12,}")
_SESSION = "userIdentity.type=AssumedRole OR userIdentity.type=FederatedUser"
_ISSUER = "userIdentity.sessionContext.sessionIssuer"
#: A name with its type and path, as at the end of an ARN.
_TYPED = re.compile(r"(user|role)/(?:.*/)?([^/]+)")
#: Every kind, and its words.
KINDS: dict[Kind, str] = {
    "principal": "a user or role",
    "session": "a session",
    "resource": "a resource",
}


def events_of(name: str, kind: Kind | None = None) -> str:
    """Returns the expression for the events of a name or an ARN.

    Args:
        name: of a user, a role, a session or a resource, or an ARN or access key id.
        kind: the kind of name; None for any of these.

    >>> events_of("etl", "session")
    'principal="arn:*:sts::*:assumed-role/*/etl"'
    >>> events_of("role/Deploy", "principal")
    '(userIdentity.sessionContext.sessionIssuer.userName="Deploy")'
    """
    find = {"principal": _by_principal, "session": _by_session, "resource": _about_resource}
    kinds = find if kind is None else [kind]
    return " OR ".join(dict.fromkeys(find[each](name) for each in kinds))


def _by_principal(name: str) -> str:
    """Returns the expression for the calls of a principal; a role includes its sessions."""
    value = quoted(name)
    if _ACCESS_KEY.fullmatch(name):
        return f"key={value}"
    if not name.startswith("arn:"):
        typed = _TYPED.fullmatch(name)
        value = quoted(typed[2]) if typed else value
        # A caller who assumes a role chooses the session name; it is not a user.
        expressions = {
            "user": f"user={value} AND NOT ({_SESSION})",
            "role": f"{_ISSUER}.userName={value}",
        }
        return f"({expressions[typed[1]] if typed else ' OR '.join(expressions.values())})"
    return f"{_ISSUER}.arn={value}" if ":role/" in name else f"principal={value}"


def _by_session(name: str) -> str:
    if _ACCESS_KEY.fullmatch(name):
        return f"key={quoted(name)}"
    if name.startswith("arn:"):
        return f"principal={quoted(name)}"
    return f'principal="arn:*:sts::*:assumed-role/*/{_escaped(name)}"'


def _about_resource(name: str) -> str:
    """Returns the expression for the events that name a resource, with or without its ARN."""
    value = quoted(name)
    if not name.startswith("arn:"):
        escaped = _escaped(name)
        return f'(resource={value} OR resource="arn:*/{escaped}" OR resource="arn:*:{escaped}")'
    arn = parse_arn(name)
    if arn is None or not arn.type or not arn.account:
        return f"resource={value}"
    by_name = f"resource={quoted(arn.name)} AND resourceType={quoted(arn.type)}"
    return f"(resource={value} OR ({by_name} AND account={quoted(arn.account)}))"


def quoted(text: str) -> str:
    """Returns text as a value that matches only this text."""
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    """Returns text escaped for use between the quotation marks of an expression."""
    return literal(text).replace('"', '\\"')
