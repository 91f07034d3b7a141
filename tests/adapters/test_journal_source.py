"""The source of each address."""

from __future__ import annotations

from pathlib import Path

from opentrail.adapters.journal_source import open_source
from opentrail.adapters.postgres.database import SharedDatabase
from opentrail.adapters.postgres.schema import create_tables
from opentrail.adapters.postgres.source import PostgresJournalSource
from opentrail.adapters.sqlite.source import SqliteJournalSource
from tests.postgres import shared_server


def test_the_address_of_a_folder_opens_its_segments(tmp_path: Path) -> None:
    source = open_source(SqliteJournalSource(tmp_path).address)
    assert isinstance(source, SqliteJournalSource)
    assert source.first_position() == 1


def test_the_address_of_a_database_opens_it() -> None:
    url = shared_server().new_database()
    SharedDatabase(url).run_blocking(create_tables)
    source = open_source(PostgresJournalSource(url).address)
    assert isinstance(source, PostgresJournalSource)
    assert source.first_position() == 1
