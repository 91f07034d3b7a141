"""Opens the journal in a child process."""

from __future__ import annotations

from pathlib import Path

from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.ports.journal import JournalSource


def open_source(address: str) -> JournalSource:
    """Returns the journal at the address that the parent process got from its source."""
    if address.startswith("postgresql://"):
        # Imported here, so that processes without it do not load PostgreSQL's driver.
        from opentrail.adapters.postgres.source import PostgresJournalSource

        return PostgresJournalSource(address)
    return SqliteJournalSource(Path(address))
