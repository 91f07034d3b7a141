"""`opentrail status` and `console`: the health of a server, and a link to its web console."""

from __future__ import annotations

import argparse

from opentrail.commands.arguments import add_client
from opentrail.commands.client import ask
from opentrail.commands.rendering import json_text, print_json, print_status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_client(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the state of a server; the exit code is 1 if it is not healthy, or a trail fails."""
    status = ask(options, "/api/v1/status", {})
    if options.json:
        print_json(status)
    else:
        print_status(status)
    fails = any(trail["status"] == "Failing" for trail in status["trails"])
    return 0 if status["status"] == "ok" and not fails else 1


def add_console_arguments(parser: argparse.ArgumentParser) -> None:
    add_client(parser)
    parser.set_defaults(run=run_console)


def run_console(options: argparse.Namespace) -> int:
    """Prints the link and returns the exit code."""
    link = ask(options, "/api/v1/console-links", {}, {})
    print(json_text(link) if options.json else link["url"])
    return 0
