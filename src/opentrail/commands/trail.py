"""`opentrail trail`: works on trails."""

from __future__ import annotations

import argparse
import json

from opentrail.commands.client import ask


def run(options: argparse.Namespace) -> int:
    """Delivers a trail's events now, prints how many files that were, and returns the exit code."""
    done = ask(options, "/api/v1/trails/flush", {}, {"name": options.name})
    if options.json:
        print(json.dumps(done))
        return 0
    logs, digests = len(done["logFiles"]), len(done["digestFiles"])
    print(f"{done['trail']}: {logs} log files and {digests} digest files delivered")
    return 0
