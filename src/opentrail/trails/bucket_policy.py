"""Whether a bucket's policy lets CloudTrail deliver (cloudtrail-format §5.4)."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_SERVICE = "cloudtrail.amazonaws.com"
_ACL = "bucket-owner-full-control"


@dataclass(frozen=True, slots=True)
class _Permission:
    """A permission that CloudTrail needs."""

    action: str
    resource: str
    context: Mapping[str, str]


def allows_delivery(
    policy: str | None, bucket: str, folder: str, trail_arn: str, kms_key: str = ""
) -> bool:
    """Returns whether a policy lets CloudTrail read the bucket's ACL and write into a folder.

    Args:
        policy: the policy document, if the bucket has one.
        bucket: the bucket's name.
        folder: the prefix of all keys that the trail writes, ending with a slash.
        trail_arn: the trail, for conditions on `aws:SourceArn` and `aws:SourceAccount`.
        kms_key: ARN of the key that the trail's files are encrypted with, if there is one.
    """
    if policy is None:
        return False
    try:
        document = json.loads(policy)
    except ValueError:
        return False
    if not isinstance(document, dict):
        return False
    content = document.get("Statement", [])
    content = content if isinstance(content, list) else [content]
    statements = [statement for statement in content if isinstance(statement, dict)]
    source = {"aws:sourcearn": trail_arn, "aws:sourceaccount": trail_arn.split(":")[4]}
    arn = f"arn:{trail_arn.split(':')[1]}:s3:::{bucket}"
    context = {**source, "s3:x-amz-acl": _ACL}
    if kms_key:
        context["s3:x-amz-server-side-encryption"] = "aws:kms"
        context["s3:x-amz-server-side-encryption-aws-kms-key-id"] = kms_key
    return all(
        _is_allowed(statements, needed)
        for needed in (
            _Permission("s3:getbucketacl", arn, source),
            # For objects of any name, hence a name that only the pattern `*` matches.
            _Permission("s3:putobject", f"{arn}/{folder}\0", context),
        )
    )


def _is_allowed(statements: Iterable[Mapping[str, Any]], needed: _Permission) -> bool:
    fitting = [str(s.get("Effect")) for s in statements if _fits(s, needed)]
    return "Allow" in fitting and "Deny" not in fitting


def _fits(statement: Mapping[str, Any], needed: _Permission) -> bool:
    return (
        _has_service(statement)
        and _matches(statement, "Action", needed.action, fold=True)
        and _matches(statement, "Resource", needed.resource)
        and _conditions_hold(statement.get("Condition") or {}, needed.context)
    )


def _has_service(statement: Mapping[str, Any]) -> bool:
    if "NotPrincipal" in statement:
        return False
    principal = statement.get("Principal")
    if principal == "*":
        return True
    if not isinstance(principal, dict):
        return False
    return _SERVICE in _strings(principal.get("Service")) or "*" in _strings(principal.get("AWS"))


def _matches(statement: Mapping[str, Any], member: str, value: str, fold: bool = False) -> bool:
    excluded = statement.get(f"Not{member}")
    patterns = _strings(statement.get(member) if excluded is None else excluded)
    if fold:
        patterns = [pattern.lower() for pattern in patterns]
    return any(_like(pattern, value) for pattern in patterns) == (excluded is None)


def _conditions_hold(conditions: Any, context: Mapping[str, str]) -> bool:
    """Returns whether all conditions hold; one that is not known here does not (guarantee Z2)."""
    if not isinstance(conditions, dict):
        return False
    for operator, operands in conditions.items():
        if not isinstance(operands, dict):
            return False
        for key, values in operands.items():
            if not _holds(operator.lower(), context.get(key.lower()), _strings(values)):
                return False
    return True


def _holds(operator: str, value: str | None, expected: list[str]) -> bool:
    if operator.endswith("ifexists"):
        operator = operator.removesuffix("ifexists")
        if value is None:
            return True
    negated = operator in ("stringnotequals", "stringnotlike", "arnnotequals", "arnnotlike")
    if negated:
        operator = operator.replace("not", "")
    if value is None:
        return negated
    if operator == "stringequals":
        return (value in expected) != negated
    if operator == "stringequalsignorecase":
        return value.lower() in [text.lower() for text in expected]
    if operator in ("stringlike", "arnlike", "arnequals"):
        return any(_like(pattern, value) for pattern in expected) != negated
    return False


def _like(pattern: str, text: str) -> bool:
    # fnmatch has sets of characters, which policies do not have.
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def _strings(value: Any) -> list[str]:
    return (
        [str(item) for item in value]
        if isinstance(value, list)
        else []
        if value is None
        else [str(value)]
    )
