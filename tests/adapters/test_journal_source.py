"""Which source an address opens."""

from __future__ import annotations

from pathlib import Path

from opentrail.adapters.journal_source import open_source
from opentrail.adapters.sqlite.source import SqliteJournalSource


def test_the_address_of_a_folder_opens_its_segments(tmp_path: Path) -> None:
    source = open_source(SqliteJournalSource(tmp_path).address)
    assert isinstance(source, SqliteJournalSource)
    assert source.first_position() == 1
