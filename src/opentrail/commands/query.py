"""`opentrail query`: SQL over event history."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from opentrail.commands.arguments import add_client
from opentrail.commands.asked import run as run_question
from opentrail.commands.client import Console, find
from opentrail.commands.rendering import print_json, print_table, warn_of_missing
from opentrail.core.errors import OpentrailError, UsageError
from opentrail.core.text import csv_line, unique_names
from opentrail.questions.question import path_of

_PATH = f"/api/v1{path_of('query')}"
_PAGE = 1_000
#: Seconds between two updates of the progress.
_WAIT_SECONDS = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("statement", nargs="?", metavar="SQL", help="a SELECT statement")
    parser.add_argument("-f", "--file", metavar="FILE", help="read the statement from a file")
    parser.add_argument("--sample", metavar="NAME", help="run a sample query")
    parser.add_argument("--samples", action="store_true", help="list the sample queries")
    parser.add_argument("--tables", action="store_true", help="list the tables and their columns")
    parser.add_argument(
        "--history", action="store_true", help="list your queries of the last seven days"
    )
    parser.add_argument("--limit", metavar="N", help="maximum number of queries in --history (100)")
    parser.add_argument("--id", metavar="ID", help="show the result of an earlier query")
    parser.add_argument("--csv", action="store_true", help="print CSV")
    parser.add_argument("--parquet", metavar="FILE", help="write a Parquet file")
    add_client(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints or writes the whole result, or a list; Ctrl-C cancels the query."""
    query = _query(options)
    if options.samples:
        return _print_samples()
    if options.tables or options.history:
        return run_question("query-tables" if options.tables else "query-history", options)
    console = find(options)
    first = _result(console, query)
    if first["status"] != "FINISHED":
        raise OpentrailError(f"query {first['status'].lower()}: {first['error']}")
    warn_of_missing(first)
    rows: list[list[str | None]] = first["rows"]
    while len(rows) < first["total"]:
        page = _ask(console, {"queryId": first["queryId"], "first": len(rows), "limit": _PAGE})
        rows += page["rows"]
    _show(options, first["columns"], rows)
    return 0


def _query(options: argparse.Namespace) -> dict[str, str]:
    """Returns the members of a request that start or name the query."""
    sources = (options.statement, options.file, options.sample, options.id)
    lists = (options.samples, options.tables, options.history)
    if sum(source is not None for source in sources) + sum(lists) != 1:
        raise UsageError(
            "query needs one of: a statement, --file, --sample, --id, --samples, --tables,"
            " --history"
        )
    if any(lists) and (options.csv or options.parquet):
        raise UsageError("--csv and --parquet need a result, not a list")
    if options.limit is not None and not options.history:
        raise UsageError("--limit belongs to --history: in a statement, write LIMIT")
    if options.id is not None:
        return {"queryId": options.id}
    return {} if any(lists) else {"statement": _statement(options)}


def _statement(options: argparse.Namespace) -> str:
    from opentrail.lake.samples import SAMPLES

    if options.sample is not None:
        for sample in SAMPLES:
            if sample.name == options.sample:
                return sample.statement
        raise UsageError(f"there is no sample {options.sample!r}: see opentrail query --samples")
    if options.file is None:
        return str(options.statement)
    try:
        return sys.stdin.read() if options.file == "-" else Path(options.file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--file {options.file}: {error}") from error


def _print_samples() -> int:
    from opentrail.lake.samples import SAMPLES

    print_table(["Name", "Answers"], [[sample.name, sample.description] for sample in SAMPLES])
    return 0


def _ask(console: Console, body: dict[str, Any]) -> Any:
    return console.ask(_PATH, {}, body)


def _result(console: Console, query: dict[str, str]) -> Any:
    """Returns the first page of a result, once the query has ended."""
    # The first answer has the id, so that Ctrl-C can cancel the query.
    more = {"limit": _PAGE, "wait": _WAIT_SECONDS}
    page = _ask(console, {**query, **more})
    shown = ""
    try:
        while page["status"] in ("QUEUED", "RUNNING"):
            done = "running" if page["progress"] is None else f"{page['progress']}% done"
            shown = _redrawn(shown, f"{done}, Ctrl-C cancels")
            page = _ask(console, {"queryId": page["queryId"], **more})
    except KeyboardInterrupt:
        _ask(console, {"queryId": page["queryId"], "cancel": True})
        raise
    finally:
        _redrawn(shown, "")
    return page


def _redrawn(before: str, text: str) -> str:
    """Replaces the line on the terminal; returns the new one."""
    if sys.stderr.isatty() and before != text:
        sys.stderr.write(f"\r{text.ljust(len(before))}" + ("" if text else "\r"))
        sys.stderr.flush()
    return text


def _show(
    options: argparse.Namespace, columns: list[dict[str, str]], rows: list[list[str | None]]
) -> None:
    names = unique_names(column["name"] for column in columns)
    if options.parquet is not None:
        from opentrail.adapters.parquet import write_texts

        kinds = [column["type"] for column in columns]
        write_texts(Path(options.parquet), names, kinds, rows)
    elif options.json:
        for row in rows:
            print_json(dict(zip(names, row, strict=True)))
    elif options.csv:
        sys.stdout.write(csv_line(names, "\n"))
        for row in rows:
            sys.stdout.write(csv_line(row, "\n"))
    else:
        print_table(names, [[cell if cell is not None else "" for cell in row] for row in rows])
