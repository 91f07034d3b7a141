"""Decides about events literally by cloudtrail-format §7, and slowly.

Written from the specification alone: it walks the JSON of selectors and records, and shares
nothing with opentrail. For open points of the specification, it follows our choices:

- a record without `readOnly` counts as a write, as in event history;
- a record without `sessionCredentialFromConsole` counts as "false": AWS leaves it out unless true;
- `resources.ARN` applies to resources of the selected type: one of them must match the required
  values, none the excluded ones. `ARNPrefix` (of ListObjects and HeadBucket) stands for `ARN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

POSITIVE = ("Equals", "StartsWith", "EndsWith")
NEGATIVE = ("NotEquals", "NotStartsWith", "NotEndsWith")


def takes(document: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """An event is logged if any selector matches."""
    if any(basic_takes(s, record) for s in document.get("EventSelectors", [])):
        return True
    return any(advanced_takes(s, record) for s in document.get("AdvancedEventSelectors", []))


def category_of(record: Mapping[str, Any]) -> str:
    """Older records have no eventCategory; then managementEvent decides."""
    given = record.get("eventCategory")
    if given:
        return str(given)
    return "Data" if record.get("managementEvent") is False else "Management"


# Basic selectors: category, ReadWriteType and resource must all fit


def basic_takes(selector: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    read = is_true(record.get("readOnly"))
    wanted = selector.get("ReadWriteType", "All")
    if wanted == "ReadOnly" and not read:
        return False
    if wanted == "WriteOnly" and read:
        return False
    if category_of(record) == "Management":
        if not selector.get("IncludeManagementEvents", True):
            return False
        return record.get("eventSource") not in selector.get("ExcludeManagementEventSources", [])
    if category_of(record) == "Data":
        return any(
            resource_type == wanted_resource["Type"] and value_fits(wanted_resource, value, arn)
            for wanted_resource in selector.get("DataResources", [])
            for value in wanted_resource["Values"]
            for resource_type, arn in resources_of(record)
        )
    return False


def value_fits(resource: Mapping[str, Any], value: str, arn: str | None) -> bool:
    behind_partition = value.split(":", 2)[2]
    if behind_partition in ("s3", "s3:::", "lambda", "dynamodb"):
        return True
    if arn is None:
        return False
    if resource["Type"] == "AWS::S3::Object":
        return arn.startswith(value)
    if resource["Type"] == "AWS::DynamoDB::Table":
        return arn == value or arn.startswith(value + "/index/")
    return arn == value


def resources_of(record: Mapping[str, Any]) -> list[tuple[str | None, str | None]]:
    listed = record.get("resources")
    if not isinstance(listed, list):
        return []
    found = []
    for entry in listed:
        entry = entry if isinstance(entry, dict) else {}
        arns = [entry.get(name) for name in ("ARN", "ARNPrefix", "arn")]
        texts = [arn for arn in arns if isinstance(arn, str) and arn]
        found.append((text(entry.get("type")), texts[0] if texts else None))
    return found


# Advanced selectors: all field selectors must match


def advanced_takes(selector: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    return all(
        field_fits(field, values_of(field["Field"], selector, record))
        for field in selector["FieldSelectors"]
    )


def values_of(field: str, selector: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    if field == "eventCategory":
        return [category_of(record)]
    if field in ("readOnly", "sessionCredentialFromConsole"):
        return ["true" if is_true(record.get(field)) else "false"]
    if field == "resources.type":
        return [kind for kind, _ in resources_of(record) if kind is not None]
    if field == "resources.ARN":
        wanted = next(
            f["Equals"] for f in selector["FieldSelectors"] if f["Field"] == "resources.type"
        )
        return [arn for kind, arn in resources_of(record) if kind in wanted and arn is not None]
    if field == "userIdentity.arn":
        identity = record.get("userIdentity")
        value = text(identity.get("arn")) if isinstance(identity, dict) else None
    else:
        value = text(record.get(field))
    return [] if value is None else [value]


def is_true(value: object) -> bool:
    """A boolean, or its string; the number 1 is neither."""
    return value is True or value == "true"


def text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def field_fits(field: Mapping[str, Any], values: list[str]) -> bool:
    """Several operators are AND-ed; values of one are OR-ed, of a negative one none may match."""
    positive = [operator for operator in POSITIVE if operator in field]
    negative = [operator for operator in NEGATIVE if operator in field]
    if positive and not any(
        all(any(fits(operator, value, given) for given in field[operator]) for operator in positive)
        for value in values
    ):
        return False
    return not any(
        fits(operator.removeprefix("Not"), value, given)
        for operator in negative
        for given in field[operator]
        for value in values
    )


def fits(operator: str, value: str, given: str) -> bool:
    if operator == "Equals":
        return value == given
    if operator == "StartsWith":
        return value[: len(given)] == given
    return given == value[len(value) - len(given) :] if len(given) <= len(value) else False
