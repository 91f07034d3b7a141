"""The command line: argparse in, exit codes out."""

from opentrail.cli.main import main

__all__ = ["main"]
