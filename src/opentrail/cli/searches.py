"""Arguments of the commands that find and follow events."""

from __future__ import annotations

from typing import Any

from opentrail.cli.shared import add_client, add_command, add_conditions, runs

#: What `opentrail insights` does; the first is the default.
_INSIGHTS = ("list", "show", "expected", "scan", "status")


def add_commands(commands: Any) -> None:
    _add_lookup(commands)
    _add_who(commands)
    _add_insights(commands)
    _add_tail(commands)
    _add_export(commands)


def _add_lookup(commands: Any) -> None:
    text = "find events, newest first"
    lookup = add_command(commands, "lookup", text, runs("lookup"))
    add_conditions(lookup)
    lookup.add_argument("--limit", metavar="N", default="50", help="maximum number of events (50)")
    lookup.add_argument("--csv", action="store_true", help="print CSV")
    add_client(lookup)


def _add_tail(commands: Any) -> None:
    text = "show events as they are recorded"
    more = "Continues by itself when the server is restarted; Ctrl-C ends it."
    tail = add_command(commands, "tail", text, runs("tail"), more)
    add_conditions(tail, with_times=False)
    tail.add_argument("--last", metavar="N", help="start with the last N events that match")
    tail.add_argument("--after", metavar="POSITION", help="start after this position")
    tail.add_argument(
        "--resume", metavar="FILE", help="store the position in FILE, and continue from it"
    )
    tail.add_argument("--csv", action="store_true", help="print CSV")
    add_client(tail)


def _add_export(commands: Any) -> None:
    text = "write events to files, newest first"
    more = "Each file is written atomically; a file _SUCCESS at the end marks a complete export."
    export = add_command(commands, "export", text, runs("export"), more)
    add_conditions(export)
    kinds = export.add_mutually_exclusive_group(required=True)
    kinds.add_argument("--parquet", metavar="DIR", help="Parquet: typed columns and the record")
    kinds.add_argument("--ndjson", metavar="DIR", help="the exact records, one on each line")
    kinds.add_argument("--csv", metavar="DIR", help="CSV: the same columns as Parquet")
    export.add_argument(
        "--overwrite", action="store_true", help="replace the files of an earlier export"
    )
    add_client(export)


def _add_who(commands: Any) -> None:
    text = "find out who created, changed and deleted a resource, when, and by which method"
    who = add_command(commands, "who", text, runs("who"))
    who.add_argument(
        "resource", metavar="RESOURCE", help="name, ARN, or name with type: Mary, user/Mary"
    )
    who.add_argument("--type", metavar="TYPE", help="only of this type: user, AWS::IAM::User")
    who.add_argument("--account", metavar="ID", help="only of this account")
    add_client(who)


def _add_insights(commands: Any) -> None:
    text = "list unusual activity, or show one incident"
    more = "An incident is an API whose calls or errors are far more, or fewer, than usual."
    insights = add_command(commands, "insights", text, runs("insights"), more)
    add = insights.add_argument
    add("action", nargs="?", choices=_INSIGHTS, default="list", help=", ".join(_INSIGHTS))
    add(
        "id",
        nargs="?",
        metavar="ID",
        help="incident to show or to mark; the beginning of its id suffices",
    )
    add("--since", metavar="T", help="from this time on, 2020-01-01T09:00:00Z")
    add("--until", metavar="T", help="up to this time")
    add("--account", metavar="ID", help="only of this account")
    add("--region", metavar="REGION", help="only of this Region")
    add("--limit", metavar="N", default="50", help="maximum number of incidents (50)")
    add("--events", action="store_true", help="with show: print the calls of the incident")
    add("--note", metavar="TEXT", help="with expected: why the activity was expected")
    add_client(insights)
