"""Arguments of the commands that look after a server and its data directory."""

from __future__ import annotations

from typing import Any

from opentrail.cli.shared import add_client, runs


def add_commands(commands: Any) -> None:
    _add_status(commands)
    _add_verify_store(commands)


def _add_status(commands: Any) -> None:
    text = "show whether a server is healthy, and what it has lost"
    status = commands.add_parser(
        "status", help=text, description=f"{text}. Exit code 1: it is not."
    )
    status.set_defaults(run=runs("status"))
    add_client(status)


def _add_verify_store(commands: Any) -> None:
    text = "verify every record in a data directory"
    more = (
        "Compares each record of the journal with its hash chain, and each sealed file of event"
        " history with its hash. A server may be running. Exit codes: 0 good, 1 not good."
    )
    verify = commands.add_parser("verify-store", help=text, description=f"{text}. {more}")
    verify.set_defaults(run=runs("verify_store"))
    verify.add_argument("--data-dir", metavar="DIR", help="the data directory")
    verify.add_argument("--json", action="store_true", help="print JSON")
