"""The record's `resources`: what a call touched, with ARN and account (cloudtrail-format §2.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from email.utils import parseaddr
from typing import Any

from opentrail.capture.record.rules import data_type, rules
from opentrail.capture.record.s3_form import touched as s3_touched
from opentrail.wire.routing import Call

Listed = list[dict[str, str]]


def touched_resources(
    call: Call,
    label: str,
    parameters: Mapping[str, Any],
    answer: Mapping[str, Any] | None,
    region: str,
    account: str,
) -> Listed:
    """Returns the `resources` of a call; a data event has at least its type, most calls nothing."""
    operation = call.operation or ""
    if call.service is not None and call.service.name == "s3":
        return s3_touched(parameters, operation, account, label, region)
    if label == "sts":
        role = parameters.get("roleArn")
        return [_listed("AWS::IAM::Role", str(role), account)] if role and answer else []
    if label == "kms":
        return _kms(parameters, answer, region, account)
    if label == "ssm":
        return _ssm(parameters, operation, region, account)
    kind = data_type(label, operation)
    if kind is None:
        table = "AWS::DynamoDB::Table"
        return _told(table, parameters, region, account) if label == "dynamodb" else []
    find = _sqs if label == "sqs" else _told
    found = find(kind, parameters, region, account)
    if label == "sns":
        found = [_of_endpoint(one) for one in found]
    return found or [{"accountId": account, "type": kind}]


def _of_endpoint(listed: dict[str, str]) -> dict[str, str]:
    """SNS publishes to a topic or to an endpoint; the types differ (cloudtrail-format §2.6)."""
    if ":endpoint/" not in listed["ARN"]:
        return listed
    return {**listed, "type": "AWS::SNS::PlatformEndpoint"}


def _listed(kind: str, arn: str, account: str) -> dict[str, str]:
    parts = arn.split(":")
    owner = parts[4] if len(parts) > 5 and parts[4] else account
    return {"accountId": owner, "type": kind, "ARN": arn}


def _kms(
    parameters: Mapping[str, Any], told: Mapping[str, Any] | None, region: str, account: str
) -> Listed:
    """The key, also behind an alias: the answer names it (187 of 187 real records).

    AWS lists an alias that is made as a key, too.
    """
    answer = told or {}
    metadata = answer.get("KeyMetadata")
    keys = [
        answer.get("KeyId"),
        metadata.get("Arn") if isinstance(metadata, Mapping) else None,
        parameters.get("keyId"),
        parameters.get("targetKeyId"),
    ]
    arns = []
    for key in keys:
        if isinstance(key, str) and key and "alias/" not in key:
            arns.append(
                key if key.startswith("arn:") else f"arn:aws:kms:{region}:{account}:key/{key}"
            )
            break
    listed = [_listed("AWS::KMS::Key", arn, account) for arn in arns]
    alias = parameters.get("aliasName")
    if isinstance(alias, str) and alias:
        listed.insert(
            0, _listed("AWS::KMS::Key", f"arn:aws:kms:{region}:{account}:{alias}", account)
        )
    return listed


def _told(kind: str, parameters: Mapping[str, Any], region: str, account: str) -> Listed:
    """Returns what parameters name by the table `rules/resources.toml`."""
    rule = rules("resources").get(kind, {})
    for path in rule.get("from", ()):
        names = _at(parameters, path.split("."))
        made = (_arn(rule, name, parameters, region, account) for name in names)
        if listed := [_listed(kind, arn, account) for arn in dict.fromkeys(made) if arn]:
            return listed
    return []


def _arn(
    rule: Mapping[str, Any], name: str, parameters: Mapping[str, Any], region: str, account: str
) -> str | None:
    name = name.partition(rule["until"])[0] if "until" in rule else name
    name = parseaddr(name)[1] if "address" in rule and not name.startswith("arn:") else name
    if name.startswith("arn:"):
        return name
    if not name or "arn" not in rule:
        return None
    told = {key: value for key, value in parameters.items() if isinstance(value, str)}
    try:
        own = {"name": name, "region": region, "account": account}
        return str(rule["arn"]).format_map({**told, **own})
    except KeyError:
        return None


def _at(value: Any, path: list[str]) -> Iterator[str]:
    """Yields the texts at a path: `*` is every value of a list or map, `@keys` a map's names."""
    if not path:
        if isinstance(value, str):
            yield value
        return
    step, rest = path[0], path[1:]
    if isinstance(value, Mapping):
        if step == "@keys":
            yield from value
            return
        following = value.values() if step == "*" else [value[step]] if step in value else []
    else:
        following = value if step == "*" and isinstance(value, list) else []
    for one in following:
        yield from _at(one, rest)


def _sqs(kind: str, parameters: Mapping[str, Any], region: str, account: str) -> Listed:
    url = parameters.get("queueUrl")
    if not isinstance(url, str) or not url:
        return []
    parts = url.rstrip("/").split("/")
    owner = parts[-2] if len(parts) > 1 and parts[-2].isdigit() else account
    return [_listed(kind, f"arn:aws:sqs:{region}:{owner}:{parts[-1]}", account)]


def _ssm(parameters: Mapping[str, Any], operation: str, region: str, account: str) -> Listed:
    """Parameters are listed without a type (101 real records)."""
    if operation not in _SSM_PARAMETERS:
        return []
    names = parameters.get("names", [parameters.get("name")])
    names = names if isinstance(names, list) else []
    own = f"arn:aws:ssm:{region}:{account}:parameter/"
    arns = [
        name if name.startswith("arn:") else own + name.lstrip("/")
        for name in names
        if isinstance(name, str) and name
    ]
    return [{"accountId": account, "ARN": arn} for arn in arns]


_SSM_PARAMETERS = frozenset(
    {"DeleteParameter", "DeleteParameters", "GetParameter", "GetParameters", "PutParameter"}
)
