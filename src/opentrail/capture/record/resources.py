"""The record's `resources`: the objects of a call (cloudtrail-format §2.6)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parseaddr
from typing import Any

from opentrail.capture.record_rules import data_type, rules
from opentrail.core.partiql import statements_of, table_of
from opentrail.wire.routing import Route

Resources = list[dict[str, str]]


def resources_of(
    route: Route,
    source: str,
    parameters: Mapping[str, Any],
    answer: Mapping[str, Any] | None,
    region: str,
    account: str,
) -> Resources:
    """Returns the `resources` of a call; a data event has at least its type, most calls have none.

    `source` is the part of `eventSource` before `.amazonaws.com`.
    """
    operation = route.operation or ""
    if route.service is not None and route.service.name == "s3":
        return s3_resources(operation, parameters, source, region, account)
    if source == "sts":
        role = parameters.get("roleArn")
        return [_resource_of("AWS::IAM::Role", str(role), account)] if role and answer else []
    if source == "kms":
        return _kms(parameters, answer, region, account)
    if source == "ssm":
        return _ssm(parameters, operation, region, account)
    resource_type = data_type(source, operation)
    if resource_type is None:
        listed = rules("resources")["management"].get(source)
        return _by_table(listed, parameters, region, account) if listed else []
    find = _sqs if source == "sqs" else _by_table
    resources = find(resource_type, parameters, region, account)
    if source == "dynamodb" and not resources:
        tables = filter(None, map(table_of, statements_of(parameters)))
        for name in dict.fromkeys(table for table, _index in tables):
            resources += _by_table(resource_type, {"tableName": name}, region, account)
    if source == "sns":
        resources = [_of_endpoint(resource) for resource in resources]
    return resources or [{"accountId": account, "type": resource_type}]


def _of_endpoint(resource: dict[str, str]) -> dict[str, str]:
    """Returns a resource of SNS; its type depends on whether it is a topic or an endpoint."""
    if ":endpoint/" not in resource["ARN"]:
        return resource
    return {**resource, "type": "AWS::SNS::PlatformEndpoint"}


def _resource_of(resource_type: str, arn: str, account: str) -> dict[str, str]:
    parts = arn.split(":")
    owner = parts[4] if len(parts) > 5 and parts[4] else account
    return {"accountId": owner, "type": resource_type, "ARN": arn}


def _kms(
    parameters: Mapping[str, Any], answer: Mapping[str, Any] | None, region: str, account: str
) -> Resources:
    """Returns the key; behind an alias, the answer names it (187 of 187 real records).

    A created alias is also listed as a key.
    """
    answer = answer or {}
    metadata = answer.get("KeyMetadata")
    keys = (
        answer.get("KeyId"),
        metadata.get("Arn") if isinstance(metadata, Mapping) else None,
        parameters.get("keyId"),
        parameters.get("targetKeyId"),
        parameters.get("destinationKeyId"),
    )
    sources = answer.get("SourceKeyId"), parameters.get("sourceKeyId")  # of ReEncrypt
    arns = []
    for key in (_first_key(sources), _first_key(keys)):
        if key:
            arn = key if key.startswith("arn:") else f"arn:aws:kms:{region}:{account}:key/{key}"
            arns.append(arn)
    resources = [_resource_of("AWS::KMS::Key", arn, account) for arn in dict.fromkeys(arns)]
    alias = parameters.get("aliasName")
    if isinstance(alias, str) and alias:
        resources.insert(
            0, _resource_of("AWS::KMS::Key", f"arn:aws:kms:{region}:{account}:{alias}", account)
        )
    return resources


def _first_key(names: Sequence[Any]) -> str | None:
    """Returns the first name of a key, except aliases."""
    return next(
        (name for name in names if isinstance(name, str) and name and "alias/" not in name), None
    )


def _by_table(
    resource_type: str, parameters: Mapping[str, Any], region: str, account: str
) -> Resources:
    """Returns the resources in parameters, by the table `rules/resources.toml`."""
    rule = rules("resources").get(resource_type, {})
    owner = parameters.get(rule["owner"]) if "owner" in rule else None
    account = owner if isinstance(owner, str) and owner else account
    for path in rule.get("from", ()):
        names = _at(parameters, path.split("."))
        arns = (_arn(rule, name, parameters, region, account) for name in names)
        if resources := [
            _resource_of(resource_type, arn, account) for arn in dict.fromkeys(arns) if arn
        ]:
            return _without_types(resources) if "untyped" in rule else resources
    return []


def _without_types(resources: Resources) -> Resources:
    return [{"accountId": each["accountId"], "ARN": each["ARN"]} for each in resources]


def _arn(
    rule: Mapping[str, Any], name: str, parameters: Mapping[str, Any], region: str, account: str
) -> str | None:
    name = name.partition(rule["until"])[0] if "until" in rule else name
    name = parseaddr(name)[1] if "address" in rule and not name.startswith("arn:") else name
    form = re.fullmatch(rule["form"], name) if "form" in rule else None
    if name.startswith("arn:") and form is None:
        return name
    if not name or "arn" not in rule:
        return None
    texts = {key: value for key, value in parameters.items() if isinstance(value, str)}
    try:
        place = {"name": name, "region": region, "account": account}
        place |= {part: text for part, text in (form.groupdict() if form else {}).items() if text}
        return str(rule["arn"]).format_map({**texts, **place})
    except KeyError:
        return None


def _at(value: Any, path: list[str]) -> Iterator[str]:
    """Yields the strings at a path: `*` is every value of a list or map, `@keys` a map's names."""
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
    for child in following:
        yield from _at(child, rest)


def _sqs(resource_type: str, parameters: Mapping[str, Any], region: str, account: str) -> Resources:
    url = parameters.get("queueUrl")
    if not isinstance(url, str) or not url:
        return []
    parts = url.rstrip("/").split("/")
    owner = parts[-2] if len(parts) > 1 and parts[-2].isdigit() else account
    return [_resource_of(resource_type, f"arn:aws:sqs:{region}:{owner}:{parts[-1]}", account)]


def _ssm(parameters: Mapping[str, Any], operation: str, region: str, account: str) -> Resources:
    """Returns parameters, which have no type (101 real records)."""
    if operation not in _SSM_PARAMETERS:
        return []
    names = parameters.get("names", [parameters.get("name")])
    names = names if isinstance(names, list) else []
    prefix = f"arn:aws:ssm:{region}:{account}:parameter/"
    arns = [
        name if name.startswith("arn:") else prefix + name.lstrip("/")
        for name in names
        if isinstance(name, str) and name
    ]
    return [{"accountId": account, "ARN": arn} for arn in arns]


_SSM_PARAMETERS = frozenset(
    {"DeleteParameter", "DeleteParameters", "GetParameter", "GetParameters", "PutParameter"}
)


def s3_resources(
    operation: str, parameters: Mapping[str, Any], source: str, region: str, account: str
) -> Resources:
    """Returns the `resources` of an S3 call.

    Buckets of S3 Express (`source` is `s3express`) and access points of Object Lambda and outposts
    have special ARNs.
    """
    if source in _ACCESS_POINT_TYPES:
        return _access_point_resources(operation, parameters, source, region, account)
    bucket = parameters.get("bucketName")
    if not bucket or operation == "CreateBucket":
        return []
    object_type, bucket_type = "AWS::S3::Object", "AWS::S3::Bucket"
    arn = f"arn:aws:s3:::{bucket}"
    if source == "s3express":
        object_type, bucket_type = "AWS::S3Express::Object", "AWS::S3Express::DirectoryBucket"
        arn = f"arn:aws:s3express:{region}:{account}:bucket/{bucket}"
    resources: Resources = []
    if data_type(source, operation) is not None:
        if "key" in parameters:
            resources.append({"type": object_type, "ARN": f"{arn}/{parameters['key']}"})
        else:
            prefix = parameters.get("prefix", "")
            prefix = prefix[0] if isinstance(prefix, list) else prefix
            resources.append({"type": object_type, "ARNPrefix": f"{arn}/{prefix}"})
    resources.append({"accountId": account, "type": bucket_type, "ARN": arn})
    return resources


#: Types of access points, by the source whose calls name them in place of a bucket.
_ACCESS_POINT_TYPES = {
    "s3-object-lambda": "AWS::S3ObjectLambda::AccessPoint",
    "s3-outposts": "AWS::S3Outposts::AccessPoint",
}
_ACCESS_POINT = re.compile(
    r"(?P<name>.+)-(?P<owner>[0-9]{12})(?:\.(?P<outpost>op-[0-9a-z]+))?", re.I
)


def _access_point_resources(
    operation: str, parameters: Mapping[str, Any], source: str, region: str, account: str
) -> Resources:
    """Returns the `resources` of a call to an access point of Object Lambda or of an outpost."""
    point_type = _ACCESS_POINT_TYPES[source]
    match = _ACCESS_POINT.fullmatch(str(parameters.get("bucketName", "")))
    data = data_type(source, operation)
    if match is None:
        return [] if data is None else [{"accountId": account, "type": data}]
    owner, outpost = match["owner"], match["outpost"]
    where = f"outpost/{outpost}/" if outpost else ""
    arn = f"arn:aws:{source}:{region}:{owner}:{where}accesspoint/{match['name']}"
    point = {"accountId": owner, "type": point_type, "ARN": arn}
    if data in (None, point_type) or "key" not in parameters:
        return [point]
    return [
        {"accountId": owner, "type": str(data), "ARN": f"{arn}/object/{parameters['key']}"},
        point,
    ]
