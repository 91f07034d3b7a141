"""Imported records: each event once, even if another store has it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.adapters.data_directory.sealed_file_names import read_name
from opentrail.adapters.duckdb.seal import merge, seal
from opentrail.adapters.duckdb.staging import Duplicates, Staging
from opentrail.adapters.duckdb.store import DuckdbEvents
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.attributes import attributes_of
from opentrail.ports.event_store import EventQuery, Snapshot
from tests.factories import MOMENT, a_new_entry, a_record, event_id, record_bytes, some_records
from tests.fakes import asynchronous, run

pytestmark = pytest.mark.slow

HELD = "SELECT record ->> 'eventID', record, position FROM events"
Records = Sequence[Mapping[str, Any]]


class Place:
    """Folders of a server, and a staging over them."""

    def __init__(self, root: Path) -> None:
        self.history, self.journal = root / "history", root / "journal"
        for folder in (self.history, self.journal):
            folder.mkdir()
        self.staging = Staging(self.history, SqliteJournalSource(self.journal))

    def bring(self, *files: Records) -> tuple[int, dict[int, int], dict[int, list[int]]]:
        """Imports files; returns the numbers of written, doubled and refused events."""
        self.staging.clear()
        for number, records in enumerate(files):
            rows = [(n, attributes_of(r), record_bytes(r)) for n, r in enumerate(records, 1)]
            self.staging.add(number, rows)
        duplicates = Duplicates()
        self.staging.deduplicate(duplicates)
        written = self.staging.write(MOMENT, [(f"hash-{n}", f"{n}", n) for n in range(len(files))])
        return written[1] if written else 0, dict(duplicates.same), duplicates.other

    def held(self) -> dict[str, bytes]:
        """Returns the imported records by event id; fails on a repeated id."""
        found = {}
        for path in self.history.glob("import-*.duckdb"):
            named = read_name(path)
            assert named is not None
            with duckdb.connect(str(path), read_only=True) as database:
                rows = database.execute(
                    "SELECT record ->> 'eventID', record, position FROM events"
                ).fetchall()
            assert sorted(-row[2] for row in rows) == list(range(named.first, named.last + 1))
            for key, record, _ in rows:
                assert key not in found
                found[key] = record.encode()
        return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.staging.close()


def by_id(records: Records) -> dict[str, bytes]:
    return {record["eventID"]: record_bytes(record) for record in records}


def test_records_are_kept_with_their_exact_bytes(place: Place) -> None:
    records = [*some_records(20), a_record(eventID="odd", note="\0 Zoë \u2028 \U0001f600 ' \" \\")]
    assert place.bring(records) == (21, {}, {})
    assert place.held() == by_id(records)


def test_repeated_imports_store_events_once(place: Place) -> None:
    records = some_records(30)
    assert place.bring(records[:20]) == (20, {}, {})
    assert place.bring(records[:20]) == (0, {0: 20}, {})
    assert place.bring(records[10:], records[5:25]) == (10, {0: 10, 1: 20}, {})
    assert place.held() == by_id(records)


def test_an_event_with_anothers_id_is_named(place: Place) -> None:
    first, other = a_record(eventID="same"), a_record(eventID="same", sourceIPAddress="10.0.0.1")
    assert place.bring([first, first, other]) == (1, {0: 1}, {0: [3]})
    assert place.bring([other], [first]) == (0, {1: 1}, {0: [1]})
    assert place.held() == by_id([first])


def test_an_event_in_another_spelling_is_the_same(place: Place) -> None:
    record = a_record(eventID="same")
    place.staging.add(0, [(1, attributes_of(record), record_bytes(record))])
    pretty = json.dumps(record, indent=1, sort_keys=True).encode()
    place.staging.add(0, [(2, attributes_of(record), pretty)])
    duplicates = Duplicates()
    place.staging.deduplicate(duplicates)
    assert (duplicates.same, duplicates.other) == ({0: 1}, {})


@pytest.mark.parametrize("sealed", [0, 15, 30])
def test_own_records_are_not_imported(place: Place, sealed: int) -> None:
    records = some_records(40)

    async def write() -> None:
        journal = SqliteJournal(place.journal, segment_bytes=24 * 1024)
        for record in records[:30]:
            await journal.append([a_new_entry(record)])
        await journal.close()

    run(write())
    if sealed:
        parts = [
            *seal(SqliteJournalSource(place.journal), place.history, 1, 10),
            *seal(SqliteJournalSource(place.journal), place.history, 11, sealed),
        ]
        merge(parts)
    changed = {**records[2], "sourceIPAddress": "10.9.9.9"}
    assert place.bring([changed, *records]) == (10, {0: 30}, {0: [1]})
    assert place.held() == by_id(records[30:])


def test_imported_files_are_known_until_their_events_expire(place: Place) -> None:
    assert place.staging.report_of("hash-0") is None
    place.bring(some_records(3), some_records(3))
    place.staging.load_reports()
    assert place.staging.report_of("hash-1") == 1
    place.bring([a_record(eventID="x")])
    files = sorted(place.history.glob("import-*.duckdb"))
    merged = merge(files)
    for file in files:
        file.unlink()
    place.staging.load_reports()
    assert place.staging.report_of("hash-1") == 1
    merged.unlink()
    place.staging.load_reports()
    assert place.staging.report_of("hash-1") is None


def test_reports_are_read_after_imported_events_have_expired(place: Place) -> None:
    place.bring(some_records(3))
    (file,) = place.history.glob("import-*.duckdb")
    file.rename(file.with_name(f"{file.stem.rpartition('-')[0]}.expired")).write_bytes(b"")
    place.staging.load_reports()
    assert place.staging.report_of("hash-0") is None
    assert place.bring(some_records(3)) == (3, {}, {})


def test_complete_output_is_not_rewritten(place: Place) -> None:
    assert place.bring() == (0, {}, {})
    assert place.bring([]) == (0, {}, {})
    assert place.held() == {}


@asynchronous
async def test_imported_events_are_found_next_to_recorded_ones(tmp_path: Path) -> None:
    place = Place(tmp_path)
    records = some_records(30)
    place.bring(records[:10])
    journal = SqliteJournal(place.journal)
    await journal.append([a_new_entry(record) for record in records[10:20]])
    store = DuckdbEvents(place.history, SqliteJournalSource(place.journal))
    await store.open()
    await store.add(await journal.read(0, 100))
    assert store.snapshot.imported == 10
    place.bring(records[20:])
    query = EventQuery(100, store.snapshot)
    assert len(await store.lookup(query)) == 20
    for _ in range(2):  # the second time changes nothing
        await store.show_imports()
    assert store.snapshot.imported == 20
    assert len(await store.lookup(query)) == 20, "a page under way does not see later imports"
    everything = EventQuery(100, Snapshot(store.position))
    found = await store.lookup(everything)
    assert [event.event_id for event in found] == [event_id(n) for n in range(30, 0, -1)]
    seen, at = [], EventQuery(7, Snapshot(store.position))
    while page := await store.lookup(at):
        seen += page
        at = replace(at, before=(page[-1].event_time, page[-1].position))
    assert seen == found
    assert await store.expire(MOMENT + timedelta(seconds=1), 0) == 20
    assert [event.event_id for event in await store.lookup(everything)] == [
        event_id(n) for n in range(20, 10, -1)
    ]
    await store.close()
    await journal.close()
    place.staging.close()


numbers = st.integers(1, 12)
brought = st.lists(st.lists(st.lists(numbers, max_size=8), max_size=3), min_size=1, max_size=4)


@pytest.mark.campaign
@pytest.mark.hypothesis
@settings(max_examples=25, deadline=None)
@given(brought)
def test_repeated_and_split_batches_store_each_record_once(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[list[int]]]
) -> None:
    place = Place(tmp_path_factory.mktemp("any"))
    seen: set[int] = set()
    for batch in batches:
        files = [[a_record(eventID=event_id(n)) for n in file] for file in batch]
        written, doubled, taken = place.bring(*files)
        brought = [n for file in batch for n in file]
        assert written == len(set(brought) - seen)
        assert written + sum(doubled.values()) == len(brought)
        assert not taken
        seen |= set(brought)
    assert place.held().keys() == {event_id(n) for n in seen}
    place.staging.close()
