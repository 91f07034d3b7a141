"""What every store of queries keeps, and every engine does."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from opentrail.adapters.queries import shared_queries
from opentrail.adapters.queries.query_children import QueryChildren
from opentrail.adapters.queries.query_files import QueryFiles
from opentrail.adapters.queries.shared_queries import SharedQueries
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.errors import QueryFailed, StatementRefused
from opentrail.ports.queries import QueryStatistics, QueryStore, QueryTables, StoredQuery
from tests.adapters.duckdb.worlds import World
from tests.factories import ACCOUNT
from tests.fakes import MemoryControl, SettableClock, asynchronous, run

_QUERY = StoredQuery("q1", "SELECT 1", ACCOUNT, [ACCOUNT], "RUNNING", 1.0)


def _files(folder: Path) -> QueryFiles:
    return QueryFiles(folder / "queries")


async def is_one(server: str) -> bool:
    return server == "one"


class OneServer:
    """Queries in files."""

    def __init__(self, folder: Path) -> None:
        self.files = _files(folder)
        self.store: QueryStore = self.files

    def restarted(self) -> QueryStore:
        return QueryFiles(self.files.folder)


class TwoServers:
    """Queries in the control store of two servers."""

    def __init__(self, folder: Path) -> None:
        control = MemoryControl()
        self.files = _files(folder)
        self.store: QueryStore = SharedQueries(control, self.files, "one", is_one)
        self._control, self._folder = control, folder

    def restarted(self) -> QueryStore:
        return SharedQueries(self._control, QueryFiles(self._folder / "other"), "two", is_one)


Servers = OneServer | TwoServers
KINDS = pytest.mark.parametrize("kind", [OneServer, TwoServers])


@KINDS
@asynchronous
async def test_store_keeps_queries_in_order(kind: type[Servers], tmp_path: Path) -> None:
    servers = kind(tmp_path)
    assert await servers.store.open() == []
    second = StoredQuery(
        "q2", "SELECT 2", "ada", None, "FAILED", 2.0, 3.0, "no", [("a", "varchar")]
    )
    for query in (second, _QUERY):
        await servers.store.put(query)
    again = servers.restarted()
    assert await again.open() == await again.all() == [_QUERY, second]
    assert [await again.get(name) for name in ("q1", "q2", "q3")] == [_QUERY, second, None]
    assert await servers.store.delete("q1") == 0
    assert await again.all() == [second]


@KINDS
@pytest.mark.parametrize("first", [0, 1, 999, 1_000, 1_001, 2_499, 2_500])
def test_store_returns_rows_from_any_place(kind: type[Servers], tmp_path: Path, first: int) -> None:
    async def story() -> None:
        servers = kind(tmp_path)
        await servers.store.open()
        await servers.store.put(_QUERY)
        text = "".join(f'["{n}",null]\n' for n in range(2_500))
        servers.files.result("q1").write_text(text)
        await servers.store.publish("q1")
        again = servers.restarted()
        await again.open()
        for store in (servers.store, again):
            rows = await store.rows(_QUERY, first, 3)
            assert rows == [[str(n), None] for n in range(first, min(first + 3, 2_500))]
            assert await store.rows(_QUERY, 0, 1) == [["0", None]]
        size = await again.size()
        assert 0 < size <= len(text)
        assert await again.delete("q1") == size
        assert (await again.size(), await again.all()) == (0, [])

    run(story())


@KINDS
@asynchronous
async def test_opened_store_removes_results_without_a_query(
    kind: type[Servers], tmp_path: Path
) -> None:
    servers = kind(tmp_path)
    await servers.store.open()
    await servers.store.put(_QUERY)
    for name in ("q1.rows", "q1.tmp", "other.rows", "other.tmp"):
        (servers.files.folder / name).write_text("")
    await servers.store.all()
    assert (servers.files.folder / "q1.tmp").exists()
    await servers.store.open()
    names = {path.name for path in servers.files.folder.iterdir()}
    assert names - {"q1.json"} == {"q1.rows"}


@KINDS
@asynchronous
async def test_damaged_result_is_an_error_or_fetched_again(
    kind: type[Servers], tmp_path: Path
) -> None:
    servers = kind(tmp_path)
    await servers.store.open()
    content = b'["1"]\n["2"]\n'
    statistics = QueryStatistics(2, 1, 1, hashlib.sha256(content).hexdigest())
    query = replace(_QUERY, status="FINISHED", statistics=statistics)
    await servers.store.put(query)
    path = servers.files.result("q1")
    path.write_bytes(content)
    await servers.store.publish("q1")
    assert await servers.store.rows(query, 0, 5) == [["1"], ["2"]]
    for damaged in (b'["1"]\n["3"]\n', b'["1"]\n', b""):
        path.write_bytes(damaged)
        if kind is OneServer:
            with pytest.raises(QueryFailed, match="is damaged: run the query again"):
                await servers.store.rows(query, 0, 5)
        else:
            assert await servers.store.rows(query, 0, 5) == [["1"], ["2"]]
    path.unlink()
    if kind is OneServer:
        with pytest.raises(QueryFailed, match="cannot be read"):
            await servers.store.rows(query, 0, 5)
    else:
        assert await servers.store.rows(query, 0, 5) == [["1"], ["2"]]


@asynchronous
async def test_each_flipped_bit_of_a_stored_query_is_found(tmp_path: Path) -> None:
    files = QueryFiles(tmp_path)
    await files.put(_QUERY)
    path = tmp_path / "q1.json"
    content = path.read_bytes()
    for bit in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            assert await files.get("q1") == _QUERY  # as in the case of a digit of the hash
        except QueryFailed:
            assert await files.all() == []


@asynchronous
async def test_queries_of_an_earlier_release_are_read(tmp_path: Path) -> None:
    (tmp_path / "q1.json").write_bytes(msgspec.json.encode(_QUERY))
    assert await QueryFiles(tmp_path).get("q1") == _QUERY


@asynchronous
async def test_files_skip_unreadable_queries(tmp_path: Path) -> None:
    files = QueryFiles(tmp_path)
    (tmp_path / "bad.json").write_text("nothing")
    await files.put(_QUERY)
    assert await files.all() == [_QUERY]


@asynchronous
async def test_too_large_result_is_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_queries, "MAX_RESULT", 10)
    servers = TwoServers(tmp_path)
    await servers.store.open()
    servers.files.result("q1").write_text('["a long text of a row"]\n')
    with pytest.raises(QueryFailed, match="add a LIMIT"):
        await servers.store.publish("q1")


_ALWAYS = datetime(1, 1, 1, tzinfo=UTC)
#: 100,000 characters; a hundred million rows.
_LONG = "lpad('x', 100000, 'y')"
_MANY = "UNNEST(sequence(1, 9999)) a (x), UNNEST(sequence(1, 9999)) b (x)"


class Lake:
    """Event history, partly in files and partly in the journal."""

    def __init__(self, root: Path) -> None:
        self.world, self.root = World(root), root
        self.files = QueryFiles(root / "queries")
        self.files.folder.mkdir()

    def engine(self) -> QueryChildren:
        source = SqliteJournalSource(self.world.journal_folder)
        return QueryChildren(
            self.world.history,
            self.root / "stores",
            source,
            self.files,
            lambda: (_ALWAYS, None),
            SettableClock(),
        )

    async def run(
        self, statement: str, accounts: list[str] | None = None
    ) -> tuple[QueryStatistics, list[list[str | None]]]:
        query = StoredQuery("q1", statement, ACCOUNT, accounts, "RUNNING", 1.0)
        columns: list[tuple[str, str]] = []
        found = await self.engine().run(query, QueryTables(["event_history"]), columns.extend)
        assert columns
        ended = replace(query, statistics=found)
        return found, await self.files.rows(ended, 0, 1_000)


@pytest.mark.slow
@asynchronous
async def test_engine_reads_files_and_the_journals_tail(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    await lake.world.write(50)
    await lake.world.seal((1, 10), (21, 30))
    await lake.world.imports(5)
    await lake.world.journal.close()
    statistics, rows = await lake.run("SELECT count(*), count(DISTINCT eventID) FROM event_history")
    assert rows == [["55", "55"]]
    assert (statistics.rows, statistics.events) == (1, 55)
    assert statistics.bytes > 10_000
    _, rows = await lake.run("SELECT eventName, count(*) FROM event_history GROUP BY 1 ORDER BY 1")
    assert [name for name, _ in rows] == ["CreateUser", "DeleteUser"]
    for accounts, seen in (([ACCOUNT], "55"), (["210987654321"], "0"), ([], "0")):
        _, rows = await lake.run("SELECT count(*) FROM event_history", accounts)
        assert rows == [[seen]]


@pytest.mark.slow
@asynchronous
async def test_engine_refuses_and_fails(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    await lake.world.journal.close()
    with pytest.raises(StatementRefused, match="line 1:8: Column 'nosuch'"):
        await lake.run("SELECT nosuch FROM event_history")
    with pytest.raises(QueryFailed, match=r"^Division by zero$"):
        await lake.run("SELECT 1 / 0")
    with pytest.raises(QueryFailed, match="memory"):
        await lake.run(f"SELECT array_agg({_LONG}) FROM {_MANY}")
    assert not any(path.suffix == ".rows" for path in lake.files.folder.iterdir())


@pytest.mark.slow
@asynchronous
async def test_cancelled_engine_leaves_no_process(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    await lake.world.journal.close()
    endless = f"SELECT count(*) FROM {_MANY}, UNNEST(sequence(1, 9999)) c (x)"
    started = asyncio.Event()
    query = StoredQuery("q1", endless, ACCOUNT, None, "RUNNING", 1.0)
    task = asyncio.create_task(
        lake.engine().run(query, QueryTables(["event_history"]), lambda _: started.set())
    )
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not lake.files.result("q1").exists()
