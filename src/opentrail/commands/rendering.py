"""Events and answers on a terminal: a table, CSV, one record a line, sentences."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

from opentrail.core.text import printable

#: What makes a spreadsheet read a cell as a formula, also in full width (guarantee N7).
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
#: Where a formula begins: at a cell's own begin, and behind what separates cells in spreadsheets of
#: other languages.
_CELL_BEGIN = re.compile(rf"(^|[;|\t\r\n])(?= *[{re.escape(''.join(_FORMULAS))}])")
_COLUMNS = ("Event time", "User name", "Event name", "Event source", "Resource name", "Error code")
#: Widths that columns keep as long as there is room, then until columns are dropped, then at last;
#: and which columns are dropped first.
_READABLE, _LEAST = (20, 16, 32, 14, 24, 16), (20, 8, 18, 8, 14, 6)
_BAREST = (20, 8, 10, 8, 10, 6)
_EXPENDABLE = (3, 4, 1)
#: Elsewhere than on a terminal nothing is cut; longer cells just do not widen their column.
_WIDEST = 48
#: User, event and source of an event that is shown on a line of its own.
_LINE = (16, 24, 10)
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


_BREAKS = str.maketrans("\r\n\t", "   ")


def print_records(events: Sequence[dict[str, Any]]) -> None:
    """Prints each event's CloudTrail record on a line of its own."""
    for event in events:
        sys.stdout.write(f"{_escaped(event['CloudTrailEvent'])}\n")


def one_line(text: str) -> str:
    r"""Returns JSON on one line: its own breaks stand only where a space may stand, too.

    >>> one_line('{\n  "a": 1\r\n}')
    '{   "a": 1  }'
    """
    return text if text.isprintable() else text.translate(_BREAKS)


def _escaped(text: str) -> str:
    """Returns JSON that says the same with what could steer a terminal written as numbers."""
    text = one_line(text)
    if text.isprintable():
        return text
    return "".join(c if printable(c) == c else json.dumps(c)[1:-1] for c in text)


def print_events(events: Sequence[dict[str, Any]]) -> None:
    """Prints a table: as wide as the terminal, or whole where there is none."""
    rows = [_COLUMNS, *(_row(event) for event in events)]
    on_terminal = sys.stdout.isatty()
    widths, shown = _widths(rows), list(range(len(_COLUMNS)))
    if on_terminal:
        room = shutil.get_terminal_size((120, 24)).columns
        if _over(shown, widths, room) > 0:
            rows = [_with_short_source(row) for row in rows]
        shown, widths = _fitted(_widths(rows), room)
    else:
        widths = [min(width, _WIDEST) for width in widths]
    for row in rows:
        cells = [(row[column], widths[column]) for column in shown]
        fitted = (_cut(cell, width) if on_terminal else cell for cell, width in cells)
        padded = (_padded(cell, width) for cell, (_, width) in zip(fitted, cells, strict=True))
        sys.stdout.write("  ".join(padded).rstrip() + "\n")
    if not events:
        sys.stderr.write("no events found\n")


def print_lines(events: Sequence[dict[str, Any]]) -> None:
    """Prints a line for each event; on a terminal no longer than it is wide."""
    room = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else None
    for event in events:
        moment, *cells, resources, error = _with_short_source(_row(event))
        padded = [_padded(c, width) for c, width in zip(cells, _LINE, strict=True)]
        line = "  ".join([moment, *padded, *(cell for cell in (resources, error) if cell)])
        sys.stdout.write((line if room is None else _cut(line, room)).rstrip() + "\n")


def _widths(rows: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(_width(cell) for cell in column) for column in zip(*rows, strict=True)]


def _over(shown: Sequence[int], widths: Sequence[int], room: int) -> int:
    """Returns by how many characters the columns are too wide, two spaces between them."""
    return sum(widths[column] for column in shown) + 2 * (len(shown) - 1) - room


def _with_short_source(row: tuple[str, ...]) -> tuple[str, ...]:
    return (*row[:3], row[3].removesuffix(".amazonaws.com"), *row[4:])


def _fitted(widths: list[int], room: int) -> tuple[list[int], list[int]]:
    """Returns which columns fit into so many characters, and their widths.

    Resource names give way first, to a readable rest; then whichever column is widest.
    """
    shown = list(range(len(widths)))
    least = [min(pair) for pair in zip(_LEAST, widths, strict=True)]
    for column in _EXPENDABLE:
        if _over(shown, least, room) <= 0:
            break
        shown.remove(column)
    fitted = list(widths)
    for floor in (_READABLE, _LEAST, _BAREST):
        while _over(shown, fitted, room) > 0:
            loose = [column for column in shown if fitted[column] > floor[column]]
            if not loose:
                break
            fitted[max(loose, key=lambda column: fitted[column] - floor[column])] -= 1
    return shown, fitted


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    record = json.loads(event["CloudTrailEvent"])
    cells = (
        record.get("eventTime"),
        event.get("Username"),
        event["EventName"],
        event["EventSource"],
        ", ".join(_short_names(event["Resources"])),
        record.get("errorCode"),
    )
    return tuple(printable(str(cell or "")) for cell in cells)


def _short_names(resources: Sequence[dict[str, Any]]) -> list[str]:
    """Returns names without the ARNs that say the same of the same resource at more length."""
    names = list(dict.fromkeys(str(resource["ResourceName"]) for resource in resources))
    plain = [name for name in names if not name.startswith("arn:")]
    return [name for name in names if name in plain or not _says(name, plain)]


def _says(arn: str, names: Sequence[str]) -> bool:
    return any(arn.endswith((f"/{name.lstrip('/')}", f":{name}")) for name in names)


def _width(text: str) -> int:
    """Returns how many columns text takes: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(_width_of(character) for character in text)


def _width_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _cut(cell: str, width: int) -> str:
    if _width(cell) <= width:
        return cell
    kept, used = "", 0
    for character in cell:
        used += _width_of(character)
        if used > width - 1:
            break
        kept += character
    return f"{kept}…"


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - _width(cell))


# Answers


def print_status(health: dict[str, Any]) -> None:
    """Prints whether a server is well, and everything that it has lost."""
    journal, history = health["journal"], health["history"]
    out = sys.stdout.write
    out(f"{health['status']}\n\n")
    out(f"  version        {health['version']}\n")
    out(f"  journal        position {journal['position']}\n")
    out(f"  event history  position {history['position']}, {history['imported']} imported events\n")
    out(f"  sealed files   {history['files']}\n")
    if journal["failure"]:
        out(f"\n{printable(journal['failure'])}\n")
    if journal["unverified"]:
        out(f"\nNot verified: {printable(journal['unverified'])}\n")
    if not history["responding"]:
        out("\nThe history process does not answer; another one is started soon.\n")
    if health["journal"]["lost"]:
        out("\nLost by the journal:\n")
        _print_list([_lost(one) for one in health["journal"]["lost"]])
    if health["missing"]:
        out("\nMissing from look-ups:\n")
        _print_list(health["missing"])


def _lost(one: dict[str, Any]) -> str:
    last = "unknown" if one["last"] is None else one["last"]
    return f"positions {one['first']} to {last}: {one['reason']}"


def warn_of_missing(answer: dict[str, Any]) -> None:
    """Says on standard error what an answer may lack."""
    for what in answer.get("missing", ()):
        sys.stderr.write(f"opentrail: missing: {printable(what)}\n")


def warn_of_hidden(answer: dict[str, Any]) -> None:
    """Says on standard error which events the defaults hide, and which flag shows them."""
    hidden = answer.get("hidden")
    if hidden:
        more = "" if hidden["complete"] else "at least "
        events = "1 event" if hidden["count"] == 1 else f"{hidden['count']:,} events"
        sys.stderr.write(
            f"opentrail: the defaults hide {more}{events}; shown with {' '.join(hidden['flags'])}\n"
        )


def print_answer(answer: dict[str, Any], asked: str) -> None:
    """Prints who created, changed and deleted a resource, with the evidence."""
    if not answer["sentence"]:
        name, count = printable(asked), answer["events"]
        sys.stdout.write(f"no record tells who created {name} ({count} events name it)\n")
        return
    answers = answer.get("answers") or [{"created": answer}]
    if len(answers) > 1:
        sys.stdout.write(f"{len(answers)} resources are called {printable(asked)}:\n\n")
    for number, one in enumerate(answers):
        sys.stdout.write("\n" if number else "")
        if len(answers) > 1:
            where = (one.get("type"), one.get("account"), one.get("region"))
            sys.stdout.write(printable(" ".join(str(w) for w in where if w)) + "\n\n")
        _print_one(one)


def _print_one(answer: dict[str, Any]) -> None:
    created, changed, deleted = (answer.get(k) for k in ("created", "changed", "deleted"))
    if created:
        _print_deed(created)
    else:
        sys.stdout.write("No record tells who created it.\n")
    if changed:
        times = "once" if changed["times"] == 1 else f"{changed['times']} times, the last time"
        sys.stdout.write(f"\nChanged {times}:\n")
        _print_deed(changed)
    if deleted:
        sys.stdout.write("\nDeleted:\n")
        _print_deed(deleted)
    caller = answer.get("caller") or {}
    if caller and (caller["steps"] or caller["kind"] != "human"):
        sys.stdout.write("\nHow the caller got there:\n")
        told = [*(step["sentence"] for step in caller["steps"]), caller["end"]]
        _print_list(told)
    if answer.get("next"):
        sys.stdout.write("\nWhat the same caller did next:\n")
        _print_list([step["sentence"] for step in answer["next"]])


def _print_deed(deed: dict[str, Any]) -> None:
    sys.stdout.write(f"{printable(deed['sentence'])}.\n\n")
    for name, value in deed["evidence"].items():
        if value is not None:
            sys.stdout.write(f"  {name:<16} {printable(str(value))}\n")


def _print_list(sentences: Sequence[str]) -> None:
    for text in sentences:
        sys.stdout.write(f"  {printable(text[:1].upper() + text[1:])}.\n")


# CSV


def print_csv(events: Sequence[dict[str, Any]], with_header: bool = True) -> None:
    """Prints CSV with the columns of AWS's download; formulas are made harmless (guarantee N7)."""
    writer = csv.writer(sys.stdout)
    if with_header:
        writer.writerow(_CSV)
    for event in events:
        record = json.loads(event["CloudTrailEvent"])
        resources = event["Resources"]
        cells = (
            event["EventName"],
            record.get("eventTime"),
            event.get("Username"),
            event["EventSource"],
            ", ".join(r.get("ResourceType") or "" for r in resources),
            ", ".join(r["ResourceName"] for r in resources),
            record.get("awsRegion"),
            record.get("sourceIPAddress"),
            event.get("AccessKeyId"),
            event["EventId"],
            event["ReadOnly"],
            record.get("errorCode"),
            record.get("requestID"),
        )
        writer.writerow([harmless(str(cell or "")) for cell in cells])


def harmless(cell: str) -> str:
    """Returns a cell that no spreadsheet takes for a formula, and no terminal for an order.

    >>> harmless("=1+1"), harmless("a;=1+1")
    ("'=1+1", "a;'=1+1")
    """
    shown = cell
    if not cell.isprintable():
        shown = "".join(c if c in "\t\r\n" else printable(c) for c in cell)
    return _CELL_BEGIN.sub(r"\1'", shown)
