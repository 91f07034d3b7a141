"""Events on a terminal: a table, CSV or one record a line."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

#: Unicode categories of control, format and surrogate characters.
_STEERING = ("Cc", "Cf", "Cs")
_COLUMNS = ("Event time", "User name", "Event name", "Event source", "Resource name", "Error code")
_CSV = (
    "Event name",
    "Event time",
    "User name",
    "Event source",
    "Resource type",
    "Resource name",
    "AWS region",
    "Source IP address",
    "AWS access key",
    "Event ID",
    "Read-only",
    "Error code",
    "Request ID",
)


def printable(text: str) -> str:
    r"""Returns text without characters that could steer a terminal or turn its direction (N8).

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return "".join(c if unicodedata.category(c) not in _STEERING else ascii(c)[1:-1] for c in text)


def print_records(events: Sequence[dict[str, Any]]) -> None:
    """Prints each event's CloudTrail record on a line of its own."""
    for event in events:
        sys.stdout.write(f"{_escaped(event['CloudTrailEvent'])}\n")


def _escaped(text: str) -> str:
    """Returns JSON that says the same with what could steer a terminal written as numbers."""
    return "".join(
        c if unicodedata.category(c) not in _STEERING else json.dumps(c)[1:-1] for c in text
    )


def print_events(events: Sequence[dict[str, Any]]) -> None:
    """Prints a table as wide as the terminal."""
    rows = [_row(event) for event in events]
    widths = [max(len(cell) for cell in column) for column in zip(_COLUMNS, *rows, strict=True)]
    room = shutil.get_terminal_size((120, 24)).columns
    over = sum(widths) + 2 * (len(widths) - 1) - room
    if over > 0 and sys.stdout.isatty():
        widths[4] = max(12, widths[4] - over)
    for cells in (_COLUMNS, *rows):
        cut = (_cut(cell, width) for cell, width in zip(cells, widths, strict=True))
        sys.stdout.write("  ".join(cut).rstrip() + "\n")
    if not events:
        sys.stderr.write("no events found\n")


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    record = json.loads(event["CloudTrailEvent"])
    names = [resource["ResourceName"] for resource in event["Resources"]]
    cells = (
        record["eventTime"],
        event.get("Username", ""),
        event["EventName"],
        event["EventSource"],
        ", ".join(names),
        record.get("errorCode", ""),
    )
    return tuple(printable(str(cell)) for cell in cells)


def _cut(cell: str, width: int) -> str:
    return (cell if len(cell) <= width else cell[: width - 1] + "…").ljust(width)


def print_csv(events: Sequence[dict[str, Any]]) -> None:
    """Prints CSV with the columns of AWS's download; formulas are made harmless (N7)."""
    writer = csv.writer(sys.stdout)
    writer.writerow(_CSV)
    for event in events:
        record = json.loads(event["CloudTrailEvent"])
        resources = event["Resources"]
        cells = (
            event["EventName"],
            record["eventTime"],
            event.get("Username", ""),
            event["EventSource"],
            ", ".join(r.get("ResourceType", "") for r in resources),
            ", ".join(r["ResourceName"] for r in resources),
            record.get("awsRegion", ""),
            record.get("sourceIPAddress", ""),
            event.get("AccessKeyId", ""),
            event["EventId"],
            event["ReadOnly"],
            record.get("errorCode", ""),
            record.get("requestID", ""),
        )
        writer.writerow([_harmless(str(cell)) for cell in cells])


def _harmless(cell: str) -> str:
    shown = "".join(c if c in "\t\r\n" else printable(c) for c in cell)
    return f"'{shown}" if shown[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else shown
