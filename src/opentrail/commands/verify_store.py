"""Verifies every record in the journal and event history of a data directory."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.keys.rsa import folder_problems
from opentrail.adapters.sql.at_rest import control_at_rest
from opentrail.adapters.store_check import Damage, StoreCheck
from opentrail.app.cluster.listed_stores import files_of_all
from opentrail.app.inventory import standing_of
from opentrail.app.journals import journal_place
from opentrail.app.known_positions import known_imports, known_positions
from opentrail.commands.client import data_dir_of
from opentrail.commands.progress import Progress
from opentrail.commands.rendering import print_json
from opentrail.core.errors import NothingToDecide, OpentrailError, StorageFailed, UsageError
from opentrail.core.text import counted, printable
from opentrail.ports.event_store import SharedFile
from opentrail.ports.journal import JournalSource
from opentrail.setting_sources import from_environment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", metavar="DIR", help="the data directory")
    parser.add_argument("--config", metavar="FILE", help="settings, if they name a journal")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Verifies the data directory, prints the damage and returns the exit code.

    Raises:
        UsageError: the folder is not a data directory, or the settings name another journal.
        StorageFailed: a file cannot be read.
    """
    folder = data_dir_of(options)
    journal, history = folder / "journal", folder / "history"
    if not journal.is_dir() or not history.is_dir():
        raise UsageError(
            f"{folder} is not a data directory: it has no journal/ and history/; name one with "
            "--data-dir DIR"
        )
    progress = Progress(sys.stderr)
    data = DataDirectory(folder)
    settings = from_environment({"data_dir": str(folder)}, options.config)
    journal_source = journal_place(settings, data).server_source()
    is_live = data.is_in_use
    try:
        state = asyncio.run(_read_state(data, is_live, journal_source))
    except (OpentrailError, OSError) as error:
        state = _State([Damage("state.db", str(error))])
    check = StoreCheck(
        journal,
        history,
        progress.advance,
        state.written,
        state.imported,
        is_live=is_live,
        source=journal_source,
        listed=state.listed,
        replaced=state.replaced,
    )
    progress.total = check.size
    findings = state.findings
    try:
        findings += check.findings()
    finally:
        progress.end()
    if findings and data.is_in_use != is_live:
        raise StorageFailed(f"a server on {folder} started or stopped during the check: try again")
    if options.json:
        document = {
            "segments": check.segments,
            "sealedFiles": check.files,
            "records": check.records,
            "findings": [dataclasses.asdict(finding) for finding in findings],
        }
        print_json(document)
    else:
        for finding in findings:
            sys.stdout.write(f"{describe_damage(finding)}\n")
        records = counted(check.records, "record")
        part = (
            counted(check.segments, "journal segment")
            if journal_source is None
            else "the journal on PostgreSQL"
        )
        files = f"{part}, {counted(check.files, 'sealed file')}"
        outcome = f": {_outcome(findings)}" if findings or check.records else ""
        sys.stdout.write(f"{records} verified in {files}{outcome}\n")
    if not findings and not check.records:
        raise NothingToDecide(f"nothing to verify: {folder} has no record")
    return 1 if findings else 0


@dataclass
class _State:
    """The state of a data directory before reading its journal and history."""

    findings: list[Damage] = field(default_factory=list)
    written: int = 0
    imported: int = 0
    #: The listed files of event data stores, None if unknown, and the names of replaced ones.
    listed: list[SharedFile] | None = None
    replaced: set[str] = field(default_factory=set)


async def _read_state(data: DataDirectory, is_live: bool, journal: JournalSource | None) -> _State:
    async with control_at_rest(data.state, is_live) as control:
        findings = [
            Damage("keys", problem) for problem in await folder_problems(data.keys, control)
        ]
        standing = await standing_of(data, control, is_live, journal)
        findings += [Damage("data directory", problem) for problem in standing.problems]
        if control is None:  # it is in another database, or this is a copy
            return _State(findings, standing.written, standing.imported)
        positions = await known_positions(control, data.history, standing.written)
        imported = max(await known_imports(control), standing.imported)
        files = await files_of_all(control)
    return _State(findings, positions.written if positions else 0, imported, *files)


async def files_of_stores(state: Path, is_live: bool) -> list[SharedFile] | None:
    """Returns the listed files of stores in a data directory; None without a control store."""
    async with control_at_rest(state, is_live) as control:
        return None if control is None else (await files_of_all(control))[0]


async def key_problems(folder: Path) -> list[str]:
    """Returns the problems of the signing keys in a data directory.

    Raises:
        StorageFailed: the control store cannot be read.
    """
    data = DataDirectory(folder)
    async with control_at_rest(data.state, data.is_in_use) as control:
        return await folder_problems(data.keys, control)


def _outcome(findings: list[Damage]) -> str:
    return counted(len(findings), "problem") if findings else "all good"


def describe_damage(damage: Damage) -> str:
    where = ""
    if damage.first is not None:
        is_one = damage.last in (None, damage.first)
        where = (
            f", position {damage.first}"
            if is_one
            else f", positions {damage.first} to {damage.last}"
        )
    return f"{damage.file}{where}: {printable(damage.problem)}"
