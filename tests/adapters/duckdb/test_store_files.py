"""The files of a store have each selected event once, whatever interrupts their writing."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.adapters.data_directory import folder_files
from opentrail.adapters.data_directory.folder_files import FolderFiles
from opentrail.adapters.data_directory.sealed_file_names import SealedFile, Series, read_name
from opentrail.adapters.duckdb import seal, store_files, store_folders
from opentrail.adapters.duckdb.store_files import Contents, create_view
from opentrail.adapters.duckdb.store_folders import SETTINGS, StoreMaker
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.app.cluster import shared_files
from opentrail.app.cluster.listed_stores import ListedStoreFiles, LocalQueries, files_of
from opentrail.core import faults
from opentrail.core.errors import QueryFailed, StorageFailed
from opentrail.core.event_data_store import EventDataStore, Phase
from opentrail.imports import store_process
from opentrail.lake.dialect import engine
from opentrail.lake.samples import SAMPLES
from opentrail.lake.store_registry import KIND
from opentrail.ports.control import Put
from opentrail.ports.event_store import SharedFile
from opentrail.ports.queries import LogFile, LogFileOutcome
from tests.adapters.duckdb.test_query_child import answers
from tests.factories import (
    ACCOUNT,
    MOMENT,
    REGION,
    a_data_record,
    a_new_entry,
    a_record,
    an_audit_record,
    an_insight_record,
    event_id,
    real_records,
)
from tests.fakes import Breaker, MemoryControl, PowerCutError, SettableClock, run

pytestmark = pytest.mark.slow

ID = "0a1b2c3d-0000-4000-8000-00000000000a"
OTHER = "210987654321"
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
FAR_AHEAD = datetime(9999, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 30, tzinfo=UTC)
#: Begins the keys of the lists.
SCOPE = "installation/"


def selecting(*categories: str) -> list[dict[str, Any]]:
    return [
        {"FieldSelectors": [{"Field": "eventCategory", "Equals": [each]}]} for each in categories
    ]


ALL = selecting("Management", "Data")


def a_store(*phases: Phase, **changes: Any) -> EventDataStore:
    store = EventDataStore(
        id=ID,
        name="a-store",
        account=ACCOUNT,
        region=REGION,
        selectors=ALL,
        multi_region=True,
        retention=3_653,
        billing="EXTENDABLE_RETENTION_PRICING",
        is_protected=False,
        created_at="2020-01-01T09:00:00.000000+00:00",
        updated_at="2020-01-01T09:00:00.000000+00:00",
        is_ingesting=True,
        phases=phases or (Phase(0, ALL, every_region=True),),
    )
    return replace(store, **changes)


async def work_here(work: str, *arguments: object, **_: Any) -> list[Path]:
    """Does the work of a child process in a thread, which takes far less time."""
    return await asyncio.to_thread(seal._work, work, [str(each) for each in arguments])


async def files_made_here(work: str, *arguments: object) -> list[SealedFile]:
    files = [read_name(path) for path in await work_here(work, *arguments)]
    return [file for file in files if file is not None]


@contextmanager
def children_here() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (store_folders, folder_files, shared_files):
            patch.setattr(module, "run_child", work_here)
        patch.setattr(store_folders, "files_of_child", files_made_here)
        yield


async def unexpected_repair(first: int, last: int) -> None:
    raise AssertionError(f"{first} to {last} are not damaged")


class World:
    """A journal, a control store and the files of a store; servers come and go."""

    def __init__(self, root: Path) -> None:
        self.root, self.journal_folder = root, root / "journal"
        self.journal_folder.mkdir()
        (root / "history").mkdir()
        self.folder = root / "stores" / ID
        self.source = SqliteJournalSource(self.journal_folder)
        self.control = MemoryControl()
        self.clock = SettableClock(NOW)
        self.count = 0

    def write(self, *records: dict[str, Any], origin: str = "recorder") -> None:
        async def append() -> None:
            journal = SqliteJournal(self.journal_folder, segment_bytes=256 * 1024)
            await journal.append([a_new_entry(record, origin=origin) for record in records])
            await journal.close()

        run(append())
        self.count += len(records)

    def server(self, breaker: Breaker | None = None) -> ListedStoreFiles:
        """Returns the files as a new server sees them."""
        control = MemoryControl(self.control.disk, breaker or Breaker())
        maker = StoreMaker(self.root / "new-store-files", self.source, unexpected_repair, "reader")
        return ListedStoreFiles(
            *(FolderFiles(self.root), control, self.root / "stores"),
            *(maker, self.source, self.clock),
            scope=SCOPE,
        )

    def know(self, store: EventDataStore) -> None:
        """Stores the document of a store."""
        run(self.control.apply([Put(KIND, store.key, store.document())]))

    def tend(self, store: EventDataStore, until: int, since: datetime = LONG_AGO) -> None:
        self.know(store)
        with children_here():
            run(self.server().tend(store, until, since))

    def listed(self, store: EventDataStore, series: Series = Series.JOURNAL) -> list[SharedFile]:
        return run(files_of(self.control, store, series, SCOPE))

    def covered(self, store: EventDataStore) -> int:
        return run(self.server().covered(store))

    def parts(self, store: EventDataStore) -> tuple[int, list[str]]:
        """Returns the files that a query reads."""
        with children_here():
            queries = LocalQueries(FolderFiles(self.root), self.control, SCOPE)
            return run(queries.current([store]))["store_parts"][store.id]  # type: ignore[no-any-return]

    def ask(self, statement: str, store: EventDataStore, until: int, **changes: Any) -> Any:
        """Returns the lines that the process of a statement prints."""
        return answers(
            self.root,
            statement,
            stores={"a-store": store.document(), ID: store.document()},
            store_files=str(self.root),
            store_parts={store.id: self.parts(store)},
            until=until,
            **{"now": 1_600_000_000_000_000, "accounts": [ACCOUNT], **changes},
        )

    def query(self, statement: str, store: EventDataStore, until: int, **changes: Any) -> Any:
        """Returns the rows of a statement, which names the store by its name."""
        printed = self.ask(statement, store, until, **changes)
        assert "outcome" in printed[-1], printed
        text = (self.root / "result.rows").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def ids(self, store: EventDataStore, until: int) -> list[str]:
        rows = self.query(f'SELECT eventID FROM "{store.id}" ORDER BY 1', store, until)  # noqa: S608
        return [row[0] for row in rows]

    def files(
        self, store: EventDataStore | None = None, series: Series = Series.JOURNAL
    ) -> list[tuple[int, int, bool]]:
        """Returns the listed ranges, and whether they have no file."""
        files = self.listed(store or a_store(), series)
        assert all(file.name is None or (self.root / file.name).exists() for file in files)
        return [(file.first, file.last, file.name is None) for file in files]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def numbered(first: int, last: int, **changes: Any) -> list[dict[str, Any]]:
    """Returns records with the ids of positions; every third is a data event."""
    return [
        (a_data_record if number % 3 == 0 else a_record)(eventID=event_id(number), **changes)
        for number in range(first, last + 1)
    ]


def ids_of(*positions: int) -> list[str]:
    return sorted(map(event_id, positions))


def test_files_have_the_events_of_each_phase(world: World) -> None:
    world.write(*numbered(1, 30), a_record(eventID=event_id(31), recipientAccountId=OTHER))
    store = a_store(
        Phase(3, ALL, every_region=True),
        Phase(10, selecting("Data"), every_region=True),
        Phase(15, None, every_region=True),
        Phase(25, ALL, every_region=True),
    )
    expected = ids_of(*range(4, 11), 12, 15, *range(26, 31))
    assert world.ids(store, 31) == expected  # from the journal
    world.tend(store, 12)
    assert world.ids(store, 31) == expected
    world.tend(store, 31)
    assert world.files() == [
        *[(4, 10, False), (11, 12, False), (13, 15, False), (16, 25, True), (26, 31, False)],
    ]
    assert world.ids(store, 31) == expected
    assert world.covered(store) == 31


def test_regions_and_accounts_are_selected(world: World) -> None:
    elsewhere = numbered(3, 4, awsRegion="eu-west-1")
    world.write(*numbered(1, 2), *elsewhere, *numbered(5, 6, recipientAccountId=OTHER))
    store = a_store(Phase(0, ALL, every_region=False))
    assert world.ids(store, 6) == ids_of(1, 2)
    world.tend(store, 6)
    assert world.ids(store, 6) == ids_of(1, 2)
    assert world.ids(a_store(), 6) == ids_of(1, 2)  # the list is the cursor


def test_insights_events_are_selected_by_category(world: World) -> None:
    insight = {**an_insight_record(), "eventID": event_id(2)}
    world.write(*numbered(1, 1), insight, *numbered(3, 3))
    for selectors, expected in ((selecting("Insight"), ids_of(2)), (ALL, ids_of(1, 3))):
        store = a_store(Phase(0, selectors, every_region=True))
        assert world.ids(store, 3) == expected
    world.tend(a_store(Phase(0, selecting("Insight"), every_region=True)), 3)
    assert world.ids(store, 3) == ids_of(2)


def test_channels_events_are_selected_by_phase(world: World) -> None:
    one, two = (f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:channel/{name}" for name in "cd")
    selectors = selecting("ActivityAuditLog")
    world.write(*numbered(1, 1))
    for first in (2, 5, 8):
        channels = [{"channelARN": arn} for arn in (one, two, one)]
        world.write(
            *(
                an_audit_record(eventID=event_id(number), metadata=metadata)
                for number, metadata in enumerate(channels, first)
            ),
            origin="channel",
        )
    world.write(an_audit_record(eventID=event_id(11)))  # from a hook
    store = a_store(
        Phase(0, selectors, False, (one,)),
        Phase(4, selectors, False, (one, two)),
        Phase(7, selectors, False, ()),
        selectors=selectors,
        multi_region=False,
    )
    statement = (
        "SELECT eventID, eventData.eventName, eventData.userIdentity.principalId, eventTime,"
        ' metadata.channelARN IS NOT NULL, addendum.reason FROM "a-store" ORDER BY 1'
    )
    expected = ids_of(2, 4, 5, 6, 7)
    rows = world.query(statement, store, 11)
    assert [row[0] for row in rows] == expected
    assert rows[0][1:] == [
        *("CancelOrder", "mary@example.com", "2020-01-01 08:59:00.000", "true", None)
    ]
    for until in (3, 6, 11):
        world.tend(store, until)
        assert world.query(statement, store, 11) == rows
    assert world.covered(store) == 11


def test_later_positions_than_the_querys_stay_hidden(world: World) -> None:
    world.write(*numbered(1, 9))
    assert world.ids(a_store(), 6) == ids_of(*range(1, 7))


@pytest.mark.parametrize("point", ["store.written", "store.uploaded", "store.listed"])
def test_interrupted_step_is_repeated(
    world: World, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_files, "_FILE_RECORDS", 10)
    monkeypatch.setattr(store_files, "_BATCH", 5)
    monkeypatch.setattr(FolderFiles, "merged_files", 8)
    world.write(*numbered(1, 200))
    store = a_store(
        Phase(0, ALL, every_region=True),
        Phase(100, None, every_region=True),
        Phase(110, ALL, every_region=True),
    )
    expected = ids_of(*range(1, 101), *range(111, 201))

    def die() -> None:
        raise PowerCutError

    for number in range(1, 40):
        faults.arm(point, number, die)
        try:
            world.tend(store, 200)
        except PowerCutError:
            assert world.ids(store, 200) == expected
            world.control.disk.clear()
            shutil.rmtree(world.root / "stores", ignore_errors=True)
        else:
            break
        finally:
            faults.arm(point, sys.maxsize, lambda: None)
    assert number > 1
    assert world.ids(store, 200) == expected
    assert not (world.root / "new-store-files").exists()


def test_small_files_are_merged_and_go_an_hour_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderFiles, "merged_files", 8)
    world.write(*numbered(1, 64))
    for until in range(1, 65):
        world.tend(a_store(), until)
    assert len(world.files()) <= 8
    assert world.ids(a_store(), 64) == ids_of(*range(1, 65))
    assert len(list(world.folder.glob("*.parquet"))) > len(world.files())
    world.clock.advance(4_000)
    world.tend(a_store(), 64)
    assert len(list(world.folder.glob("*.parquet"))) == len(world.files())
    assert world.ids(a_store(), 64) == ids_of(*range(1, 65))


def test_events_expire_by_their_time(world: World) -> None:
    old = numbered(1, 5, eventTime="2020-01-01T00:00:00Z")
    new = numbered(6, 9, eventTime="2020-06-01T00:00:00Z")
    world.write(*old, *new)
    store = a_store(retention=90)
    world.tend(store, 7)
    now = {"now": int(datetime(2020, 7, 1, tzinfo=UTC).timestamp() * 1e6)}
    query = 'SELECT eventID FROM "a-store" ORDER BY 1'
    assert world.query(query, store, 9, **now) == [[each] for each in ids_of(6, 7, 8, 9)]
    world.tend(store, 7, since=NOW - timedelta(days=90))
    assert world.files() == [(1, 7, False)]  # it was listed today
    world.clock.advance(91 * 86_400)
    world.tend(store, 7, since=NOW + timedelta(days=1))
    assert world.files() == [(1, 7, True)]
    assert world.query(query, store, 9, **now) == [[each] for each in ids_of(8, 9)]


def test_missing_positions_fail_instead_of_being_skipped(world: World) -> None:
    world.write(*numbered(1, 5))
    with pytest.raises(StorageFailed, match="does not hold position 6"):
        world.tend(a_store(), 6)
    assert world.files() == []


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A journal with 40 records, of which every third is a data event."""
    world = World(tmp_path_factory.mktemp("written"))
    world.write(*numbered(1, 40))
    return world


#: Selected categories of a phase; None: ingestion is stopped.
SELECTED = (None, ("Management",), ("Data",), ("Management", "Data"))


@pytest.mark.hypothesis
@settings(max_examples=10)
@given(
    phases=st.dictionaries(st.integers(0, 40), st.sampled_from(SELECTED), min_size=1, max_size=5),
    steps=st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=6),
)
def test_any_phases_and_steps_keep_each_event_once(
    written: World, phases: dict[int, tuple[str, ...] | None], steps: list[tuple[int, bool]]
) -> None:
    store = a_store(
        *(
            Phase(after, None if names is None else selecting(*names), every_region=True)
            for after, names in sorted(phases.items())
        )
    )
    expected = []
    for position in range(1, 41):
        current = [after for after in sorted(phases) if after < position]
        names = phases[current[-1]] if current else None
        if names and ("Data" if position % 3 == 0 else "Management") in names:
            expected.append(position)
    shutil.rmtree(written.folder, ignore_errors=True)
    written.control.disk.clear()

    def die() -> None:
        raise PowerCutError

    for until, is_killed in steps:
        faults.arm("store.written", 1 if is_killed else sys.maxsize, die)
        with suppress(PowerCutError):
            written.tend(store, until)
        faults.arm("store.written", sys.maxsize, die)
    connection = duckdb.connect(":memory:")
    engine.prepare(connection)
    end, read = written.parts(store)
    files = [written.root / name for name in read]
    contents = Contents(files, 0, end)
    create_view(connection, "found", store, lambda: contents, written.source, 40, MOMENT)
    rows = connection.execute("SELECT eventid FROM found ORDER BY 1").fetchall()
    connection.close()
    assert [row[0] for row in rows] == ids_of(*expected)


def trimmed(world: World) -> int:
    """Trims the journal's first segment; returns the first position that it still has."""
    world.write(*(record for first in range(1, 900, 100) for record in numbered(first, first + 99)))
    segments = sorted(world.journal_folder.glob("*.db"))
    assert len(segments) > 1
    segments[0].unlink()
    return int(segments[1].stem)


def problem(world: World, store: EventDataStore) -> str:
    """Returns the one problem of a store's files, which its queries name."""
    with children_here():
        files = world.server()
        run(files.tend(store, world.count, LONG_AGO))
    (found,) = files.problems
    with pytest.raises(QueryFailed) as failed:
        world.parts(store)
    assert str(failed.value) == found
    return found


def accept(world: World, found: str) -> None:
    """Accepts a loss with the file that its problem names."""
    (name,) = re.findall(r"accept the loss with an empty file (\S+)$", found)
    (world.root / name).parent.mkdir(parents=True, exist_ok=True)
    (world.root / name).touch()


def test_trimmed_positions_are_lost_until_accepted(world: World) -> None:
    begin, store = trimmed(world), a_store()
    world.tend(store, world.count)
    found = problem(world, store)
    assert f"positions 1 to {begin - 1} are lost" in found
    accept(world, found)
    world.tend(store, world.count)
    assert world.ids(store, world.count) == ids_of(*range(begin, world.count + 1))
    world.clock.advance(8_000)
    with children_here():
        files = world.server()
        run(files.tend(store, world.count, LONG_AGO))
    assert files.problems == []


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "truncated": lambda path: os.truncate(path, 100),
    "swapped": lambda path: path.write_bytes(b"PAR1" + bytes(1_000) + b"PAR1"),
    "flipped": flip,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_named_until_restored_or_accepted(
    world: World, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = a_store()
    world.write(*numbered(1, 30))
    world.tend(store, 10)
    world.tend(store, 30)
    monkeypatch.setattr(SqliteJournalSource, "first_position", lambda _: 31)
    file = world.listed(store)[0]
    path = world.root / str(file.name)
    whole = path.read_bytes()
    DAMAGES[damage](path)
    assert f"file {file.name} is missing or damaged" in problem(world, store)
    path.write_bytes(whole)
    assert world.ids(store, 30) == ids_of(*range(1, 31))
    DAMAGES[damage](path)
    accept(world, problem(world, store))
    world.tend(store, 30)
    assert world.ids(store, 30) == ids_of(*range(11, 31))
    # A trail's log file has them.
    log_file = gzip.compress(json.dumps({"Records": numbered(1, 15)}).encode())
    add(world, store, [LogFile("s3://bucket/a.json.gz", log_file)], (LONG_AGO, FAR_AHEAD))
    assert world.ids(store, 30) == ids_of(*range(1, 31))


@pytest.mark.parametrize("damage", DAMAGES)
def test_file_is_made_again_from_the_journal(world: World, damage: str) -> None:
    store = a_store()
    world.write(*numbered(1, 30))
    world.tend(store, 10)
    world.tend(store, 30)
    DAMAGES[damage](world.root / str(world.listed(store)[0].name))
    with children_here():
        files = world.server()
        run(files.tend(store, 30, LONG_AGO))
    assert files.problems == []
    assert world.ids(store, 30) == ids_of(*range(1, 31))


def test_deleted_folder_is_no_empty_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store = a_store()
    world.write(*numbered(1, 30))
    world.tend(store, 30)
    monkeypatch.setattr(SqliteJournalSource, "first_position", lambda _: 31)
    shutil.rmtree(world.root / "stores")
    assert "is missing or damaged" in problem(world, store)


def test_merge_refuses_a_damaged_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FolderFiles, "merged_files", 3)
    store = a_store()
    world.write(*numbered(1, 30))
    for until in (10, 20):
        world.tend(store, until)
    monkeypatch.setattr(SqliteJournalSource, "first_position", lambda _: 21)
    server = world.server()
    with children_here():
        run(server.tend(store, 20, LONG_AGO))
        flip(world.root / str(world.listed(store)[0].name))
        with pytest.raises(StorageFailed, match="is missing or damaged"):
            run(server.tend(store, 30, LONG_AGO))
    assert world.covered(store) == 30  # new events are written
    assert len(world.files()) == 3


def test_foreign_file_is_never_read(world: World) -> None:
    store = a_store()
    world.write(*numbered(1, 30))
    world.tend(store, 30)
    (path,) = world.folder.glob("*.parquet")
    foreign = path.with_name(
        path.name.replace(f"{1:020d}", f"{31:020d}", 1).replace(f"{30:020d}", f"{60:020d}", 1)
    )
    foreign.write_bytes(path.read_bytes())
    world.tend(store, 30)
    assert world.ids(store, 30) == ids_of(*range(1, 31))
    world.clock.advance(4_000)
    world.tend(store, 30)
    assert not foreign.exists()


def test_files_from_before_the_lists_are_taken_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = a_store()
    world.write(*numbered(1, 30))
    for until in (10, 20):
        world.tend(store, until)
    world.control.disk.clear()
    for path in world.folder.glob("*.parquet"):  # as an earlier release named them
        path.rename(path.with_name(f"{path.stem.rsplit('-', 1)[0]}.parquet"))
    monkeypatch.setattr(SqliteJournalSource, "first_position", lambda _: 21)
    world.tend(store, 30)
    assert world.files() == [(1, 10, False), (11, 20, False), (21, 30, False)]
    assert world.ids(store, 30) == ids_of(*range(1, 31))


def test_damaged_file_fails_queries_but_no_writing(world: World) -> None:
    world.write(*numbered(1, 5))
    world.tend(a_store(), 5)
    (path,) = world.folder.glob("*.parquet")
    parts = world.parts(a_store())
    path.write_bytes(b"damaged")
    world.write(*numbered(6, 9))
    world.tend(a_store(), 9)
    assert world.covered(a_store()) == 9
    path.write_bytes(b"damaged after it was checked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "parts", lambda *_: parts)
        printed = world.ask('SELECT eventID FROM "a-store"', a_store(), 5)
    failure = "a file of an event data store cannot be read: run opentrail verify-store"
    assert printed[-1] == {"failed": failure}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A store with half of the real records in files; the others are in the journal only."""
    world = World(tmp_path_factory.mktemp("real"))
    records = [
        {**record, "recipientAccountId": ACCOUNT, "eventID": event_id(number)}
        for number, record in enumerate(real_records())
    ]
    odd = a_record(
        eventID=event_id(999),
        eventTime="2023-01-01T00:00:00Z",
        requestParameters={"a/b": None, "it's": {"x": [1, 2.50]}, "": "empty", "n": 1e3},
        additionalEventData=None,
        resources=[{"ARN": "arn:aws:s3:::b", "type": "AWS::S3::Bucket"}, {"accountId": "1"}],
        readOnly="true",
        userAgent="\u00e9\u0000",
    )
    records.insert(len(records) // 2, odd)
    world.write(*records)
    world.tend(a_store(), len(records) // 2 + 1)
    return world


def both(world: World, statement: str) -> tuple[Any, Any]:
    """Returns the rows of a statement over event history, and over the store."""
    store = a_store()
    history = world.query(statement, store, world.count)
    return history, world.query(statement.replace("event_history", '"a-store"'), store, world.count)


def test_store_has_the_columns_of_event_history(real: World) -> None:
    history, store = both(real, "SELECT * FROM event_history ORDER BY eventID")
    assert len(history) == real.count
    for ours, theirs in zip(store, history, strict=True):
        assert ours == theirs


# Each takes two processes.
@pytest.mark.parametrize("sample", SAMPLES[::6], ids=lambda sample: sample.name)
def test_samples_have_the_same_rows(real: World, sample: Any) -> None:
    # Rows with equal counts have no order, so a limit may cut either.
    history, store = both(real, re.sub(r"LIMIT \d+", "", sample.statement))
    assert sorted(history, key=str) == sorted(store, key=str)


def test_store_and_history_are_joined(real: World) -> None:
    rows = real.query(
        f"SELECT count(*) FROM event_history h JOIN {ID} s ON h.eventID = s.eventID"  # noqa: S608
        ' JOIN "a-store" t ON t.eventJson = s.eventJson',
        a_store(),
        real.count,
    )
    assert rows == [[str(real.count)]]


def test_locked_engine_reads_only_the_files_of_named_stores(real: World, tmp_path: Path) -> None:
    copy = tmp_path / "other.parquet"
    (path,) = real.folder.glob("*.parquet")
    copy.write_bytes(path.read_bytes())
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET allowed_paths = $1", [[str(path)]])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        for name in (f"{path}", f"{path.parent}/./{path.name}"):
            assert connection.execute(f"SELECT 1 FROM '{name}' LIMIT 1").fetchall() == [(1,)]  # noqa: S608
        for name in (f"{copy}", f"{path.parent}/*.parquet", f"{path.parent}/{SETTINGS}"):
            with pytest.raises(duckdb.Error):
                connection.execute(f"SELECT * FROM '{name}'").fetchall()  # noqa: S608


def test_large_records_fit_into_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FolderFiles, "merged_files", 3)
    large = {"text": "x" * 200_000}
    world.write(*(a_record(eventID=event_id(n), requestParameters=large) for n in range(1, 101)))
    store = a_store(Phase(0, ALL, every_region=True))
    world.tend(store, 100)
    assert world.files() == [(1, 100, False)]
    copied(world, store, *range(101, 201), **large)
    assert imported(world, store) == [(1, 100, False)]
    assert world.ids(store, 100) == sorted(map(event_id, range(1, 201)))


# Copied events


def copied(world: World, store: EventDataStore, *numbers: int, **parameters: str) -> None:
    """Adds events to the store as an import does."""
    records = [a_record(eventID=event_id(each), requestParameters=parameters) for each in numbers]
    file = LogFile("s3://bucket/a.json", json.dumps({"Records": records}).encode())
    whole = (LONG_AGO, datetime(2100, 1, 1, tzinfo=UTC))
    assert add(world, store, [file], whole) == [LogFileOutcome(len(numbers))]


def add(
    world: World,
    store: EventDataStore,
    files: list[LogFile],
    between: tuple[datetime, datetime],
) -> list[LogFileOutcome]:
    """Adds log files to a store; their process runs in a thread."""
    world.know(store)

    async def read_here(folder: str, spool: Path, *, module: str) -> list[Path]:
        assert module == "reader"
        outcomes = await asyncio.to_thread(store_process.add, Path(folder), spool)
        (spool / "outcomes.json").write_bytes(msgspec.json.encode(outcomes))
        return []

    async def child(work: str, *arguments: Any, module: str = "", **more: Any) -> list[Path]:
        if module == "reader":
            return await read_here(work, *arguments, module=module)
        return await work_here(work, *arguments, **more)

    with children_here(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_folders, "run_child", child)
        return run(world.server().add(store, world.count, files, between))


def imported(world: World, store: EventDataStore) -> list[tuple[int, int, bool]]:
    return world.files(store, Series.IMPORTED)


def test_copied_events_are_added_once(world: World) -> None:
    store = a_store(Phase(0, ALL, every_region=True))
    world.write(*(a_record(eventID=event_id(number)) for number in (1, 2)))
    copied(world, store, 2, 3, 4, 3)
    assert imported(world, store) == [(1, 2, False)]
    copied(world, store, 3, 4)
    copied(world, store, 4, 5)
    assert imported(world, store) == [(1, 2, False), (3, 3, False)]
    assert world.covered(store) == 2
    assert world.ids(store, 2) == sorted(map(event_id, range(1, 6)))


@pytest.mark.parametrize("point", ["store.written", "store.uploaded", "store.listed"])
def test_killed_copy_is_repeated(world: World, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = a_store(Phase(0, ALL, every_region=True))
    monkeypatch.setattr(store_files, "_FILE_RECORDS", 2)

    def die() -> None:
        raise PowerCutError

    for number in (1, 2, 3):
        faults.arm(point, number, die)
        try:
            with suppress(PowerCutError):
                copied(world, store, *range(1, 7))
        finally:
            faults.arm(point, sys.maxsize, die)
        found = world.ids(store, 0)
        assert len(found) == len(set(found))
        assert set(found) <= set(ids_of(*range(1, 7)))
    copied(world, store, *range(1, 7))
    assert imported(world, store)[-1][1] == 6
    assert world.ids(store, 0) == ids_of(*range(1, 7))
    world.clock.advance(8_000)
    world.tend(store, 0)
    world.clock.advance(8_000)
    world.tend(store, 0)
    assert len(list(world.folder.glob("*.parquet"))) == len(imported(world, store))
    assert world.ids(store, 0) == ids_of(*range(1, 7))


def test_copied_files_are_merged_and_expire(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store = a_store(Phase(0, ALL, every_region=True))
    monkeypatch.setattr(FolderFiles, "merged_files", 3)
    for number in range(1, 9):
        copied(world, store, number)
    assert len(imported(world, store)) < 8
    assert world.ids(store, 0) == ids_of(*range(1, 9))
    world.clock.advance(86_400)
    world.tend(store, 0, NOW + timedelta(hours=1))
    assert all(is_expired for _, _, is_expired in imported(world, store))
    assert world.ids(store, 0) == []
    copied(world, store, 9)
    assert imported(world, store)[-1] == (9, 9, False)
