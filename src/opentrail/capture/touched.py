"""The record's `resources`: what a call touched, with ARN and account (capture.md §2.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opentrail.capture.s3_form import touched as s3_touched
from opentrail.capture.tables import data_type
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
    """Returns the `resources` of a call; most services have none."""
    operation = call.operation or ""
    if call.service is not None and call.service.name == "s3":
        return s3_touched(parameters, operation, account)
    if label == "sts":
        role = parameters.get("roleArn")
        return [_listed("AWS::IAM::Role", str(role), account)] if role and answer else []
    if label == "kms":
        return _kms(parameters, answer, region, account)
    find = _ARNS.get(label)
    if find is None:
        return []
    return find(parameters, operation, region, account)


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


def _dynamodb(parameters: Mapping[str, Any], _operation: str, region: str, account: str) -> Listed:
    tables = [parameters.get("tableName")]
    if isinstance(parameters.get("requestItems"), Mapping):
        tables = list(parameters["requestItems"])
    arns = []
    for table in tables:
        if isinstance(table, str) and table:
            own = f"arn:aws:dynamodb:{region}:{account}:table/{table}"
            arns.append(table if table.startswith("arn:") else own)
    return [_listed("AWS::DynamoDB::Table", arn, account) for arn in arns]


def _sqs(parameters: Mapping[str, Any], operation: str, region: str, account: str) -> Listed:
    url = parameters.get("queueUrl")
    if not isinstance(url, str) or not url or not data_type("sqs", operation):
        return []
    parts = url.rstrip("/").split("/")
    owner = parts[-2] if len(parts) > 1 and parts[-2].isdigit() else account
    return [_listed("AWS::SQS::Queue", f"arn:aws:sqs:{region}:{owner}:{parts[-1]}", account)]


def _lambda(parameters: Mapping[str, Any], operation: str, region: str, account: str) -> Listed:
    name = parameters.get("functionName")
    if not isinstance(name, str) or not name or not data_type("lambda", operation):
        return []
    own = f"arn:aws:lambda:{region}:{account}:function:{name}"
    return [_listed("AWS::Lambda::Function", name if name.startswith("arn:") else own, account)]


def _sns(parameters: Mapping[str, Any], operation: str, _region: str, account: str) -> Listed:
    topic = parameters.get("topicArn")
    if not isinstance(topic, str) or not topic or not data_type("sns", operation):
        return []
    return [_listed("AWS::SNS::Topic", topic, account)]


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

_ARNS: dict[str, Callable[[Mapping[str, Any], str, str, str], Listed]] = {
    "dynamodb": _dynamodb,
    "sqs": _sqs,
    "ssm": _ssm,
    "lambda": _lambda,
    "sns": _sns,
}
