"""Imports read the right log files in order, once, whatever fails or stops them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from opentrail.core import faults
from opentrail.core.event_data_store import EventDataStore
from opentrail.lake import store_importer
from opentrail.lake.store_importer import StoreImporter
from opentrail.lake.store_imports import ImportSource, StoreImport, StoreImports
from opentrail.lake.store_registry import Stores
from opentrail.ports.objects import NewObject
from opentrail.ports.queries import LogFileOutcome
from tests.adapters.duckdb.test_store_files import a_store
from tests.factories import ACCOUNT, MOMENT, REGION
from tests.fakes import (
    MemoryControl,
    MemoryJournal,
    MemoryObjects,
    PowerCutError,
    SettableClock,
    asynchronous,
)
from tests.lake.test_store_keeping import MemoryFiles

BUCKET = "my-bucket"
LOGS = f"AWSLogs/{ACCOUNT}/CloudTrail"


class World:
    def __init__(self) -> None:
        self.control, self.clock = MemoryControl(), SettableClock(MOMENT)
        self.stores = Stores(self.control, MemoryJournal().newest, self.clock)
        self.imports = StoreImports(self.control, self.clock, is_supported=True)
        self.files, self.objects = MemoryFiles(), MemoryObjects(BUCKET)
        self.importer = self.restarted()

    def restarted(self) -> StoreImporter:
        return StoreImporter(
            self.imports, self.stores, self.files, self.objects, self.clock, (0.0, 0.0)
        )

    async def put(self, *keys: str) -> None:
        for key in keys:
            await self.objects.put(NewObject(BUCKET, key, b"content"))

    async def start(self, prefix: str = "", **times: Any) -> StoreImport:
        store = await self.store()
        source = ImportSource(f"s3://{BUCKET}/{prefix}", BUCKET, prefix, REGION, "a-role")
        return await self.imports.start(store, source, times.get("first"), times.get("last"))

    async def store(self) -> EventDataStore:
        stores = await self.stores.all()
        return stores[0] if stores else await self.stores.add(a_store(phases=()))

    async def current(self, of: StoreImport) -> StoreImport:
        found = await self.imports.find(of.account, of.region, of.id)
        assert found is not None
        return found

    def added(self) -> list[str]:
        """Returns the keys of added log files, in order."""
        return [name.removeprefix(f"s3://{BUCKET}/") for name in self.files.added]


def day(
    *names: str, folder: str = LOGS, region: str = REGION, date: str = "2020/01/01"
) -> list[str]:
    return [f"{folder}/{region}/{date}/{name}.json.gz" for name in names]


OTHER_ACCOUNT = f"AWSLogs/210987654321/CloudTrail/{REGION}/2020/01/01/a.json.gz"
OTHER_SERVICE = f"AWSLogs/{ACCOUNT}/Config/{REGION}/2020/1/1/config.json.gz"
DIGEST = f"AWSLogs/{ACCOUNT}/CloudTrail-Digest/{REGION}/2020/01/01/digest.json.gz"
INSIGHTS = f"AWSLogs/{ACCOUNT}/CloudTrail-Insight/{REGION}/2020/01/01/insight.json.gz"


@pytest.mark.parametrize(
    ("prefix", "keys", "prefixes"),
    [
        ("", day("a", "b"), 1),
        ("my/trails", day("a", folder=f"my/trails/{LOGS}"), 1),
        ("", day("a", folder=f"my/trails/{LOGS}"), 1),
        (LOGS, day("a", region="eu-west-1") + day("a", "b", date="2020/01/02"), 2),
        (f"{LOGS}/{REGION}/2020", day("a") + day("b", date="2020/02/01"), 2),
        (f"{LOGS}/{REGION}/2020/01/01", day("a"), 1),
        ("", day("a", folder=f"AWSLogs/o-exampleorgid/{ACCOUNT}/CloudTrail"), 1),
        ("", day("a") + day("a", folder=f"second/{LOGS}"), 2),
        ("second", day("a", folder=f"second/AWSLogs/o-exampleorgid/{ACCOUNT}/CloudTrail"), 1),
        (f"AWSLogs/{ACCOUNT}/CloudTrail-Insight", [INSIGHTS], 1),
        ("CloudTrail", day("a", folder="CloudTrail"), 1),
        (f"CloudTrail/AWSLogs/{ACCOUNT}", day("a", folder=f"CloudTrail/{LOGS}"), 1),
        ("CloudTrailOld", day("a", folder=f"CloudTrailOld/{LOGS}"), 1),
        ("copies", ["copies/a.json.gz", "copies/deep/er/b.json.gz"], 1),
    ],
)
@asynchronous
async def test_folders_of_log_files_are_found(prefix: str, keys: list[str], prefixes: int) -> None:
    world = World()
    own = [key for key in keys if key != INSIGHTS]
    others = [
        OTHER_ACCOUNT,
        OTHER_SERVICE,
        DIGEST,
        INSIGHTS,
        "unrelated.json.gz",
        "copied/a.json.gz",
    ]
    await world.put(*others, *own, *(f"{key}.tmp" for key in own))
    started = await world.start(prefix)
    await world.importer.round()
    done = await world.current(started)
    assert world.added() == sorted(keys)
    assert (done.status, done.prefixes, done.prefixes_done) == ("COMPLETED", prefixes, prefixes)
    assert (done.files, done.events, done.failed) == (len(keys), len(keys), 0)


def at(*numbers: int) -> float:
    return datetime(*numbers, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]


@asynchronous
async def test_dates_in_keys_are_compared_with_the_times() -> None:
    world = World()
    days = ["2018/12/31", "2019/03/01", "2019/03/02", "2019/03/09", "2019/03/10", "2019/03/11"]
    await world.put(*(key for date in days for key in day("a", date=date)))
    flat = [
        f"copies/{ACCOUNT}_CloudTrail_us-east-1_{d.replace('/', '')}T0000Z_x.json.gz" for d in days
    ]
    await world.put(*flat)
    times = {"first": at(2019, 3, 2, 12), "last": at(2019, 3, 9, 1)}
    done = await world.start("", **times)
    await world.importer.round()
    assert world.added() == [key for date in days[2:5] for key in day("a", date=date)]
    assert (await world.current(done)).prefixes == 3
    world.files.added.clear()
    await world.start("copies", **times)
    await world.importer.round()
    assert world.added() == flat[2:5]


@asynchronous
async def test_expired_log_files_are_not_read() -> None:
    world = World()
    await world.stores.add(a_store(phases=(), retention=7))
    await world.put(*day("a", date="2019/12/24"), *day("b", date="2019/12/25"))
    await world.start()
    await world.importer.round()
    assert world.added() == day("b", date="2019/12/25")


@asynchronous
async def test_killed_import_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_importer, "_BATCH_FILES", 4)
    world = World()
    keys = day(*"abcdef") + day(*"abcdef", date="2020/01/02")
    await world.put(*keys)
    failing = LogFileOutcome(2, "InvalidLogFile", "1 not copied")
    world.files.outcomes[f"s3://{BUCKET}/{keys[5]}"] = failing
    started = await world.start()

    def die() -> None:
        raise PowerCutError

    faults.arm("import.copied", 2, die)
    with pytest.raises(PowerCutError):
        await world.importer.round()
    faults.arm("import.copied", 99, die)
    killed = await world.current(started)
    assert (killed.status, killed.files, killed.after) == ("IN_PROGRESS", 4, keys[3])
    await world.restarted().round()
    assert world.added() == keys[:8] + keys[4:]  # the store's files have each event once
    done = await world.current(started)
    assert (done.status, done.files, done.events, done.failed) == ("FAILED", 11, 13, 1)
    assert len(await world.imports.failures(done)) == 1


@asynchronous
async def test_stopped_import_continues_where_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_importer, "_BATCH_FILES", 4)
    world = World()
    keys = day(*"abcdefghijkl")
    await world.put(*keys)
    started = await world.start()
    add = world.files.add

    async def stop(*given: Any) -> list[LogFileOutcome]:
        await world.imports.stop(started)
        return await add(*given)

    monkeypatch.setattr(world.files, "add", stop)
    await world.importer.round()
    stopped = await world.current(started)
    assert (stopped.status, stopped.files, stopped.after) == ("STOPPED", 4, keys[3])
    monkeypatch.undo()
    await world.imports.retry(stopped)
    await world.importer.round()
    assert world.added() == keys
    assert (await world.current(started)).status == "COMPLETED"


@asynchronous
async def test_unreachable_bucket_fails_the_import() -> None:
    world = World()
    await world.put(*day("a"))
    started = await world.start()
    world.objects.down = "EndpointConnectionError"
    for _ in range(2):
        await world.importer.round()
        failed = await world.current(started)
        assert (failed.status, failed.failed) == ("FAILED", 1)
        (failure,) = await world.imports.failures(failed)
        assert (failure.location, failure.error) == (f"s3://{BUCKET}/", "EndpointConnectionError")
        await world.imports.retry(failed)
        assert await world.imports.failures(failed) == []
    world.objects.down = None
    await world.importer.round()
    assert (await world.current(started)).status == "COMPLETED"


@pytest.mark.parametrize("prefix", ["", "AWSLogs", "AWSLogs/210987654321"])
@asynchronous
async def test_import_of_other_accounts_only_names_them(prefix: str) -> None:
    world = World()
    await world.put(OTHER_ACCOUNT)
    started = await world.start(prefix)
    await world.importer.round()
    failed = await world.current(started)
    assert failed.status == "FAILED"
    (failure,) = await world.imports.failures(failed)
    assert failure.error == "OtherAccount"
    assert f"log files of 210987654321, but not of {ACCOUNT}" in failure.message
    assert world.added() == []


@asynchronous
async def test_bucket_without_log_files_completes() -> None:
    world = World()
    await world.put("unrelated.json.gz")
    started = await world.start()
    await world.importer.round()
    done = await world.current(started)
    assert (done.status, done.prefixes, world.added()) == ("COMPLETED", 0, [])


@asynchronous
async def test_search_for_folders_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_importer, "_MAX_FOLDERS", 20)
    world = World()
    await world.put(*(f"many/{number}/a.json.gz" for number in range(30)), *day("a"))
    started = await world.start()
    await world.importer.round()
    failed = await world.current(started)
    assert failed.status == "FAILED"
    (failure,) = await world.imports.failures(failed)
    assert (failure.error, world.added()) == ("TooManyFolders", [])
    for prefix, count in (("AWSLogs", 1), ("many", 30)):
        world.files.added.clear()
        started = await world.start(prefix)
        await world.importer.round()
        assert (await world.current(started)).files == len(world.added()) == count


@asynchronous
async def test_missing_log_file_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    await world.put(*day("a", "b", "c"))
    started, keys = await world.start(), world.objects.keys

    async def list_and_delete(bucket: str, prefix: str, after: str = "") -> list[str]:
        found = await keys(bucket, prefix, after)
        if prefix.endswith("/01/01/"):
            await world.objects.delete(BUCKET, day("b")[0])
        return found

    monkeypatch.setattr(world.objects, "keys", list_and_delete)
    monkeypatch.setattr(store_importer, "MAX_FILE_BYTES", 7)
    await world.objects.delete(BUCKET, day("c")[0])
    await world.objects.put(NewObject(BUCKET, day("c")[0], b"too large"))
    await world.importer.round()
    done = await world.current(started)
    assert (done.status, done.files, done.failed) == ("FAILED", 1, 2)
    failures = await world.imports.failures(done)
    assert [failure.error for failure in failures] == ["NoSuchKey", "TooLarge"]


@asynchronous
async def test_failing_store_delays_no_other_import() -> None:
    world = World()
    await world.put(*day("a"), OTHER_ACCOUNT)
    first = await world.start()
    other = await world.stores.add(
        a_store(id="1" * 36, name="other", account="210987654321", phases=())
    )
    second = await world.imports.start(other, first.source, None, None)
    world.files.fails = "a-store"
    await world.importer.round()
    assert (await world.current(first)).status == "IN_PROGRESS"
    assert world.imports.problems == [f"import {first.id} cannot continue: the disk is full"]
    assert (await world.current(second)).status == "COMPLETED"
    world.files.fails = ""
    await world.importer.round()
    assert (await world.current(first)).status == "COMPLETED"
    assert world.imports.problems == []


@asynchronous
async def test_imports_go_with_their_store() -> None:
    world = World()
    await world.put(*day("a"))
    world.files.outcomes[f"s3://{BUCKET}/{day('a')[0]}"] = LogFileOutcome(0, "InvalidLogFile", "x")
    started, store = await world.start(), await world.store()
    await world.importer.round()
    await world.stores.change(store, lambda c: replace(c, deleted_at=MOMENT.isoformat()))
    await world.importer.round()
    assert len(await world.imports.of(ACCOUNT, REGION)) == 1
    await world.stores.remove(store)
    await world.importer.round()
    assert await world.imports.of(ACCOUNT, REGION) == []
    assert await world.imports.failures(started) == []


@asynchronous
async def test_import_into_a_deleted_store_stops() -> None:
    world = World()
    started, store = await world.start(), await world.store()
    await world.stores.change(store, lambda c: replace(c, deleted_at=MOMENT.isoformat()))
    await world.importer.round()
    assert (await world.current(started)).status == "STOPPED"


@asynchronous
async def test_new_import_wakes_the_importer() -> None:
    world = World()
    await world.put(*day("a"))
    task = asyncio.create_task(world.importer.run())
    await asyncio.sleep(0)
    await world.start()
    async with asyncio.timeout(60):
        await world.files.is_tended.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
