"""What every place for the files of event data stores does."""

from __future__ import annotations

import gzip
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from pyiceberg.table import StaticTable

from opentrail.adapters.data_directory.folder_files import FolderFiles
from opentrail.adapters.duckdb.store_folders import StoreMaker
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.app.cluster.listed_stores import ListedStoreFiles, LocalQueries
from opentrail.app.cluster.site import LOG_FILE_READER
from opentrail.core.errors import StorageFailed
from opentrail.core.event_data_store import EventDataStore, Phase
from opentrail.lake.store_registry import KIND
from opentrail.ports.control import Put
from opentrail.ports.queries import LogFile, LogFileOutcome, StoreFiles
from tests.adapters.duckdb.test_store_files import ALL, SCOPE, a_store, unexpected_repair
from tests.adapters.duckdb.worlds import World
from tests.factories import a_record, event_id
from tests.fakes import MemoryControl, SettableClock, asynchronous

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs/howto/query-with-other-tools.md"
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


CONTROL = MemoryControl()


async def folders(world: World, root: Path, store: EventDataStore) -> StoreFiles:
    """Returns files in the data directory of a new server that has a store."""
    CONTROL.disk.clear()
    await CONTROL.apply([Put(KIND, store.key, store.document())])
    source = SqliteJournalSource(world.journal_folder)
    maker = StoreMaker(root / "new-store-files", source, unexpected_repair, LOG_FILE_READER)
    clock = SettableClock()
    return ListedStoreFiles(
        FolderFiles(root), CONTROL, root / "stores", maker, source, clock, scope=SCOPE
    )


@asynchronous
async def test_files_cover_positions_and_are_removed(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.write(30)
    await world.journal.close()
    store = a_store(Phase(10, ALL, every_region=True))
    files = await folders(world, tmp_path, store)
    assert await files.covered(store) == 10
    await files.tend(store, 20, LONG_AGO)
    assert await files.covered(store) == 20
    await files.tend(store, 30, LONG_AGO)
    assert await files.covered(store) == 30
    await files.remove(store)
    assert await files.covered(store) == 10
    await files.remove(store)


@asynchronous
async def test_published_files_are_an_iceberg_table(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.write(30)
    await world.journal.close()
    store = a_store()
    files = await folders(world, tmp_path, store)
    await files.publish(store)
    for until in (20, 30):
        await files.tend(store, until, LONG_AGO)
        await files.publish(store)
        table = StaticTable.from_metadata(files.table(store)).scan()
        assert table.count() == until
    assert await files.covered(store) == 30
    (example,) = re.findall(r"^```python\n(from pyiceberg.*?)^```", PAGE.read_text(), re.M | re.S)
    found: dict[str, Any] = {}
    exec(example.replace("file:///var/lib/opentrail/stores/ID/iceberg", files.table(store)), found)  # noqa: S102
    assert len(found["events"]) == 15  # every other event is CreateUser
    await files.unpublish(store)
    with pytest.raises(FileNotFoundError):
        StaticTable.from_metadata(files.table(store))
    await files.unpublish(store)


@asynchronous
async def test_missing_events_fail_instead_of_being_skipped(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.write(5)
    await world.journal.close()
    store = a_store()
    files = await folders(world, tmp_path, store)
    with pytest.raises(StorageFailed, match="event data store a-store"):
        await files.tend(store, 6, LONG_AGO)
    assert await files.covered(store) == 0
    await files.tend(store, 5, LONG_AGO)
    assert await files.covered(store) == 5


@asynchronous
async def test_log_files_are_added_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    events = await world.write(20)
    await world.journal.close()
    store = a_store()
    files = await folders(world, tmp_path, store)
    assert files.takes_log_files
    records = [entry.record for entry in events[:5]]
    new = [orjson.dumps(a_record(eventID=event_id(number))) for number in (101, 102)]
    content = gzip.compress(b'{"Records":[%b]}' % b",".join([*records, *new]))
    log_file = LogFile("s3://bucket/a.json.gz", content)
    whole = (LONG_AGO, datetime(2100, 1, 1, tzinfo=UTC))
    for _ in range(2):
        added = await files.add(store, 20, [log_file, log_file], whole)
        assert added == [LogFileOutcome(7), LogFileOutcome(7)]
    assert await files.covered(store) == 20
    assert await ids_in(tmp_path, store) == sorted(
        [json.loads(entry.record)["eventID"] for entry in events] + [event_id(101), event_id(102)]
    )
    (outcome,) = await files.add(store, 20, [LogFile("s3://bucket/b.json.gz", b"text")], whole)
    assert outcome.error == "InvalidLogFile"
    assert await files.add(store, 20, [log_file], (LONG_AGO, LONG_AGO)) == [LogFileOutcome(0)]


async def ids_in(root: Path, store: EventDataStore) -> list[str]:
    """Returns the ids of the events in a store's files."""
    current = await LocalQueries(FolderFiles(root), CONTROL, SCOPE).current([store])
    names = [str(root / name) for name in current["store_parts"][store.id][1]]
    rows = duckdb.execute("SELECT eventid FROM read_parquet($1) ORDER BY 1", [names]).fetchall()
    return [str(row[0]) for row in rows]
