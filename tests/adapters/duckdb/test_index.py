"""The index of a sealed file; the stores' contract tests lookups through it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.adapters.data_directory.sealed_file_names import Series, read_name
from opentrail.adapters.duckdb import index as module
from opentrail.adapters.duckdb.index import MAX_PLACES, Index, hash_of, probe
from opentrail.adapters.duckdb.record_columns import PARTS, ColumnPartitioning
from opentrail.adapters.duckdb.schema import insert_sealed, row_of
from opentrail.adapters.duckdb.seal import merge, seal
from opentrail.adapters.duckdb.sealed_file import Sealing, write_sealed
from opentrail.adapters.duckdb.staging import Duplicates, Staging
from opentrail.adapters.duckdb.store import DuckdbEvents
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.attributes import attributes_of
from opentrail.core.expression import Text
from opentrail.ports.event_store import EventQuery
from tests.factories import (
    a_new_entry,
    a_record,
    an_entry,
    event_id,
    record_bytes,
    some_records,
)
from tests.fakes import asynchronous

pytestmark = pytest.mark.slow

DATABASE = duckdb.connect(":memory:", config={"threads": 1})


def a_file(folder: Path, first: int, last: int, series: Series) -> Path:
    sign = -1 if series is Series.IMPORTED else 1
    rows = []
    for number in range(first, last + 1):
        record = a_record(
            eventID=event_id(number),
            eventCategory="Data" if number % 2 else "Management",
            requestParameters={"userName": f"user-{number % 3}"},
            responseElements=None,
        )
        rows.append(row_of(an_entry(sign * number, record), attributes_of(record)))

    def fill(connection: duckdb.DuckDBPyConnection) -> int:
        for statement, arguments in insert_sealed(rows, ColumnPartitioning()):
            connection.execute(statement, arguments)
        return last

    return write_sealed(Sealing(folder, series, first), fill)


@asynccontextmanager
async def a_sealed_store(folder: Path, count: int) -> AsyncIterator[DuckdbEvents]:
    """Yields a store with this number of records, all in one sealed file."""
    for name in ("history", "journal"):
        (folder / name).mkdir()
    journal = SqliteJournal(folder / "journal")
    await journal.append([a_new_entry(record) for record in some_records(count)])
    seal(SqliteJournalSource(folder / "journal"), folder / "history", 1, count)
    store = DuckdbEvents(folder / "history", SqliteJournalSource(folder / "journal"))
    await store.open()
    yield store
    await store.close()
    await journal.close()


def found(path: Path, condition: str, arguments: list[Any]) -> list[int]:
    with duckdb.connect(":memory:") as database:
        database.execute(f"ATTACH '{path}' AS x (READ_ONLY)")
        rows = database.execute(
            f"SELECT position FROM x.events WHERE {condition} ORDER BY abs(position)",  # noqa: S608
            arguments,
        ).fetchall()
    return [row[0] for row in rows]


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
def test_hash_is_the_same_here_and_in_sql(text: str) -> None:
    asked = f"SELECT {module.HASH.format('?')}"
    assert DATABASE.execute(asked, [text]).fetchall() == [(hash_of(text),)]


@pytest.mark.parametrize("series", Series)
@pytest.mark.parametrize("is_merged", [False, True])
def test_ids_and_names_lead_to_their_rows(tmp_path: Path, series: Series, is_merged: bool) -> None:
    parts = [a_file(tmp_path, first, first + 9, series) for first in (11, 21, 31)]
    path = merge(parts) if is_merged else parts[0]
    named = read_name(path)
    assert named is not None
    index = Index("x", named.first, series)
    sign = -1 if series is Series.IMPORTED else 1
    numbers = range(named.first, named.last + 1)
    for number in numbers:
        assert found(path, *index.has_id(event_id(number))) == [sign * number]
    assert found(path, *index.has_id("none")) == []
    for user in range(3):
        expected = [sign * number for number in numbers if number % 3 == user]
        name = f"user-{user}"
        assert found(path, *index.has_resource(name)) == expected
        assert found(path, index.has_resource_where("name LIKE ?"), [f"%-{user}"]) == expected
    assert found(path, *index.has_resource("user-9")) == []
    found_by_prefix = found(path, index.has_resource_where("name LIKE ?"), ["user%"])
    assert found_by_prefix == [sign * number for number in numbers]


@pytest.mark.parametrize("is_merged", [False, True])
def test_a_probe_returns_the_rows_of_selected_categories(tmp_path: Path, is_merged: bool) -> None:
    parts = [a_file(tmp_path, first, first + 9, Series.JOURNAL) for first in (11, 21)]
    path = merge(parts) if is_merged else parts[0]
    named = read_name(path)
    assert named is not None

    def probed(key: str, value: str, *categories: str) -> list[int]:
        index = Index("x", named.first, Series.JOURNAL)
        asked = probe([index, index], key, value, categories or None)
        with duckdb.connect(":memory:") as database:
            database.execute(f"ATTACH '{path}' AS x (READ_ONLY)")
            rows = database.execute(*asked).fetchall()
            places, same = (
                [place for number, part in rows if number == own for place in part]
                for own in (0, 1)
            )
            assert places == same
            parts = dict(database.execute("SELECT rowid, part FROM x.events").fetchall())
            assert all(parts[place // PARTS] == place % PARTS for place in places)
            return sorted(place // PARTS for place in places)

    numbers = range(named.first, named.last + 1)
    for wanted in (set(), {"Management"}, {"Data"}, {"Management", "Data"}, {"Insight"}):
        expected = [
            n - named.first
            for n in numbers
            if n % 3 == 1 and (not wanted or ("Data" if n % 2 else "Management") in wanted)
        ]
        assert probed("ResourceName", "user-1", *sorted(wanted)) == expected
    assert probed("EventId", event_id(13)) == [13 - named.first]
    assert probed("EventId", "none") == probed("ResourceName", "none") == []


@asynchronous
async def test_resource_with_many_events_is_found(tmp_path: Path) -> None:
    async with a_sealed_store(tmp_path, 2_500) as store:
        query = EventQuery(50, attribute=("ResourceName", "Mary"))
        found = [event.position for event in await store.lookup(query)]
    assert found == [*range(2_500, 2_450, -1)]


def test_frequent_name_has_several_lists_and_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into_lists = module._INTO_LISTS.replace(f"// {1 << 18}", f"// {500 * PARTS}")
    assert into_lists != module._INTO_LISTS
    monkeypatch.setattr(module, "_INTO_LISTS", into_lists)
    parts = [a_file(tmp_path, first, first + 3_299, Series.JOURNAL) for first in (1, 3_301)]
    for path, count in ((parts[0], 1_100), (merge(parts), 2_200)):
        with duckdb.connect(":memory:") as database:
            database.execute(f"ATTACH '{path}' AS x (READ_ONLY)")
            whole = "SELECT category, places FROM x.resources WHERE name = 'user-1'"
            lists = database.execute(whole).fetchall()
            assert len(lists) > 10
            bands = [(category, place // (500 * PARTS)) for category, ps in lists for place in ps]
            assert len(set(bands)) == len(lists)
            assert len({place for _, ps in lists for place in ps}) == len(bands) == count
            asked = probe([Index("x", 1, Series.JOURNAL)], "ResourceName", "user-1", None)
            probed = sum(len(places) for _, places in database.execute(*asked).fetchall())
            assert probed > MAX_PLACES


@asynchronous
async def test_ids_with_the_same_hash_are_distinguished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attacker could make such ids; here all ids of one length have one hash."""
    monkeypatch.setattr(module, "HASH", "CAST(length({}) AS BIGINT)")
    monkeypatch.setattr(module, "hash_of", len)
    async with a_sealed_store(tmp_path, 60) as store:
        for number in (1, 30, 60):
            query = EventQuery(1, attribute=("EventId", event_id(number)))
            assert [event.position for event in await store.lookup(query)] == [number]
            assert await store.find(event_id(number)) == number
            searched = replace(query, limit=9, expression=Text("CreateUser"))
            assert [event.position for event in await store.lookup(searched)] == [number]
        absent = EventQuery(50, attribute=("EventId", event_id(61)))
        assert await store.lookup(absent) == []
        staging = Staging(tmp_path / "history", SqliteJournalSource(tmp_path / "journal"))
        records = some_records(62)[58:]
        staging.add(0, [(n, attributes_of(r), record_bytes(r)) for n, r in enumerate(records)])
        staging.deduplicate(duplicates := Duplicates())
        assert (dict(duplicates.same), duplicates.other) == ({0: 2}, {})
        staging.close()
