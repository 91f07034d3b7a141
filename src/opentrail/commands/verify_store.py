"""Verifies every record in the journal and event history of a data directory."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
from pathlib import Path

from opentrail.adapters.files import DataDirectory
from opentrail.adapters.rsa import folder_problems
from opentrail.adapters.sql import SqlControl
from opentrail.adapters.store_check import Damage, StoreCheck
from opentrail.app.known_positions import known_positions
from opentrail.commands.client import data_dir_of
from opentrail.commands.progress import Progress
from opentrail.core.errors import OpentrailError, UsageError
from opentrail.core.text import counted, printable


def run(options: argparse.Namespace) -> int:
    """Verifies the data directory, prints the damage and returns the exit code.

    Raises:
        UsageError: the folder is not a data directory.
        StorageFailed: it cannot be read.
    """
    folder = data_dir_of(options)
    journal, history = folder / "journal", folder / "history"
    if not journal.is_dir() or not history.is_dir():
        raise UsageError(
            f"{folder} is not a data directory: it has no journal/ and history/; name one with "
            "--data-dir DIR"
        )
    progress = Progress(sys.stderr)
    findings: list[Damage] = []
    try:
        written = asyncio.run(_written(folder))
        findings += [Damage("keys", problem) for problem in asyncio.run(key_problems(folder))]
    except OpentrailError as error:
        written = 0
        findings.append(Damage("state.db", str(error)))
    check = StoreCheck(journal, history, progress.advance, written)
    progress.total = check.size
    try:
        findings += check.findings()
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
        records = counted(check.records, "record")
        files = (
            f"{counted(check.segments, 'journal segment')}, {counted(check.files, 'sealed file')}"
        )
        sys.stdout.write(f"{records} verified in {files}: {_outcome(findings)}\n")
    return 1 if findings else 0


async def _written(folder: Path) -> int:
    """Returns the last position that the state store knows to have been written."""
    data = DataDirectory(folder)
    if not data.state.exists():  # it is in another database, or this is a copy
        return 0
    control = SqlControl.in_read_only_file(data.state)
    try:
        known = await known_positions(control, data.history)
    finally:
        await control.close()
    return known.written if known else 0


async def key_problems(folder: Path) -> list[str]:
    """Returns what is wrong with the signing keys of a data directory.

    Raises:
        StorageFailed: the control store cannot be read.
    """
    data = DataDirectory(folder)
    control = SqlControl.in_read_only_file(data.state) if data.state.exists() else None
    try:
        return await folder_problems(data.keys, control)
    finally:
        if control is not None:
            await control.close()


def _outcome(findings: list[Damage]) -> str:
    return counted(len(findings), "problem") if findings else "all good"


def described(one: Damage) -> str:
    where = ""
    if one.first is not None:
        is_one = one.last in (None, one.first)
        where = f", position {one.first}" if is_one else f", positions {one.first} to {one.last}"
    return f"{one.file}{where}: {printable(one.problem)}"
