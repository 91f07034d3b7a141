"""Verifies every record in the journal and event history of a data directory."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

from opentrail.adapters.store_check import Damage, StoreCheck
from opentrail.commands.progress import Progress
from opentrail.core.errors import UsageError
from opentrail.core.text import printable


def run(options: argparse.Namespace) -> int:
    """Verifies the data directory, prints the damage and returns the exit code.

    Raises:
        UsageError: the folder is not a data directory.
        StorageFailed: it cannot be read.
    """
    folder = Path(options.data_dir or os.environ.get("OPENTRAIL_DATA_DIR") or "opentrail-data")
    journal, history = folder / "journal", folder / "history"
    if not journal.is_dir() or not history.is_dir():
        raise UsageError(
            f"{folder} is not a data directory: it has no journal/ and history/; name one with "
            "--data-dir DIR"
        )
    progress = Progress(sys.stderr)
    check = StoreCheck(journal, history, progress.advance)
    progress.total = check.size
    try:
        findings = list(check.findings())
    finally:
        progress.end()
    if options.json:
        document = {
            "segments": check.segments,
            "sealedFiles": check.files,
            "records": check.records,
            "findings": [dataclasses.asdict(one) for one in findings],
        }
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        for one in findings:
            sys.stdout.write(f"{described(one)}\n")
        files = f"{check.segments:,} journal segments, {check.files:,} sealed files"
        sys.stdout.write(f"{check.records:,} records verified in {files}: {_outcome(findings)}\n")
    return 1 if findings else 0


def _outcome(findings: list[Damage]) -> str:
    return f"{len(findings):,} problems" if findings else "all good"


def described(one: Damage) -> str:
    where = ""
    if one.first is not None:
        is_one = one.last in (None, one.first)
        where = f", position {one.first}" if is_one else f", positions {one.first} to {one.last}"
    return f"{one.file}{where}: {printable(one.problem)}"
