"""The files of a store have each selected event once, whatever interrupts their writing."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.adapters.duckdb import store_files
from opentrail.adapters.duckdb.store_files import adding, contents_of, create_view, tend
from opentrail.adapters.sealed_file_names import Series, is_whole, sealed_files
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.adapters.store_folders import SETTINGS, covered
from opentrail.core import faults
from opentrail.core.event_data_store import EventDataStore, Phase
from opentrail.lake.dialect import engine
from opentrail.lake.samples import SAMPLES
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
from tests.fakes import PowerCutError, run

pytestmark = pytest.mark.slow

ID = "0a1b2c3d-0000-4000-8000-00000000000a"
OTHER = "210987654321"
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


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


class World:
    """A journal and the folder of a store."""

    def __init__(self, root: Path) -> None:
        self.root, self.journal_folder = root, root / "journal"
        self.journal_folder.mkdir()
        (root / "history").mkdir()
        self.folder = root / "stores" / ID
        self.folder.mkdir(parents=True)
        self.source = SqliteJournalSource(self.journal_folder)
        self.count = 0

    def write(self, *records: dict[str, Any], origin: str = "recorder") -> None:
        async def append() -> None:
            journal = SqliteJournal(self.journal_folder, segment_bytes=256 * 1024)
            await journal.append([a_new_entry(record, origin=origin) for record in records])
            await journal.close()

        run(append())
        self.count += len(records)

    def tend(self, store: EventDataStore, until: int, since: datetime = LONG_AGO) -> list[str]:
        (self.folder / SETTINGS).write_bytes(orjson.dumps(store.document()))
        return [path.name for path in tend(self.source, self.folder, until, since)]

    def ask(self, statement: str, store: EventDataStore, until: int, **changes: Any) -> Any:
        """Returns the lines that the process of a statement prints."""
        return answers(
            self.root,
            statement,
            stores={"a-store": store.document(), ID: store.document()},
            store_files=str(self.root / "stores"),
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

    def files(self) -> list[tuple[int, int, bool]]:
        """Returns the ranges in the folder, and whether they are marks."""
        files = sealed_files(self.folder, Series.JOURNAL)
        assert all(is_whole(file) for file in files)
        return [(file.first, file.last, file.is_expired) for file in files]


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
    assert covered(world.folder, store) == 31


def test_regions_and_accounts_are_selected(world: World) -> None:
    elsewhere = numbered(3, 4, awsRegion="eu-west-1")
    world.write(*numbered(1, 2), *elsewhere, *numbered(5, 6, recipientAccountId=OTHER))
    store = a_store(Phase(0, ALL, every_region=False))
    assert world.ids(store, 6) == ids_of(1, 2)
    world.tend(store, 6)
    assert world.ids(store, 6) == ids_of(1, 2)
    assert world.ids(a_store(), 6) == ids_of(1, 2)  # the names are the cursor


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
    assert covered(world.folder, store) == 11


def test_later_positions_than_the_querys_stay_hidden(world: World) -> None:
    world.write(*numbered(1, 9))
    assert world.ids(a_store(), 6) == ids_of(*range(1, 7))


@pytest.mark.parametrize("point", ["store.written", "store.merged", "history.expired"])
def test_interrupted_step_is_repeated(
    world: World, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_files, "_FILE_RECORDS", 10)
    monkeypatch.setattr(store_files, "_BATCH", 5)
    monkeypatch.setattr(store_files, "MERGED_FILES", 8)
    world.write(*numbered(1, 200))
    store = a_store(
        Phase(0, ALL, every_region=True),
        Phase(100, None, every_region=True),
        Phase(110, ALL, every_region=True),
    )
    expected = ids_of(*range(1, 101), *range(111, 201))

    def die() -> None:
        raise PowerCutError

    crashes = 0
    while True:
        faults.arm(point, 1, die)
        try:
            world.tend(store, 200)
        except PowerCutError:
            crashes += 1
        else:
            break
        finally:
            faults.arm(point, sys.maxsize, lambda: None)
        assert world.ids(store, 200) == expected
        if point == "store.written" or crashes > 3:  # it would never pass
            world.tend(store, 200)
            break
    assert crashes
    assert world.ids(store, 200) == expected
    assert not list(world.folder.glob("*.tmp*"))


def test_small_files_are_merged_and_go_an_hour_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_files, "MERGED_FILES", 8)
    world.write(*numbered(1, 64))
    for until in range(1, 65):
        world.tend(a_store(), until)
    assert len(world.files()) <= 8
    assert world.ids(a_store(), 64) == ids_of(*range(1, 65))
    count = len(list(world.folder.glob("*.parquet")))
    assert count > len(world.files())
    for path in world.folder.glob("*.parquet"):
        os.utime(path, (0, 0))
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
    world.tend(store, 7, since=datetime(2020, 4, 1, tzinfo=UTC))
    assert world.files() == [(1, 7, False)]  # some are newer
    world.tend(store, 7, since=datetime(2020, 6, 2, tzinfo=UTC))
    assert world.files() == [(1, 7, True)]
    assert world.query(query, store, 9, **now) == [[each] for each in ids_of(8, 9)]


def test_missing_positions_fail_instead_of_being_skipped(world: World) -> None:
    world.write(*numbered(1, 5))
    with pytest.raises(RuntimeError, match="does not hold position 6"):
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
    shutil.rmtree(written.folder)
    written.folder.mkdir()

    def die() -> None:
        raise PowerCutError

    for until, is_killed in steps:
        faults.arm("store.written", 1 if is_killed else sys.maxsize, die)
        with suppress(PowerCutError):
            written.tend(store, until)
        faults.arm("store.written", sys.maxsize, die)
    connection = duckdb.connect(":memory:")
    engine.prepare(connection)
    contents = partial(contents_of, written.folder, store)
    create_view(connection, "found", store, contents, written.source, 40, MOMENT)
    rows = connection.execute("SELECT eventid FROM found ORDER BY 1").fetchall()
    connection.close()
    assert [row[0] for row in rows] == ids_of(*expected)


def test_trimmed_positions_are_marked(world: World) -> None:
    world.write(*(record for first in range(1, 900, 100) for record in numbered(first, first + 99)))
    segments = sorted(world.journal_folder.glob("*.db"))
    assert len(segments) > 1
    segments[0].unlink()
    begin = int(segments[1].stem)
    assert world.tend(a_store(), world.count) == [f"{1:020d}-{begin - 1:020d}.expired"]
    assert world.ids(a_store(), world.count) == ids_of(*range(begin, world.count + 1))
    assert world.tend(a_store(), world.count) == []


def test_damaged_file_fails_queries_but_no_writing(world: World) -> None:
    world.write(*numbered(1, 5))
    world.tend(a_store(), 5)
    (path,) = world.folder.glob("*.parquet")
    path.write_bytes(b"damaged")
    printed = world.ask('SELECT eventID FROM "a-store"', a_store(), 5)
    failure = "a file of an event data store cannot be read: run opentrail verify-store"
    assert printed[-1] == {"failed": failure}
    world.write(*numbered(6, 9))
    with pytest.raises(duckdb.Error):
        world.tend(a_store(), 9, since=datetime(2000, 1, 1, tzinfo=UTC))
    assert covered(world.folder, a_store()) == 9


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
    monkeypatch.setattr(store_files, "MERGED_FILES", 3)
    large = {"text": "x" * 200_000}
    world.write(*(a_record(eventID=event_id(n), requestParameters=large) for n in range(1, 101)))
    store = a_store(Phase(0, ALL, every_region=True))
    world.tend(store, 100)
    assert world.files() == [(1, 100, False)]
    copied(world, *range(101, 201), **large)
    assert imported(world) == [(1, 100, False)]
    assert world.ids(store, 100) == sorted(map(event_id, range(1, 201)))


# Copied events


def copied(world: World, *numbers: int, **parameters: str) -> None:
    """Adds events to the store as an import does."""
    with adding(world.folder) as additions:
        for number in numbers:
            record = a_record(eventID=event_id(number), requestParameters=parameters)
            additions.add(event_id(number), MOMENT, orjson.dumps(record))


def imported(world: World) -> list[tuple[int, int, bool]]:
    files = sealed_files(world.folder, Series.IMPORTED)
    assert all(is_whole(file) for file in files)
    return [(file.first, file.last, file.is_expired) for file in files]


def test_copied_events_are_added_once(world: World) -> None:
    store = a_store(Phase(0, ALL, every_region=True))
    world.write(*(a_record(eventID=event_id(number)) for number in (1, 2)))
    world.tend(store, 2)
    copied(world, 2, 3, 4, 3)
    assert imported(world) == [(1, 2, False)]
    copied(world, 3, 4)
    copied(world, 4, 5)
    assert imported(world) == [(1, 2, False), (3, 3, False)]
    assert covered(world.folder, store) == 2
    assert world.ids(store, 2) == sorted(map(event_id, range(1, 6)))


def test_killed_copy_is_repeated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store = a_store(Phase(0, ALL, every_region=True))
    world.tend(store, 0)
    monkeypatch.setattr(store_files, "_FILE_RECORDS", 2)

    def die() -> None:
        raise PowerCutError

    for done in (1, 2):
        faults.arm("store.written", 2, die)
        with suppress(PowerCutError):
            copied(world, *range(1, 7))
        assert len(imported(world)) == done
    faults.arm("store.written", sys.maxsize, die)
    copied(world, *range(1, 7))
    assert imported(world) == [(1, 2, False), (3, 4, False), (5, 6, False)]
    assert world.ids(store, 0) == sorted(map(event_id, range(1, 7)))


def test_copied_files_are_merged_and_expire(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store = a_store(Phase(0, ALL, every_region=True))
    world.tend(store, 0)
    monkeypatch.setattr(store_files, "MERGED_FILES", 3)
    for number in range(1, 8):
        copied(world, number)
    copied(world, 8)
    assert imported(world) == [(1, 7, False), (8, 8, False)]
    assert world.ids(store, 0) == sorted(map(event_id, range(1, 9)))
    world.tend(store, 0, datetime(2021, 1, 1, tzinfo=UTC))
    assert all(is_expired for _, _, is_expired in imported(world))
    assert world.ids(store, 0) == []
    copied(world, 9)
    assert imported(world)[-1] == (9, 9, False)
