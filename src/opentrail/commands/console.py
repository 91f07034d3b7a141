"""`opentrail console`: prints a link that opens the web console."""

from __future__ import annotations

import argparse
import json

from opentrail.commands.arguments import add_client
from opentrail.commands.client import ask


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_client(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the link and returns the exit code."""
    link = ask(options, "/api/v1/console-links", {}, {})
    print(json.dumps(link) if options.json else link["url"])
    return 0
