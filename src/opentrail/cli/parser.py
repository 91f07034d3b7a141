"""The parser of all commands."""

from __future__ import annotations

import argparse

from opentrail.cli import about, access, records, searches, servers, store
from opentrail.version import __version__


def parser() -> argparse.ArgumentParser:
    """Returns the parser; what it parses has the function `run`, which takes it."""
    root = argparse.ArgumentParser(
        prog="opentrail", description="Records every call to an AWS-compatible endpoint."
    )
    root.add_argument("--version", action="version", version=f"opentrail {__version__}")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    servers.add_commands(commands)
    searches.add_commands(commands)
    records.add_commands(commands)
    access.add_commands(commands)
    store.add_commands(commands)
    about.add_commands(commands, parser)
    return root
