"""A deliberately plain evaluator of policy documents, independent of the real one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Context = Mapping[str, tuple[str, ...]]
NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotLike": "StringLike",
    "NumericNotEquals": "NumericEquals",
    "NotIpAddress": "IpAddress",
    "ArnNotLike": "ArnLike",
}


def glob(pattern: str, text: str) -> bool:
    """Matches letter by letter: `*` may be nothing or one more letter."""
    fits = {0}
    for char in pattern:
        if char == "*":
            fits = set(range(min(fits), len(text) + 1)) if fits else set()
        else:
            fits = {i + 1 for i in fits if i < len(text) and char in ("?", text[i])}
    return len(text) in fits


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def replaced(pattern: str, context: Context, star: str, mark: str) -> str:
    """Replaces variables; literal wildcards become letters that occur nowhere else."""
    done = ""
    while "${" in pattern and "}" in pattern[pattern.index("${") :]:
        before, _, rest = pattern.partition("${")
        variable, _, pattern = rest.partition("}")
        name, comma, default = variable.partition(",")
        values = context.get(name.strip().lower(), ())
        if variable in ("*", "?", "$"):
            value = variable
        elif len(values) == 1:
            value = values[0]
        elif comma:
            value = default.strip().strip("'")
        else:
            value = "${" + variable + "}"
        done += before + value.replace("*", star).replace("?", mark)
    return done + pattern


def like(pattern: str, text: str, context: Context, variables: bool) -> bool:
    if variables:
        pattern = replaced(pattern, context, "\ue000", "\ue001")
    return glob(pattern, text.replace("*", "\ue000").replace("?", "\ue001")) or (
        "\ue000" not in pattern and "\ue001" not in pattern and glob(pattern, text)
    )


def is_within(address: str, network: str) -> bool:
    start, _, size = network.partition("/")
    bits = "".join(f"{int(part):08b}" for part in address.split("."))
    wanted = "".join(f"{int(part):08b}" for part in start.split("."))
    length = int(size or 32)
    return bits[:length] == wanted[:length]


def value_fits(operator: str, value: str, wanted: str, context: Context, variables: bool) -> bool:
    if operator == "StringEquals":
        if variables:
            wanted = replaced(wanted, context, "*", "?")
        return value == wanted
    if operator == "StringLike":
        return like(wanted, value, context, variables)
    if operator == "ArnLike":
        parts, others = wanted.split(":", 5), value.split(":", 5)
        return all(
            like(part, other, context, variables) for part, other in zip(parts, others, strict=True)
        )
    if operator == "NumericEquals":
        return float(value) == float(wanted)
    if operator == "NumericLessThan":
        return float(value) < float(wanted)
    if operator == "Bool":
        return value.lower() == wanted.lower()
    assert operator == "IpAddress"
    return is_within(value, wanted)


def condition_fits(
    operator: str, key: str, wanted: list[str], context: Context, variables: bool
) -> bool:
    values = context.get(key.lower(), ())
    if operator == "Null":
        return any((want == "true") == (not values) for want in wanted)
    group, _, rest = operator.rpartition(":")
    name = rest.removesuffix("IfExists")
    plain = NEGATED.get(name, name)

    def one(value: str) -> bool:
        found = any(value_fits(plain, value, want, context, variables) for want in wanted)
        return found != (name in NEGATED)

    if group == "ForAllValues":
        return all(one(value) for value in values)
    if group == "ForAnyValue":
        return any(one(value) for value in values)
    if not values:
        return name in NEGATED or rest.endswith("IfExists")
    return len(values) == 1 and one(values[0])


def statement_fits(
    statement: dict[str, Any], action: str, resource: str, context: Context, variables: bool
) -> bool:
    for element, text, is_folded in (("Action", action, True), ("Resource", resource, False)):
        for name in (element, f"Not{element}"):
            if name not in statement:
                continue
            found = False
            for pattern in as_list(statement[name]):
                if is_folded:
                    found = found or glob(pattern.lower(), text.lower())
                else:
                    found = found or like(pattern, text, context, variables)
            if found == name.startswith("Not"):
                return False
    for operator, keys in statement.get("Condition", {}).items():
        for key, wanted in keys.items():
            texts = [str(w).lower() if isinstance(w, bool) else str(w) for w in as_list(wanted)]
            if not condition_fits(operator, key, texts, context, variables):
                return False
    return True


def principal_fits(statement: dict[str, Any], caller: dict[str, str | None]) -> str:
    """Returns `caller`, `account` or nothing."""
    is_negated = "NotPrincipal" in statement
    stated = statement["NotPrincipal" if is_negated else "Principal"]
    names = ["*"] if stated == "*" else as_list(stated.get("AWS", []))
    services = [] if stated == "*" else as_list(stated.get("Service", []))
    account = caller["account"]
    named = (
        "*" in names
        or (caller["arn"] is not None and caller["arn"] in names)
        or (caller["role_arn"] is not None and caller["role_arn"] in names)
        or (caller["service"] is not None and caller["service"] in services)
    )
    if is_negated:
        return "" if named else "caller"
    if named:
        return "caller"
    of_account = account in names or f"arn:aws:iam::{account}:root" in names
    return "account" if of_account else ""


def decide(
    caller: dict[str, str | None],
    action: str,
    resource: str,
    owner: str,
    context: Context,
    identity: list[dict[str, Any]],
    resource_policy: dict[str, Any] | None,
) -> str:
    found = {"identity": False, "caller": False, "account": False}
    is_denied = False
    for document in identity:
        variables = document.get("Version") == "2012-10-17"
        for statement in as_list(document["Statement"]):
            if statement_fits(statement, action, resource, context, variables):
                is_denied = is_denied or statement["Effect"] == "Deny"
                found["identity"] = found["identity"] or statement["Effect"] == "Allow"
    if resource_policy is not None:
        variables = resource_policy.get("Version") == "2012-10-17"
        for statement in as_list(resource_policy["Statement"]):
            grade = principal_fits(statement, caller)
            if grade and statement_fits(statement, action, resource, context, variables):
                is_denied = is_denied or statement["Effect"] == "Deny"
                found[grade] = found[grade] or statement["Effect"] == "Allow"
    if is_denied:
        return "ExplicitDeny"
    if caller["account"] is None:
        is_allowed = found["caller"]
    elif caller["account"] == owner:
        is_allowed = found["identity"] or found["caller"]
    else:
        is_allowed = found["identity"] and (found["caller"] or found["account"])
    return "Allow" if is_allowed else "ImplicitDeny"
