"""Reads the recorded calls of one service from a data directory that no server uses."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import duckdb
import orjson

from opentrail.adapters.data_directory.sealed_file_names import (
    SealedFile,
    Series,
    attaching,
    sealed_files,
)
from opentrail.core.errors import JournalDamaged
from opentrail.core.event import Record
from opentrail.ports.journal import JournalSource

log = logging.getLogger(__name__)

_CALLS = "SELECT position, record FROM sealed.events WHERE event_source = ? ORDER BY position"
#: A position beyond any journal.
_END = 2**62


def calls_of(journal: JournalSource, history: Path, source: str) -> Iterator[tuple[int, Record]]:
    """Yields position and record of each call of a service, in order; skips damaged records.

    Args:
        journal: the source of the newest calls.
        history: the folder of sealed files.
        source: the service's `eventSource`.

    Raises:
        StorageFailed: the journal cannot be read.
    """
    files = sealed_files(history, Series.JOURNAL)
    for file in files:
        if not file.is_expired:
            yield from _sealed(file, source)
    yield from _in_journal(journal, max((file.last for file in files), default=0), source)


def _sealed(file: SealedFile, source: str) -> Iterator[tuple[int, Record]]:
    try:
        with duckdb.connect(":memory:", config={"threads": 1}) as connection:
            connection.execute(attaching(file.path, "sealed"))
            rows = connection.execute(_CALLS, [source]).fetchall()
    except duckdb.Error as error:
        log.warning("sealed file cannot be read", extra={"error": str(error)})
        return
    for position, record in rows:
        yield position, orjson.loads(record)


def _in_journal(journal: JournalSource, after: int, source: str) -> Iterator[tuple[int, Record]]:
    needle = f'"eventSource":"{source}"'.encode()
    while True:
        try:
            for entries in journal.read_range(after + 1, _END):
                for entry in entries:
                    if needle in entry.record:
                        yield entry.position, orjson.loads(entry.record)
                after = entries[-1].position
        except JournalDamaged as error:
            log.warning("the journal is damaged", extra={"error": str(error)})
            if error.position <= after:
                return
            after = error.position
        else:
            return
