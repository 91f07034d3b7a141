"""Opens the journal in a child process."""

from __future__ import annotations

from pathlib import Path

from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.ports.journal_source import JournalSource


def open_source(address: str) -> JournalSource:
    """Returns the journal with the address that the parent process got from its source."""
    return SqliteJournalSource(Path(address))
