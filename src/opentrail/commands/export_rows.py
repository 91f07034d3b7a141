"""An event as a row: the columns that it can be searched by, and its record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from opentrail.commands.rendering import harmless, one_line
from opentrail.core.attributes import attributes_of
from opentrail.core.event import format_time

Row = tuple[Any, ...]


def row_of(event: dict[str, Any]) -> Row:
    """Returns the row of an event in LookupEvents' form, in the order of Parquet's columns."""
    record = event["CloudTrailEvent"]
    found = attributes_of(orjson.loads(record))
    return (
        event["position"],
        event["EventTime"],
        event["EventId"],
        event["EventName"],
        event["EventSource"],
        found.read_only,
        event.get("Username"),
        event.get("AccessKeyId"),
        found.account,
        found.region,
        found.category,
        found.source_ip,
        found.error_code,
        found.principal_arn,
        [resource.get("ResourceType") for resource in event["Resources"]],
        [resource["ResourceName"] for resource in event["Resources"]],
        record,
    )


def csv_cells(event: dict[str, Any]) -> list[str]:
    """Returns the row as cells of CSV, without formulas (guarantee N7)."""
    position, seconds, *values, record = row_of(event)
    moment = format_time(datetime.fromtimestamp(seconds, UTC))
    return [str(position), moment, *(harmless(_text(value)) for value in values), record]


def record_line(event: dict[str, Any]) -> str:
    """Returns the record on one line."""
    return one_line(event["CloudTrailEvent"]) + "\n"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(item or "" for item in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
