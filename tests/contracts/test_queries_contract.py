"""What every store of queries keeps, and every engine does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opentrail.adapters.query_children import QueryChildren
from opentrail.adapters.query_files import QueryFiles
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.errors import QueryFailed, StatementRefused
from opentrail.ports.queries import QueryStatistics, QueryTables, StoredQuery
from tests.adapters.duckdb.worlds import World
from tests.factories import ACCOUNT
from tests.fakes import SettableClock, asynchronous, run

_QUERY = StoredQuery("q1", "SELECT 1", ACCOUNT, [ACCOUNT], "RUNNING", 1.0)


@asynchronous
async def test_store_keeps_queries_in_order(tmp_path: Path) -> None:
    files = QueryFiles(tmp_path / "queries")
    assert await files.all() == []
    second = StoredQuery(
        "q2", "SELECT 2", "ada", None, "FAILED", 2.0, 3.0, "no", [("a", "varchar")]
    )
    for query in (second, _QUERY):
        await files.put(query)
    assert await QueryFiles(tmp_path / "queries").all() == [_QUERY, second]
    await files.delete("q1")
    assert await files.all() == [second]


@pytest.mark.parametrize("first", [0, 1, 999, 1_000, 1_001, 2_499, 2_500])
def test_store_returns_rows_from_any_place(tmp_path: Path, first: int) -> None:
    async def story() -> None:
        files = QueryFiles(tmp_path)
        files.result("q1").write_text("".join(f'["{n}",null]\n' for n in range(2_500)))
        rows = await files.rows("q1", first, 3)
        assert rows == [[str(n), None] for n in range(first, min(first + 3, 2_500))]
        assert await files.rows("q1", 0, 1) == [["0", None]]

    run(story())


@asynchronous
async def test_store_removes_results_without_a_query(tmp_path: Path) -> None:
    files = QueryFiles(tmp_path)
    await files.put(_QUERY)
    for name in ("q1.rows", "q1.tmp", "other.rows", "other.tmp"):
        (tmp_path / name).write_text("")
    await files.all()
    assert sorted(path.name for path in await asyncio.to_thread(lambda: [*tmp_path.iterdir()])) == [
        "q1.json",
        "q1.rows",
    ]


@asynchronous
async def test_store_skips_unreadable_queries(tmp_path: Path) -> None:
    files = QueryFiles(tmp_path)
    (tmp_path / "bad.json").write_text("nothing")
    await files.put(_QUERY)
    assert await files.all() == [_QUERY]


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
        return found, await self.files.rows("q1", 0, 1_000)


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
