"""`opentrail status`: whether a server is healthy, and what it has lost."""

from __future__ import annotations

import argparse
import json

from opentrail.commands.client import find
from opentrail.commands.rendering import print_status


def run(options: argparse.Namespace) -> int:
    """Prints the state of a server; the exit code is 1 if it is not healthy."""
    health = find(options).health()
    if options.json:
        print(json.dumps(health))
    else:
        print_status(health)
    return 0 if health["status"] == "ok" else 1
