"""`opentrail insights`: a list of incidents, and one incident with a chart and its calls."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from opentrail.commands.arguments import SINCE_HELP, account_id, add_client
from opentrail.commands.asked import answer_to
from opentrail.commands.client import ask, find
from opentrail.commands.progress import call_progress
from opentrail.commands.rendering import (
    print_events,
    print_json,
    print_records,
    warn_of_missing,
    warn_of_truncated,
)
from opentrail.core.errors import NothingToDecide, OpentrailError, UsageError
from opentrail.core.event import MANAGEMENT
from opentrail.core.insight_types import ACCESS_DENIED, BURST_TYPES, DENIED
from opentrail.core.text import counted, printable

if TYPE_CHECKING:
    from opentrail.questions.insights import IncidentList
    from opentrail.who.shapes import FoundEvents, IncidentDetail, IncidentRow

_ACTIONS = ("list", "show", "expected", "scan", "status")
#: Characters of an id that the list shows.
_SHORT_ID = 8
_STATES = {
    "off": "off: needs --insights on, or a trail with insight selectors",
    "elsewhere": "another server of the cluster watches",
    "starting": "starting",
    "learning": "learning: {daysLearned} of {daysToLearn} days of event history",
    "watching": "watching",
}
_BARS = "▁▂▃▄▅▆▇█"
_CHART_LINES = 8
#: Timeout of a scan.
_SCAN_SECONDS = 24 * 3600.0
_MAX_EVENTS = "10000"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("action", nargs="?", choices=_ACTIONS, default="list", help=", ".join(_ACTIONS))
    add(
        "id",
        nargs="?",
        metavar="ID",
        help="incident to show or mark: its id, or a unique prefix of it",
    )
    add("--since", metavar="T", help=SINCE_HELP)
    add("--until", metavar="T", help="until this time")
    add("--account", type=account_id, metavar="ID", help="only of this account")
    add("--region", metavar="REGION", help="only of this Region")
    add("--limit", metavar="N", default="50", help="maximum number of incidents (50)")
    add("--events", action="store_true", help="with show: print the calls of the incident")
    add("--note", metavar="TEXT", help="with expected: why the activity was expected")
    add_client(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs `opentrail insights` and returns its exit code."""
    needs_id = options.action in ("show", "expected")
    if needs_id and not options.id:
        what = f"insights {options.action} needs the ID of an incident"
        raise UsageError(f"{what}; 'opentrail insights' lists them")
    if options.id and not needs_id:
        raise UsageError("an ID is for 'opentrail insights show ID' or 'expected ID'")
    if options.events and options.action != "show":
        raise UsageError("--events is for 'opentrail insights show ID'")
    if options.action == "scan" and not options.since:
        raise UsageError("insights scan needs --since T: when to start")
    if options.note is not None and options.action != "expected":
        raise UsageError("--note is for 'opentrail insights expected ID'")
    actions = {
        "list": list_incidents,
        "show": show_incident,
        "expected": mark_expected,
        "scan": scan,
        "status": show_status,
    }
    return actions[options.action](options)


def list_incidents(options: argparse.Namespace) -> int:
    """Prints one line for each incident, newest first."""
    answer: IncidentList = answer_to("insights", options)
    warn_of_missing(answer)
    incidents = answer["incidents"]
    _print_incidents(options, incidents)
    if not incidents:
        _require_watched(options)
        sys.stderr.write("no unusual activity found\n")
    return 0


def _require_watched(options: argparse.Namespace) -> None:
    """Checks that Insights could have found something.

    Raises:
        NothingToDecide: it watches nothing, or has learned nothing yet.
    """
    try:
        status = ask(options, "/api/v1/insights/status", {})
    except OpentrailError as error:
        raise NothingToDecide(
            f"no unusual activity found; Insights cannot be asked: {error}"
        ) from error
    if status["state"] in ("off", "starting") or (
        status["state"] == "learning" and not status["daysLearned"]
    ):
        state = _STATES[status["state"]].format(**status)
        raise NothingToDecide(f"no unusual activity found, because Insights is {state}")


def scan(options: argparse.Namespace) -> int:
    """Finds unusual activity in old events, and prints it."""
    query = {"since": options.since}
    with call_progress("days") as progress:
        answer = find(options).ask(
            "/api/v1/insights/scan", query, {}, _SCAN_SECONDS, progress.reach
        )
    _print_incidents(options, answer["incidents"])
    new, recorded = len(answer["incidents"]), answer["known"]
    sys.stderr.write(f"{new} found and recorded, {recorded} recorded before\n")
    return 0


def _print_incidents(options: argparse.Namespace, incidents: list[IncidentRow]) -> None:
    if options.json:
        for incident in incidents:
            print_json(incident)
        return
    for incident in incidents:
        line = f"{incident['start']}  {incident['id'][:_SHORT_ID]}  {incident['sentence']}"
        line += "" if incident["end"] else " (going on)"
        line += "" if incident["expected"] is None else f" (expected{_colon(incident['expected'])})"
        sys.stdout.write(f"{printable(line)}\n")


def _colon(note: str) -> str:
    return f": {note}" if note else ""


def mark_expected(options: argparse.Namespace) -> int:
    """Marks an incident as expected."""
    incident = ask(options, f"{_path(options.id)}/expected", {}, {"note": options.note or ""})
    if options.json:
        print_json(incident)
        return 0
    api = f"{incident['eventSource'].removesuffix('.amazonaws.com')} {incident['eventName']}"
    if incident["average"] < incident["baseline"]:
        learned = f"for 90 days from {incident['start']}, no drop of {api} is reported"
    else:
        learned = f"for 90 days from {incident['start']}, {api} is reported only if it is more"
    sys.stdout.write(printable(f"expected: {learned}") + "\n")
    return 0


def _path(incident: str) -> str:
    return f"/api/v1/insights/{quote(incident, safe='')}"


def show_status(options: argparse.Namespace) -> int:
    """Prints the state and progress of Insights."""
    status = ask(options, "/api/v1/insights/status", {})
    if options.json:
        print_json(status)
        return 0
    lines = {"state": _STATES[status["state"]].format(**status)}
    if status["watchedUntil"]:
        if status["keys"] is not None:  # None for a user who may not see all accounts
            lines["watches"] = f"{counted(status['keys'], 'API')} and error codes of APIs"
        lines["events from"] = status["knownSince"]
        lines["counted until"] = status["watchedUntil"]
        if status["openIncidents"] is not None:
            lines["open incidents"] = str(status["openIncidents"])
    if status["daysToScan"]:
        lines["scan"] = f"{status['daysScanned']} of {status['daysToScan']} days"
    if status["unwatchedCalls"]:
        lines["not watched"] = f"{status['unwatchedCalls']:,} calls: there are too many keys"
    if status["unwatchedUses"]:
        uses = f"{status['unwatchedUses']:,} uses by principals: there are too many values"
        lines["not compared"] = uses
    for name, value in lines.items():
        sys.stdout.write(f"{name:<16}{value}\n")
    return 0


def show_incident(options: argparse.Namespace) -> int:
    """Prints an incident: figures, chart and attributions, or the calls themselves."""
    incident: IncidentDetail = ask(options, _path(options.id), {})
    if options.events:
        return _print_calls(options, incident)
    if options.json:
        print_json(incident)
        return 0
    end = incident["end"] or "going on"
    out = sys.stdout.write
    out(f"{printable(incident['sentence'])}\n\n")
    out(f"  id        {incident['id']}\n")
    out(f"  time      {incident['start']} to {end}\n")
    if incident["expected"] is not None:
        out(f"  expected  {printable(incident['expected'] or 'yes')}\n")
    out(f"  account   {printable(incident['account'])}, {printable(incident['region'])}\n")
    extension = incident.get("extension")
    if extension:
        _print_extension(extension)
    else:
        _print_figures(incident)
    out(f"\nopentrail insights show {incident['id'][:_SHORT_ID]} --events prints the calls\n")
    return 0


def _print_figures(incident: IncidentDetail) -> None:
    out = sys.stdout.write
    out(f"  a minute  {incident['average']:.4g}, usually {incident['baseline']:.4g}\n\n")
    room = shutil.get_terminal_size((100, 24)).columns
    lines = chart([count for _, count in incident["minutes"]], incident["baseline"], room)
    first, last = incident["from"][11:16], incident["until"][11:16]
    axis = f"{'':8}{first}{last:>{max(6, max(map(len, lines)) - 8 - len(first))}}"
    out("\n".join([*lines, axis]) + "\n")
    _print_attributions(incident["record"]["insightDetails"]["insightContext"])


def _print_extension(extension: Mapping[str, Any]) -> None:
    for name, label in (("principal", "principal"), ("value", "new"), ("eventID", "event")):
        if extension.get(name):
            sys.stdout.write(f"  {label:<9} {printable(str(extension[name]))}\n")


def chart(counts: Sequence[int], baseline: float, room: int) -> list[str]:
    """Returns the lines of a bar chart of calls per minute, at most `room` characters wide.

    If the minutes do not fit, each bar is the maximum of several minutes.
    """
    width = max(10, min(room, 100) - 8)
    step = -(-len(counts) // width) if counts else 1
    bars = [max(counts[at : at + step]) for at in range(0, len(counts), step)]
    top = max([1, *bars])
    usual = round(baseline / top * _CHART_LINES) if baseline else 0
    lines = []
    for level in range(_CHART_LINES, 0, -1):
        cells = [_cell(bar / top * _CHART_LINES - level + 1) for bar in bars]
        if level == usual:
            cells = ["┄" if cell == " " else cell for cell in cells]
        label = f"{top}" if level == _CHART_LINES else ("0" if level == 1 else "")
        lines.append(f"{label:>6}  {''.join(cells)}".rstrip())
    return lines


def _cell(height: float) -> str:
    """Returns the block character for a height of 0 to 1."""
    if height <= 0:
        return " "
    return _BARS[min(len(_BARS), max(1, round(height * len(_BARS)))) - 1]


def _print_attributions(context: Mapping[str, Any]) -> None:
    names = {
        "userIdentityArn": "identities",
        "userAgent": "user agents",
        "errorCode": "error codes",
    }
    for attribution in context.get("attributions", ()):  # missing in older records
        usual = {entry["value"]: entry["average"] for entry in attribution.get("baseline", ())}
        sys.stdout.write(f"\n  {names.get(attribution['attribute'], attribution['attribute'])}\n")
        for entry in attribution["insight"]:
            value = "no error" if entry["value"] == "null" else printable(str(entry["value"]))
            before = usual.get(entry["value"], 0)
            sys.stdout.write(
                f"    {entry['average']:>8.4g} a minute, usually {before:.4g}  {value}\n"
            )


def _print_calls(options: argparse.Namespace, incident: IncidentDetail) -> int:
    """Prints the calls, or errors, of an incident in the form of `lookup`."""
    query = {
        "expression": search_for(incident),
        "since": incident["start"],
        "until": incident["end"],
        "account": incident["account"],
        "region": None if incident.get("extension") else incident["region"],
        "categories": "all",
        "limit": _MAX_EVENTS,
    }
    answer: FoundEvents = ask(options, "/api/v1/events", query)
    (print_records if options.json else print_events)(answer["events"])
    warn_of_truncated(answer)
    return 0


def search_for(incident: IncidentDetail) -> str:
    """Returns the search expression that finds the calls, or errors, of an incident."""
    extension = incident.get("extension")
    conditions = _conditions_of_principal(extension) if extension else _conditions(incident)
    return " AND ".join(conditions)


def _conditions(incident: IncidentDetail) -> list[str]:
    details = incident["record"]["insightDetails"]
    conditions = [
        f'eventName = "{incident["eventName"]}"',
        f'eventSource = "{incident["eventSource"]}"',
        # Older records are all about management events.
        f'eventCategory = "{details.get("sourceEventCategory", MANAGEMENT)}"',
    ]
    if incident["errorCode"]:
        conditions.append(f'errorCode = "{incident["errorCode"]}"')
    return conditions


def _conditions_of_principal(extension: Mapping[str, Any]) -> list[str]:
    """Returns conditions for the events of an incident of a type about principals."""
    if extension["type"] not in BURST_TYPES:
        return [f'eventID = "{extension["eventID"]}"']
    arn = extension["principal"]
    # An event's ARN has the session name after the role's ARN.
    conditions = [f'(userIdentity.arn = "{arn}" OR userIdentity.arn = "{arn}/*")']
    if extension["type"] == ACCESS_DENIED:
        conditions.append("(" + " OR ".join(f'errorCode = "{code}"' for code in DENIED) + ")")
    return conditions
