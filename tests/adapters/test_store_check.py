"""The check verifies all events in a data directory, and names each problem."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from opentrail.adapters.duckdb.seal import seal
from opentrail.adapters.postgres.batches import chain_after
from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.adapters.postgres.source import PostgresJournalSource
from opentrail.adapters.queries.query_files import QueryFiles
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.store_check import Damage, StoreCheck
from opentrail.adapters.table_hashes import HASHES, HINT, TableHashes
from opentrail.ports.event_store import SharedFile
from opentrail.ports.queries import QueryStatistics, StoredQuery
from tests.adapters.duckdb.worlds import World
from tests.factories import ACCOUNT, MOMENT, some_new_entries
from tests.fakes import GENESIS, run
from tests.postgres import database_in, shared_server


@pytest.fixture
def world(tmp_path: Path) -> World:
    async def made() -> World:
        world = World(tmp_path)
        await world.write(60)
        await world.seal((1, 20), (21, 40))
        await world.journal.close()
        return world

    return run(made())


def findings(world: World, **options: Any) -> list[Damage]:
    check = StoreCheck(world.journal_folder, world.history, lambda *_: None, **options)
    return list(check.findings())


def test_a_whole_directory_has_no_findings(world: World) -> None:
    seen = [0, 0]

    def advance(size: int, records: int) -> None:
        seen[0] += size
        seen[1] += records

    check = StoreCheck(world.journal_folder, world.history, advance)
    assert check.size > 0
    assert list(check.findings()) == []
    assert (check.segments, check.files, check.records) == (1, 2, 60)
    assert seen[1] == 100
    assert seen[0] > 100 * 300


def test_files_of_event_data_stores_are_verified(world: World) -> None:
    folder = world.history.parent / "stores" / "a-store"
    folder.mkdir(parents=True)
    content = b"rows"
    digest = hashlib.sha256(content).hexdigest()[:16]
    name = f"stores/a-store/{1:020d}-{9:020d}-{digest}-{'0' * 16}.parquet"
    path = world.history.parent / name
    path.write_bytes(content)
    listed = [
        SharedFile(1, 9, name, MOMENT),
        SharedFile(10, 19, None, MOMENT),
    ]
    assert findings(world, listed=listed) == []
    lost = [*listed, SharedFile(20, 29, None, MOMENT, is_lost=True)]
    assert findings(world, listed=lost) == [Damage("stores/", "events are lost", 20, 29)]
    path.write_bytes(b"other")
    assert findings(world, listed=listed) == [
        Damage(name, "its content is not what its name says", 1, 9)
    ]
    path.unlink()
    assert findings(world, listed=listed) == [
        Damage(name, "is missing: restore it from a backup", 1, 9)
    ]
    path.write_bytes(content)
    foreign = path.with_name(f"{30:020d}-{39:020d}-{digest}.parquet")
    foreign.write_bytes(content)
    foreign_name = f"stores/a-store/{foreign.name}"
    assert findings(world, listed=listed, is_live=False, replaced=()) == [
        Damage(foreign_name, "is not in the list of the store's files: opentrail ignores it")
    ]
    assert findings(world, listed=listed, is_live=False, replaced={foreign_name}) == []


def test_results_of_queries_are_verified(world: World) -> None:
    files = QueryFiles(world.history.parent / "queries")
    run(files.open())
    rows = files.result("a-query")
    rows.write_bytes(b"[1]\n")
    statistics = QueryStatistics(1, 1, 1, hashlib.sha256(b"[1]\n").hexdigest())
    query = StoredQuery(
        "a-query", "SELECT 1", ACCOUNT, None, "FINISHED", 1.0, statistics=statistics
    )
    run(files.put(query))
    assert findings(world) == []
    rows.write_bytes(b"[2]\n")
    problem = "its content differs from its hash: run the query again"
    assert findings(world) == [Damage("queries/a-query.rows", problem)]
    rows.unlink()
    (damage,) = findings(world)
    assert (damage.file, damage.problem[:14]) == ("queries/a-query.rows", "cannot be read")
    stored = rows.with_suffix(".json")
    stored.write_bytes(stored.read_bytes().replace(b"SELECT 1", b"SELECT 2"))
    (damage,) = findings(world)
    assert damage.file == "queries/a-query.json"


def test_metadata_of_iceberg_tables_is_verified(world: World) -> None:
    folder = world.history.parent / "stores" / "a-store" / "iceberg" / "metadata"
    folder.mkdir(parents=True)
    files = {"v1.metadata.json": hashlib.sha256(b"{}").hexdigest()}
    (folder / "v1.metadata.json").write_bytes(b"{}")
    (folder / HINT).write_bytes(b"1")
    (folder / HASHES).write_bytes(msgspec.json.encode(TableHashes(1, files)))
    assert findings(world) == []
    (folder / HINT).write_bytes(b"3")
    (damage,) = findings(world)
    assert damage.file == f"stores/a-store/iceberg/metadata/{HINT}"
    assert damage.problem.endswith("a server rewrites the Iceberg table")


def _segment(world: World) -> Path:
    (path,) = world.journal_folder.glob("*.db")
    return path


def alter_a_record(world: World) -> None:
    with closing(sqlite3.connect(_segment(world))) as database:
        database.execute("UPDATE entries SET record = record || ' ' WHERE position IN (7, 33)")
        database.commit()


def remove_a_record(world: World) -> None:
    with closing(sqlite3.connect(_segment(world))) as database:
        database.execute("DELETE FROM entries WHERE position = 50")
        database.commit()


def overwrite_the_segment(world: World) -> None:
    _segment(world).write_bytes(b"nothing" * 1_000)


def flip_a_byte_of_a_sealed_file(world: World) -> None:
    path = sorted(world.history.glob("*.duckdb"))[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "positions"),
    [
        (alter_a_record, {7, 33}),
        (remove_a_record, {50}),
        (overwrite_the_segment, {1}),
        (flip_a_byte_of_a_sealed_file, {21}),
    ],
)
def test_problems_are_named_by_file_and_position(
    world: World, damage: Callable[[World], None], positions: set[int]
) -> None:
    damage(world)
    found = findings(world)
    assert positions <= {one.first for one in found}
    assert all(one.file and one.problem for one in found)


def test_sound_journal_unlike_the_sealed_files_is_named(
    world: World,
) -> None:
    with closing(sqlite3.connect(_segment(world))) as database:
        rows = database.execute("SELECT position, record FROM entries ORDER BY position").fetchall()
        chain = GENESIS
        for position, record in rows:
            changed = record.replace(b"CreateUser", b"CreateRole")
            chain = hashlib.sha256(chain + changed).digest()
            database.execute(
                "UPDATE entries SET record = ?, chain = ? WHERE position = ?",
                (changed, chain, position),
            )
        database.commit()
    assert "disagrees with sealed files" in {one.problem for one in findings(world)}


def test_segment_trimmed_during_the_check_is_not_damage(tmp_path: Path) -> None:
    async def made() -> World:
        world = World(tmp_path)
        await world.journal.close()
        world.journal = SqliteJournal(world.journal_folder, segment_bytes=24 * 1024)
        for _ in range(3):
            await world.write(20)
        await world.seal((1, 50))
        await world.journal.close()
        return world

    world = run(made())
    paths = sorted(world.journal_folder.glob("*.db"))
    assert len(paths) >= 3

    def trim(_size: int, _records: int) -> None:
        paths[0].unlink(missing_ok=True)

    assert list(StoreCheck(world.journal_folder, world.history, trim).findings()) == []


def test_positions_outside_files_and_journal_are_named(
    world: World,
) -> None:
    _segment(world).rename(world.journal_folder / f"{50:020d}.db")
    assert [
        (one.first, one.last) for one in findings(world) if one.problem.startswith("neither")
    ] == [(41, 49)]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["removed", "emptied", "none"])
def test_a_journal_that_ends_early_is_named(world: World, damage: str) -> None:
    if damage == "removed":
        _segment(world).unlink()
    elif damage == "emptied":
        _segment(world).write_bytes(b"")
    known = 60 if damage != "none" else 64
    check = StoreCheck(world.journal_folder, world.history, lambda *_: None, known)
    lost = (61, 64) if damage == "none" else (41, 60)
    assert [(one.file, one.first, one.last) for one in check.findings()] == [("journal", *lost)]
    assert findings(world) == []


def test_a_run_of_missing_records_is_one_finding(world: World) -> None:
    with closing(sqlite3.connect(_segment(world))) as database:
        database.execute("DELETE FROM entries WHERE position BETWEEN 45 AND 49")
        database.execute("DELETE FROM entries WHERE position BETWEEN 52 AND 53")
        database.commit()
    assert [(one.first, one.last) for one in findings(world)] == [(45, 49), (52, 53)]


@pytest.mark.slow
def test_missing_imported_events_are_named_once(tmp_path: Path) -> None:
    async def made() -> list[Path]:
        world = World(tmp_path)
        await world.write(5)
        await world.journal.close()
        return await world.imports(3, 4, 5)

    first, second, third = run(made())

    def problems() -> list[str]:
        check = StoreCheck(tmp_path / "journal", tmp_path / "history", lambda *_: None, 0, 12)
        return [one.problem.rpartition(": ")[2] for one in check.findings()]

    check = StoreCheck(tmp_path / "journal", tmp_path / "history", lambda *_: None)
    assert list(check.findings()) == []
    assert check.records == 5 + 12
    assert problems() == []
    second.unlink()
    assert problems() == ["numbers 4 to 7"]
    first.unlink()
    assert problems() == ["numbers 1 to 7"]
    third.unlink()
    assert problems() == ["numbers 1 to 12"]
    # To acknowledge a loss, an operator makes the empty file named in the server's log.
    (tmp_path / "history" / f"import-{1:020d}-{12:020d}.expired").touch()
    assert problems() == []


def test_a_missing_first_sealed_file_is_named(
    world: World,
) -> None:
    sorted(world.history.glob("*.duckdb"))[0].unlink()
    assert findings(world) == []
    _segment(world).unlink()
    assert [(one.first, one.last) for one in findings(world)] == [(1, 20)]
    (world.history / f"{1:020d}-{20:020d}.expired").touch()
    assert findings(world) == []


def test_files_in_s3_are_not_missing(world: World) -> None:
    gone = sorted(world.history.glob("*.duckdb"))[0]
    gone.unlink()
    _segment(world).unlink()
    cache = world.history.with_name("history-cache")
    cache.mkdir()
    (cache / gone.with_suffix(".index").name).touch()
    assert findings(world) == []


def on_postgresql(folder: Path, url: str) -> list[Damage]:
    source = PostgresJournalSource(url)
    check = StoreCheck(folder / "journal", folder / "history", lambda *_: None, source=source)
    damages = list(check.findings())
    assert check.segments == 0
    assert check.files == 1
    return damages


@pytest.mark.slow
def test_a_journal_on_postgresql_is_verified_against_files(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    url = shared_server().new_database()

    async def write() -> None:
        journal = PostgresJournal(url)
        for number in range(1, 41, 4):
            await journal.append(some_new_entries(4, number))
        await journal.close()

    run(write())
    seal(PostgresJournalSource(url), tmp_path / "history", 1, 20)
    assert on_postgresql(tmp_path, url) == []
    database = database_in(url)
    body = "UPDATE opentrail.batch SET body = '\\x01aa' WHERE first ="
    shared_server().execute(database, f"{body} 25")
    shared_server().execute(database, f"{body} 33")
    damages = on_postgresql(tmp_path, url)
    assert [(damage.first, damage.last) for damage in damages] == [(25, 28), (33, 36)]
    # A whole batch, but another one.
    chain = chain_after(b"", [entry.record for entry in some_new_entries(4, 17)]).hex()
    forged = f"chain_before = '', chain = '\\x{chain}'"
    shared_server().execute(database, f"UPDATE opentrail.batch SET {forged} WHERE first = 17")  # noqa: S608
    assert (20, 20) in [(damage.first, damage.last) for damage in on_postgresql(tmp_path, url)]


def test_an_empty_segment_between_others_is_named(tmp_path: Path) -> None:
    async def made() -> None:
        world = World(tmp_path)
        await world.journal.close()
        world.journal = SqliteJournal(world.journal_folder, segment_bytes=24 * 1024)
        for _ in range(3):
            await world.write(20)
        await world.journal.close()

    run(made())
    first, second = sorted((tmp_path / "journal").glob("*.db"))[:2]
    first.write_bytes(b"")
    check = StoreCheck(tmp_path / "journal", tmp_path / "history", lambda *_: None)
    assert [(one.file, one.first, one.last) for one in check.findings()] == [
        (first.name, 1, int(second.stem) - 1)
    ]
