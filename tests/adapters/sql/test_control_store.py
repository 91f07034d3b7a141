"""The control store: its file, a full disk, sudden death, several writers, lost connections."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from opentrail.adapters.sql.control_store import SqlControl
from opentrail.core.errors import StorageFailed, StoreUnreachable, UsageError
from opentrail.ports.control import Put, Remove, Stored
from tests.fakes import asynchronous, fill, run, small_disk
from tests.postgres import ON_POSTGRESQL, PostgresServer, database_in, own_server, shared_server


def test_only_the_owner_can_access_the_files(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqlControl.in_file(tmp_path / "state.db")
    finally:
        os.umask(before)
    run(store.apply([Put("k", "x", {})]))
    files = list(tmp_path.iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}, files
    run(store.close())


@asynchronous
async def test_other_tools_can_read_documents_as_rows(tmp_path: Path) -> None:
    store = SqlControl.in_file(tmp_path / "state.db")
    await store.apply([Put("k", "x", {"n": 1})])
    await store.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        found = database.execute("SELECT kind, key, version, body FROM documents").fetchall()
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert found == [("k", "x", 1, '{"n":1}')]


@asynchronous
async def test_reading_a_store_does_not_change_it(tmp_path: Path) -> None:
    file = tmp_path / "a #1" / "state.db"
    file.parent.mkdir()
    with pytest.raises(StorageFailed, match="state store cannot be opened"):
        SqlControl.in_read_only_file(file)
    store = SqlControl.in_file(file)
    await store.apply([Put("k", "x", {"n": 1})])
    reader = SqlControl.in_read_only_file(file)  # while it is open, and after it
    assert await reader.get("k", "x") == Stored("x", 1, {"n": 1})
    await reader.close()
    await store.close()
    reader = SqlControl.in_read_only_file(file)
    assert await reader.scan("k") == [Stored("x", 1, {"n": 1})]
    with pytest.raises(StorageFailed, match="readonly"):
        await reader.apply([Put("k", "y", {})])
    await reader.close()


def test_an_invalid_database_is_failed_storage(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"this is not a database " * 100)
    with pytest.raises(StorageFailed, match="state store cannot be opened"):
        SqlControl.in_file(tmp_path / "state.db")


def test_a_missing_folder_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="state store cannot be opened"):
        SqlControl.in_file(tmp_path / "nowhere" / "state.db")


@pytest.mark.anomaly
@asynchronous
async def test_a_full_disk_refuses_whole_changes(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk", 1_000) as disk:
        store = SqlControl.in_file(disk / "state.db")
        await store.apply([Put("k", "first", {"n": 1})])
        filler = fill(disk)
        large = {"text": "x" * 300_000}
        with pytest.raises(StorageFailed, match="full"):
            await store.apply([Put("k", "a", {}), Put("k", "large", large), Remove("k", "first")])
        assert await store.scan("k") == [Stored("first", 1, {"n": 1})]
        filler.unlink()
        await store.apply([Put("k", "large", large)])
        await store.close()
        store = SqlControl.in_file(disk / "state.db")
        assert [stored.key for stored in await store.scan("k")] == ["first", "large"]
        await store.close()


PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.ports.control import Put

async def main():
    store = SqlControl.in_file(Path(sys.argv[1]))
    for number in range(100):
        await store.apply([Put("k", str(number), {"n": number}), Put("k", "last", {"n": number})])
        print(number, flush=True)
        if number == 30:
            os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.anomaly
def test_a_killed_process_loses_no_acknowledged_change(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(file)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    assert killed.returncode == -9
    assert killed.stdout.split()[-1] == "30"

    async def after() -> None:
        store = SqlControl.in_file(file)
        assert len(await store.scan("k")) == 32
        assert await store.get("k", "last") == Stored("last", 31, {"n": 30})
        await store.close()

    run(after())


@asynchronous
async def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "100% ?x=1 #y"
    folder.mkdir()
    store = SqlControl.in_file(folder / "state.db")
    await store.close()
    assert (folder / "state.db").is_file()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:very-secret@h/d",
        "very-secret",
        "postgresql://u:very-secret@h:port/d",
        "postgresql://h:p/d",
    ],
)
def test_another_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        SqlControl(url)
    assert "very-secret" not in str(caught.value)
    assert "control store" in str(caught.value)


def test_without_a_driver_postgresql_is_refused_with_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match="pip install 'opentrail"):
        SqlControl("postgresql://h/d")


# Several writers.

COUNT = """
import asyncio, sys
from pathlib import Path
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.core.errors import Conflict
from opentrail.ports.control import Put, Remove

async def main():
    place = sys.argv[1]
    store = SqlControl(place if "://" in place else Path(place))
    keys = sys.argv[2].split(",")
    for number in range(int(sys.argv[3])):
        while True:
            found = [await store.get("k", key) for key in keys]
            counts = [one.document["n"] + 1 if one else 1 for one in found]
            versions = [one.version if one else 0 for one in found]
            puts = [Put("k", k, {"n": n}, v) for k, n, v in zip(keys, counts, versions)]
            try:
                await store.apply([puts[0], Remove("k", "never there"), *puts[1:]])
            except Conflict:
                continue
            break
    await store.close()

asyncio.run(main())
"""


@pytest.fixture(params=["sqlite", ON_POSTGRESQL])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    if request.param == "sqlite":
        return tmp_path / "state.db"
    return shared_server().new_database()


def count_in_processes(place: str | Path, orders: list[str], times: int) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT, str(place), keys, str(times)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for keys in orders
    ]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(orders), errors


@pytest.mark.campaign
@pytest.mark.anomaly
@asynchronous
async def test_concurrent_processes_lose_no_change_of_a_document(
    place: str | Path,
) -> None:
    await asyncio.to_thread(count_in_processes, place, ["a", "a", "a"], 40)
    store = SqlControl(place)
    assert await store.get("k", "a") == Stored("a", 120, {"n": 120})
    await store.close()


@pytest.mark.campaign
@pytest.mark.anomaly
@asynchronous
async def test_processes_may_change_documents_in_any_order(
    place: str | Path,
) -> None:
    await asyncio.to_thread(count_in_processes, place, ["a,b,c", "c,b,a"], 30)
    store = SqlControl(place)
    assert [stored.document for stored in await store.scan("k")] == [{"n": 60}] * 3
    await store.close()


@pytest.mark.slow
@asynchronous
async def test_opening_a_new_file_waits_for_its_writer(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("CREATE TABLE theirs (n)")
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO theirs VALUES (1)")
    opening = asyncio.create_task(asyncio.to_thread(SqlControl.in_file, file))
    done, _ = await asyncio.wait([opening], timeout=0.2)
    assert not done
    other.execute("COMMIT")
    other.close()
    await (await opening).close()


# Lost connections.


def end_connections(server: PostgresServer, database: str) -> None:
    """Ends a store's connections, like a restart of a pooler or a failover."""
    server.execute(
        database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


@pytest.mark.anomaly
@asynchronous
async def test_a_lost_connection_is_reopened() -> None:
    server = shared_server()
    store = SqlControl(url := server.new_database())
    database = database_in(url)
    await store.apply([Put("k", "x", {"n": 1}, expected=0)])
    await asyncio.to_thread(end_connections, server, database)
    assert await store.get("k", "x") == Stored("x", 1, {"n": 1})
    await asyncio.to_thread(end_connections, server, database)
    await store.apply([Put("k", "x", {"n": 2}, expected=1)])
    assert await store.get("k", "x") == Stored("x", 2, {"n": 2})
    await store.close()


@pytest.mark.anomaly
@asynchronous
async def test_connection_lost_within_commit_leaves_outcome_open() -> None:
    server = shared_server()
    store = SqlControl(url := server.new_database())
    database = database_in(url)
    for statement in (
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON documents DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW WHEN (NEW.key = 'fatal') EXECUTE FUNCTION die()",
    ):
        await asyncio.to_thread(server.execute, database, statement)
    with pytest.raises(StorageFailed, match="not known whether they were made"):
        await store.apply([Put("k", "fatal", {})])
    assert await store.get("k", "fatal") is None
    await store.apply([Put("k", "x", {})])
    await store.close()


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.anomaly
@asynchronous
async def test_a_crashed_server_fails_calls_in_bounded_time() -> None:
    with own_server() as server:
        store = SqlControl(server.new_database())
        await store.apply([Put("k", "x", {"n": 1})])
        await asyncio.to_thread(server.stop, "immediate")
        with pytest.raises(StorageFailed, match="failed in 5 attempts"):
            await store.get("k", "x")
        with pytest.raises(StoreUnreachable):
            await store.apply([Put("k", "x", {"n": 2})])
        await asyncio.to_thread(server.start)
        assert await until_reachable(store, "x") == Stored("x", 1, {"n": 1})
        assert store.failure is None
        reading = asyncio.create_task(store.get("k", "x"))
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        assert await reading == Stored("x", 1, {"n": 1})
        await store.close()


async def until_reachable(store: SqlControl, key: str) -> Stored | None:
    """Reads a document once the store answers, which it may refuse for a second after a loss."""
    while True:
        try:
            return await store.get("k", key)
        except StorageFailed:
            await asyncio.sleep(0.05)


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.anomaly
@asynchronous
async def test_a_frozen_server_fails_calls_in_bounded_time() -> None:
    with own_server() as server:
        store = SqlControl(url := server.new_database())
        await store.apply([Put("k", "x", {"n": 1})])
        with server.frozen():
            many = [store.get("k", "x"), *(store.apply([Put("k", "y", {})]) for _ in range(50))]
            failures = await asyncio.wait_for(asyncio.gather(*many, return_exceptions=True), 20)
            assert {type(each) for each in failures} == {StoreUnreachable}
            assert "did not answer in time" in str(failures[0])
            assert store.failure == "the control store does not answer"
            with pytest.raises(StoreUnreachable):
                await asyncio.wait_for(store.scan("k"), 10)
            with pytest.raises(StorageFailed, match="state store cannot be opened"):
                await asyncio.wait_for(asyncio.to_thread(SqlControl, url), 20)
        assert await until_reachable(store, "x") == Stored("x", 1, {"n": 1})
        await store.apply([Put("k", "x", {"n": 2})])
        assert await store.get("k", "x") == Stored("x", 2, {"n": 2})
        await asyncio.wait_for(store.close(), 20)


@pytest.mark.anomaly
def test_a_missing_or_refusing_server_is_failed_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="state store cannot be opened"):
        SqlControl(f"postgresql://trusted@/d?host={tmp_path}")
    server = shared_server()
    server.execute("postgres", "CREATE ROLE ann LOGIN PASSWORD 'right-password'")
    url = server.url("postgres", "ann:{}")
    with pytest.raises(StorageFailed, match="password authentication failed") as caught:
        SqlControl(url.format("very-secret"))
    assert "very-secret" not in str(caught.value)
    assert "very-secret" not in repr(caught.value.__cause__)


@asynchronous
async def test_a_document_changed_on_disk_is_never_read(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    store = SqlControl.in_file(file)
    await store.apply([Put("k", f"x{n}", {"text": f"some words {n}"}) for n in range(9)])
    await store.apply([Put("k", "x3", {"text": "other words"}, expected=1)])
    await store.check()
    await store.close()
    whole = file.read_bytes()
    for old, new in ((b"some words 5", b"some wards 5"), (b"other words", b"other wards")):
        assert whole.count(old) == 1
        file.write_bytes(whole.replace(old, new))
        store = SqlControl.in_file(file)
        with pytest.raises(StorageFailed, match="state store is damaged"):
            await store.check()
        with pytest.raises(StorageFailed, match="has changed"):
            await store.scan("k")
        await store.close()


@asynchronous
async def test_an_index_that_hides_a_document_is_damage(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    store = SqlControl.in_file(file)
    await store.apply([Put("kind", "the-key", {"n": 1})])
    await store.close()
    whole = file.read_bytes()
    assert whole.count(b"kindthe-key") == 2  # the table, and the index of its primary key
    for at in (whole.index(b"kindthe-key"), whole.rindex(b"kindthe-key")):
        file.write_bytes(whole[:at] + b"kindthe-kay" + whole[at + 11 :])
        store = SqlControl.in_file(file)
        with pytest.raises(StorageFailed, match="damaged"):
            await store.check()
        await store.close()
