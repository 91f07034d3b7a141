"""Prints events and answers: tables, CSV, JSON lines, sentences."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from opentrail.core.event import flattened
from opentrail.core.text import counted, csv_line, printable

if TYPE_CHECKING:
    from opentrail.questions.who import WhoAnswer
    from opentrail.who.shapes import (
        CredentialChain,
        DocumentResource,
        EventDocument,
        FormerLife,
        ProvenSentence,
        ResourceLife,
        SearchHints,
    )

_COLUMNS = ("Event time", "User name", "Event name", "Event source", "Resource name", "Error code")
#: Minimum widths of the columns.
_MIN_WIDTHS = (20, 8, 18, 8, 14, 6)
#: Columns to leave out on a narrow terminal, in this order.
_EXPENDABLE = (3, 4, 1)
#: Columns to shorten last: time and event name.
_PRECIOUS = (0, 2)
#: Minimum width of a table on a terminal.
_MIN_ROOM = 40
#: Maximum width of a column without a terminal; longer cells are not shortened.
_MAX_WIDTH = 48
#: Widths of user, event name and source in `print_lines`.
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

#: Maximum former resources of a name.
_MAX_FORMER = 3
#: Describes how to name unknown callers.
NAMING = "name access keys by 'opentrail directory add KEY-ID --user NAME'"

#: Level or state → its terminal color: red, yellow, green.
_COLORS = {
    **dict.fromkeys(("problem", "failing", "Failing", "NOT GOOD"), 31),
    **dict.fromkeys(("warning", "degraded"), 33),
    **dict.fromkeys(("ok", "Logging", "good"), 32),
}
#: Maximum Regions that a message names.
_MAX_REGIONS = 3
_BREAKS = str.maketrans("\r\n\t", "   ")


def print_records(events: Sequence[EventDocument]) -> None:
    """Prints each event's CloudTrail record on one line."""
    for event in events:
        sys.stdout.write(f"{_escape(event['CloudTrailEvent'])}\n")


def print_json(value: object, indent: int | None = None) -> None:
    """Prints a value as JSON, on one line without `indent`."""
    sys.stdout.write(json_text(value, indent) + "\n")


def json_text(value: object, indent: int | None = None) -> str:
    """Returns a value as JSON without control characters, on one line without `indent`."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return "\n".join(map(_escape, text.split("\n") if indent else [text]))


def one_line(text: str) -> str:
    r"""Returns JSON on one line; its line breaks are whitespace, never inside strings.

    >>> one_line('{\n  "a": 1\r\n}')
    '{   "a": 1  }'
    """
    return text if text.isprintable() else text.translate(_BREAKS)


def _escape(text: str) -> str:
    """Returns equal JSON with control characters escaped."""
    text = one_line(text)
    if text.isprintable():
        return text
    return "".join(c if printable(c) == c else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    escape = json.dumps(character)[1:-1]
    return escape if escape != character else f"\\u{ord(character):04x}"  # DEL is ASCII


def print_events(events: Sequence[EventDocument]) -> None:
    """Prints a table, as wide as the terminal, or complete without a terminal."""
    rows = [_row(event) for event in events]
    if sys.stdout.isatty():
        _print_to_fit(rows)
    else:
        widths = [
            min(max(map(cell_len, column)), _MAX_WIDTH)
            for column in zip(_COLUMNS, *rows, strict=True)
        ]
        for row in (_COLUMNS, *rows):
            padded = map(_pad, row, widths)
            sys.stdout.write("  ".join(padded).rstrip() + "\n")
    if not events:
        sys.stderr.write("no events found\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table whose columns are as wide as their longest cell."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    for row in (columns, *cells):
        sys.stdout.write("  ".join(map(_pad, row, widths)).rstrip() + "\n")


def print_findings(findings: Sequence[tuple[str, str, str]]) -> None:
    """Prints level, subject and text of each finding; the level has a color on a terminal."""
    width = max((len(subject) for _, subject, _ in findings), default=0)
    for level, subject, text in findings:
        sys.stdout.write(
            f"{color_text(f'{level:<7}', level)}  {subject:<{width}}  {printable(text)}\n"
        )


def color_text(text: str, level: str) -> str:
    """Returns text in the color of a level, if standard output is a terminal with colors."""
    color = _COLORS.get(level)
    is_plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    if color is None or is_plain or not sys.stdout.isatty():
        return text
    return f"\x1b[{color}m{text}\x1b[0m"


def print_fields(fields: Mapping[str, str | None]) -> None:
    """Prints names with their values, except None."""
    present = {name: value for name, value in fields.items() if value is not None}
    width = max(map(len, present), default=0)
    for name, value in present.items():
        sys.stdout.write(f"  {name:<{width}}  {printable(value)}\n")


def _print_to_fit(rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console  # takes 50 ms, which would delay the start of a server
    from rich.table import Table
    from rich.text import Text

    def cell(text: str) -> Text:
        return Text(text, no_wrap=True, overflow="ellipsis")

    room = shutil.get_terminal_size((120, 24)).columns
    widths = [max(map(cell_len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) > room:
        rows = [_with_short_source(row) for row in rows]
    visible = list(range(len(_COLUMNS)))
    for column in _EXPENDABLE:
        if sum(min(_MIN_WIDTHS[n], widths[n]) + 2 for n in visible) > room:
            visible.remove(column)
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="")
    for column in visible:
        table.add_column(cell(_COLUMNS[column]), no_wrap=column in _PRECIOUS)
    for row in rows:
        table.add_row(*(cell(row[column]) for column in visible))
    console = Console(width=max(room, _MIN_ROOM), color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def print_lines(events: Sequence[EventDocument]) -> None:
    """Prints a line for each event, shortened to the width of a terminal."""
    room = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else None
    for event in events:
        moment, *cells, resources, error = _with_short_source(_row(event))
        padded = map(_pad, cells, _LINE)
        line = "  ".join([moment, *padded, *(cell for cell in (resources, error) if cell)])
        if room is not None and cell_len(line) > room:
            line = f"{set_cell_size(line, room - 1)}…"
        sys.stdout.write(line.rstrip() + "\n")


def _pad(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))


def _with_short_source(row: tuple[str, ...]) -> tuple[str, ...]:
    return (*row[:3], row[3].removesuffix(".amazonaws.com"), *row[4:])


def _row(event: EventDocument) -> tuple[str, ...]:
    record = flattened(json.loads(event["CloudTrailEvent"]))
    cells = (
        record.get("eventTime"),
        event.get("Username"),
        event["EventName"],
        event["EventSource"],
        ", ".join(_short_names(event["Resources"])),
        record.get("errorCode"),
    )
    return tuple(printable(str(cell or "")) for cell in cells)


def _short_names(resources: Sequence[DocumentResource]) -> list[str]:
    """Returns names without the ARNs of already named resources."""
    names = list(dict.fromkeys(str(resource["ResourceName"]) for resource in resources))
    plain = [name for name in names if not name.startswith("arn:")]
    return [name for name in names if name in plain or not _names_one_of(name, plain)]


def _engine(journal: dict[str, Any]) -> str:
    if journal.get("engine") != "postgresql":
        return ""
    state = "on" if journal["quorumCommit"] else "off: a commit is on one machine only"
    return f", on PostgreSQL, quorum commit {state}"


def _print_servers(cluster: dict[str, Any] | None) -> None:
    if cluster:
        sys.stdout.write("\nServers that share journal and trails:\n")
        print_fields({_address(server): _server_state(server) for server in cluster["servers"]})


def _address(server: dict[str, Any]) -> str:
    return printable(server["endpoint"] or "a server that starts")


def _server_state(server: dict[str, Any]) -> str:
    state = f"lost, last seen {server['seen']}" if server["isLost"] else "running"
    role = "" if server["role"] == "all" else f", {server['role']}"
    task = ", delivers trails" if server["isWorker"] else ""
    return f"{state}, version {printable(server['version'])}{role}{task}"


def _names_one_of(arn: str, names: Sequence[str]) -> bool:
    return any(arn.endswith((f"/{name.lstrip('/')}", f":{name}")) for name in names)


# Answers


def print_status(status: dict[str, Any]) -> None:
    """Prints the state of a server, its trails, and its losses."""
    journal, history, disk = status["journal"], status["history"], status["disk"]
    newest = status["newestEvent"]
    out = sys.stdout.write
    out(f"{color_text(status['status'], status['status'])}\n\n")
    print_fields(
        {
            "version": status["version"],
            "running since": status["started"],
            "upstream": ", ".join(
                url if service == "*" else f"{service}={url}"
                for service, url in status["upstreams"].items()
            ),
            "newest event": newest or "none yet",
            "visible after": _visible(status["visibleSeconds"]),
            "journal": f"position {journal['position']}{_engine(journal)}",
            "event history": _history(history),
            "disk": f"{_gigabytes(disk['used'])} used, {_gigabytes(disk['free'])} free,"
            f" {disk['path']}",
            "records take": _parts(disk),
            "records grow by": _growth(disk),
            "last problem": _problem(status["lastProblem"]),
        }
    )
    _print_left_out(status.get("leftOut") or ())
    if status["trails"]:
        out("\nTrails:\n")
        print_fields({trail["name"]: _trail_state(trail) for trail in status["trails"]})
    _print_servers(status.get("cluster"))
    if failure := status.get("controlStore", {}).get("failure"):
        out(f"\nTrails, keys and policies are not known: {printable(failure)}\n")
    trails = [f"{row['trail']}: {row['problem']}" for row in status.get("trailProblems", ())]
    for about, problems in (
        ("the data directory", status.get("dataProblems")),
        ("signing keys", status.get("keyProblems")),
        ("trails", trails),
        ("other parts", status.get("serviceProblems")),
    ):
        if problems:
            out(f"\nProblems of {about}:\n")
            _print_list(problems)
    if journal["failure"]:
        out(f"\n{printable(journal['failure'])}\n")
    if journal["unverified"]:
        out(f"\nNot verified: {printable(journal['unverified'])}\n")
    if history and not history["responding"]:
        reason = printable(history.get("failure") or "it restarts soon")
        out(f"\nThe history process does not answer: {reason}\n")
    if journal["lost"]:
        out("\nLost by the journal:\n")
        _print_list([_describe_loss(loss) for loss in journal["lost"]])
    if status["missing"]:
        out("\nMissing from lookups:\n")
        _print_list(status["missing"])


def _print_left_out(rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        sys.stdout.write("\nCalls that --record left out since the start:\n")
        print_fields(
            {f"{row['eventName']} of {row['eventSource']}": f"{row['calls']:,}" for row in rows}
        )


def _history(history: dict[str, Any] | None) -> str:
    if history is None:
        return "none: this server has the role recorder"
    return (
        f"position {history['position']}, {history['files']} sealed files, "
        f"{history['imported']} imported events"
    )


def _parts(disk: dict[str, Any]) -> str:
    names = {"journal": "journal", "history": "event history", "spilledBodies": "spilled bodies"}
    names["other"] = "the rest"
    return ", ".join(f"{names[part]} {_gigabytes(disk['parts'][part])}" for part in names)


def _growth(disk: dict[str, Any]) -> str | None:
    """Returns the bytes per day by category, and the days until the disk is full."""
    rates = [
        f"{printable(name)} {_gigabytes(size)}"
        for name, size in sorted(disk["bytesPerDay"].items())
    ]
    if not rates:
        return None
    days = disk["daysLeft"]
    lasts = "the disk has room for them" if days is None else f"the disk is full in {days:,} days"
    return f"{', '.join(rates)} a day; {lasts}"


def _visible(seconds: dict[str, float | None]) -> str | None:
    values = [f"{name} {value:g} s" for name, value in seconds.items() if value is not None]
    return f"{', '.join(values)} (last minute)" if values else None


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"


def _problem(line: dict[str, Any] | None) -> str:
    if line is None:
        return "none since the start"
    error = f": {line['error']}" if "error" in line else ""
    return f"{line['time']} {line['message']}{error}"


def _trail_state(trail: dict[str, Any]) -> str:
    latest = trail["latestDelivery"]
    delivered = f", last log file {latest}" if latest else ""
    reason = f": {trail['reason']}" if trail["reason"] else ""
    return f"{trail['status']}{delivered}{reason}"


def _describe_loss(loss: dict[str, Any]) -> str:
    last = "unknown" if loss["last"] is None else loss["last"]
    return f"positions {loss['first']} to {last}: {loss['reason']}"


def warn_of_missing(answer: Mapping[str, Any]) -> None:
    """Prints on standard error the ranges missing from an answer."""
    for what in answer.get("missing", ()):
        sys.stderr.write(f"opentrail: missing: {printable(what)}\n")


def warn_of_truncated(answer: SearchHints) -> None:
    """Prints on standard error that older events are missing from an answer."""
    if answer.get("truncated"):
        sys.stderr.write(
            "opentrail: older events are left out: the records are too large for one answer;"
            " narrow the search, or use 'opentrail export'\n"
        )


def warn_of_hidden(answer: SearchHints) -> None:
    """Prints on standard error the number of hidden events, and the flags that show them."""
    hidden = answer.get("hidden")
    if hidden:
        more = "" if hidden["complete"] else "at least "
        events = f"{more}{counted(hidden['count'], 'event')}"
        regions = hidden["regions"]
        where = f" in {', '.join(regions)}" if 0 < len(regions) <= _MAX_REGIONS else ""
        flags = " ".join(hidden["flags"])
        sys.stderr.write(f"opentrail: the defaults hide {events}{where}; shown with {flags}\n")


def warn_of_nearest(answer: Mapping[str, Any]) -> None:
    """Prints on standard error the values that replace, or are similar to, the searched ones."""
    for item in answer.get("corrected", ()):
        value, nearest = printable(item["value"]), printable(item["nearest"])
        sys.stderr.write(f"opentrail: no {item['label']} is {value}; shown is {nearest}\n")
    for item in answer.get("nearest", ()):
        value, nearest = printable(item["value"]), printable(item["nearest"])
        question = f"did you mean {nearest} ({counted(item['events'], 'event')})?"
        sys.stderr.write(f"opentrail: no {item['label']} is {value}; {question}\n")


def warn_of_parts(answer: SearchHints) -> None:
    """Prints on standard error the number of events with the words as parts of words."""
    if parts := answer.get("parts"):
        number = counted(parts["events"], "more event")
        number = number if parts["complete"] else f"at least {number}"
        words = " ".join(f"text:{_quoted(word)}" for word in parts["words"])
        members = ", ".join(f"{item['value']} ({item['count']:,})" for item in parts["members"])
        has = "has" if parts["events"] == 1 else "have"
        text = f"{number} {has} it within words, in {members}; {words} finds parts of words"
        sys.stderr.write(f"opentrail: {printable(text)}\n")


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return word if word.isalnum() else f'"{escaped}"'


def warn_of_types(answer: WhoAnswer, wanted: str) -> None:
    """Prints on standard error the types of a name's resources, if none has the wanted type."""
    if types := answer.get("types"):
        name, kind = printable(answer["resource"]), printable(wanted)
        question = f"did you mean --type {' or '.join(map(_quoted, types))}?"
        sys.stderr.write(f"opentrail: no {kind} is named {name}; {question}\n")


def print_naming_hint() -> None:
    """Prints on standard error how to name unknown callers."""
    sys.stderr.write(f"some callers are unknown to the server; {NAMING}\n")


def print_answer(answer: WhoAnswer, name: str) -> None:
    """Prints who created, changed and deleted a resource, with evidence."""
    if not answer["sentence"]:
        count = answer["events"]
        events = "1 event names it" if count == 1 else f"{count:,} events name it"
        sys.stdout.write(f"no record shows who created {printable(name)} ({events})\n")
        return
    answers = answer["answers"]
    if len(answers) > 1:
        sys.stdout.write(f"{len(answers)} resources are called {printable(name)}:\n\n")
    for number, details in enumerate(answers):
        sys.stdout.write("\n" if number else "")
        if len(answers) > 1:
            where = (details["type"], details["account"], details["region"])
            sys.stdout.write(printable(" ".join(str(w) for w in where if w)) + "\n\n")
        _print_details(details)


def _print_details(answer: ResourceLife) -> None:
    created, changed, deleted = answer["created"], answer["changed"], answer["deleted"]
    if created:
        _print_change(created)
        if not created["certain"]:
            sys.stdout.write("\nNo earlier event names it.\n")
    else:
        sys.stdout.write("No record shows who created it.\n")
    for renamed in answer["renamed"]:
        if not changed or renamed["evidence"] != changed["evidence"]:
            sys.stdout.write("\nRenamed:\n")
            _print_change(renamed)
    if changed:
        times = "once" if changed["times"] == 1 else f"{changed['times']:,} times, the last time"
        times = times if changed["complete"] else f"at least {times}"
        sys.stdout.write(f"\nChanged {times}:\n")
        _print_change(changed)
    if deleted:
        sys.stdout.write("\nDeleted:\n")
        _print_change(deleted)
    _print_former(answer["former"])
    caller = answer["caller"]
    if caller["steps"] or caller["kind"] != "human":
        sys.stdout.write("\nHow the caller got there:\n")
        _print_list([*(step["sentence"] for step in caller["steps"]), caller["end"]])
    _print_list(_session_words(caller))
    if answer["next"]:
        sys.stdout.write("\nWhat the same caller did next:\n")
        _print_list([step["sentence"] for step in answer["next"]])


def _print_former(lives: Sequence[FormerLife]) -> None:
    """Prints the former resources of a name, the latest first."""
    if lives:
        sys.stdout.write("\nFormer resources of this name:\n")
    for life in lives[:_MAX_FORMER]:
        ends = [life["created"], *life["renamed"], life["deleted"]]
        _print_list([end["sentence"] for end in ends if end])
    if (more := len(lives) - _MAX_FORMER) > 0:
        sys.stdout.write(f"  And {more} more; --json shows them.\n")


def _session_words(caller: CredentialChain) -> list[str]:
    """Describes the source identity and tags of a caller's sessions."""
    words = []
    if identity := caller["sourceIdentity"]:
        words.append(f"the sessions carry the source identity {identity}")
    if tags := caller["sessionTags"]:
        listed = ", ".join(f"{key}={value}" for key, value in tags.items())
        words.append(f"the sessions carry the tags {listed}")
    return words


def _print_change(change: ProvenSentence) -> None:
    sys.stdout.write(f"{printable(change['sentence'])}.\n\n")
    for name, value in change["evidence"].items():
        if value is not None:
            sys.stdout.write(f"  {name:<16} {printable(str(value))}\n")


def _print_list(sentences: Sequence[str]) -> None:
    for text in sentences:
        sys.stdout.write(f"  {printable(text[:1].upper() + text[1:])}.\n")


# CSV


def print_csv(events: Sequence[EventDocument], with_header: bool = True) -> None:
    """Prints CSV with the columns of AWS's download and without formulas (guarantee N7)."""
    if with_header:
        sys.stdout.write(csv_line(_CSV))
    for event in events:
        record = flattened(json.loads(event["CloudTrailEvent"]))
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
        sys.stdout.write(csv_line(cell or "" for cell in cells))
