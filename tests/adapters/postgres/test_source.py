"""Reading the journal on PostgreSQL detects damage and gaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opentrail.adapters.duckdb.children import files_of_child
from opentrail.adapters.postgres import source as module
from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.adapters.postgres.source import PostgresJournalSource
from opentrail.core.errors import DataTooNew, JournalDamaged, StorageFailed
from opentrail.ports.journal import UNKNOWN_CHAIN
from tests.factories import event_id, some_new_entries
from tests.fakes import asynchronous
from tests.postgres import database_in, shared_server

pytestmark = pytest.mark.slow


async def a_journal(batches: int = 4, records: int = 3) -> tuple[str, PostgresJournalSource]:
    """Returns the database of a journal of a few batches, and its source."""
    url = shared_server().new_database()
    journal = PostgresJournal(url)
    for number in range(batches):
        await journal.append(some_new_entries(records, number * records + 1))
    await journal.close()
    return url, PostgresJournalSource(url)


def execute(url: str, statement: str) -> list[Any]:
    return shared_server().execute(database_in(url), statement)


def positions(source: PostgresJournalSource, first: int, last: int) -> list[int]:
    return [entry.position for entry in source.read(first, last)]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE opentrail.batch SET body = overlay(body placing 'x' from 40) WHERE first = 4",
        "UPDATE opentrail.batch SET chain = chain_before WHERE first = 4",
        "UPDATE opentrail.batch SET count = 2 WHERE first = 4",
        "DELETE FROM opentrail.batch WHERE first = 4",
    ],
)
@asynchronous
async def test_a_changed_or_deleted_batch_is_detected(change: str) -> None:
    url, source = await a_journal()
    assert positions(source, 1, 12) == list(range(1, 13))
    execute(url, change)
    with pytest.raises(JournalDamaged) as damage:
        source.read(1, 12)
    assert damage.value.position in (4, 6)
    assert positions(source, 1, 3) == [1, 2, 3]
    assert positions(source, 8, 12) == [8, 9, 10, 11, 12]


@pytest.mark.slow
@asynchronous
async def test_a_replaced_batch_breaks_the_chain() -> None:
    url, source = await a_journal()
    other, _ = await a_journal(1)
    columns = "body, chain_before, chain"
    ((body, before, chain),) = execute(other, f"SELECT {columns} FROM opentrail.batch")  # noqa: S608
    values = ", ".join(f"'\\x{value.hex()}'" for value in (body, before, chain))
    execute(url, f"UPDATE opentrail.batch SET ({columns}) = ({values}) WHERE first = 4")  # noqa: S608
    with pytest.raises(JournalDamaged, match="position 4 does not continue the chain"):
        source.read(1, 12)


@asynchronous
async def test_lost_positions_are_left_out() -> None:
    url, source = await a_journal()
    execute(url, "DELETE FROM opentrail.batch WHERE first = 4")
    execute(url, "INSERT INTO opentrail.lost VALUES (4, 6, 'a test')")
    assert positions(source, 1, 12) == [1, 2, 3, *range(7, 13)]
    assert positions(source, 5, 8) == [7, 8]
    assert [(run.first, run.last) for run in source.lost_between(6, 9)] == [(4, 6)]
    assert source.lost_between(7, 9) == []
    assert source.chain_before(5) is None


@pytest.mark.parametrize("lost", [False, True])
@asynchronous
async def test_read_of_large_batches_has_fewer_of_them(
    monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """Callers can cause thousands of large records, which could exceed the memory."""
    url, source = await a_journal()
    ((size,),) = execute(url, "SELECT octet_length(body) FROM opentrail.batch WHERE first = 1")
    monkeypatch.setattr(module, "_READ_BYTES", size + 1)
    expected = [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]
    if lost:
        execute(url, "DELETE FROM opentrail.batch WHERE first = 4")
        execute(url, "INSERT INTO opentrail.lost VALUES (1, 6, 'a test')")
        expected = [[7, 8, 9], [10, 11, 12]]
    assert positions(source, 1, 12) == expected[0]
    assert [[entry.position for entry in part] for part in source.read_range(1, 12)] == expected
    monkeypatch.setattr(module, "_READ_BYTES", 0)
    assert positions(source, 5, 12) == ([7, 8, 9] if lost else [5, 6])
    assert positions(source, 5, 5) == ([] if lost else [5])
    assert sum(map(len, source.read_range(2, 11))) == (5 if lost else 10)


@asynchronous
async def test_trimmed_positions_are_not_damage() -> None:
    url, source = await a_journal()
    execute(url, "DELETE FROM opentrail.batch WHERE first = 1")
    execute(url, "UPDATE opentrail.journal SET trimmed = 3")
    with pytest.raises(StorageFailed, match="position 1 was trimmed") as failed:
        source.read(1, 12)
    assert not isinstance(failed.value, JournalDamaged)
    assert source.first_position() == 4
    assert source.chain_before(2) is None
    assert positions(source, 4, 12) == list(range(4, 13))
    ranges = [entry.position for part in source.read_range(1, 8) for entry in part]
    assert ranges == [4, 5, 6, 7, 8]
    assert dict(source.records_behind(0, {event_id(2), event_id(7)})).keys() == {event_id(7)}


@asynchronous
async def test_an_event_id_is_searched_for_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    _, source = await a_journal()
    for positions_per_step in (1, 2, 5, 12, 13):
        monkeypatch.setattr(module, "_SEARCHED_POSITIONS", positions_per_step)
        assert [source.find(event_id(number)) for number in (1, 5, 12)] == [1, 5, 12]
        assert source.find(event_id(13)) is None


@asynchronous
async def test_event_id_does_not_match_a_longer_one() -> None:
    url, source = await a_journal()
    assert source.find(event_id(5)) == 5
    assert source.find(event_id(5)[:-1]) is None
    assert source.find("us-east-1") is None
    assert len(execute(url, "SELECT 1 FROM opentrail.batch")) == 4


@pytest.mark.slow
@pytest.mark.parametrize("body", ["'\\x01aa'", "'\\xffaa'", "overlay(body placing 'x' from 40)"])
@asynchronous
async def test_the_chain_of_a_damaged_batch_is_unknown(
    body: str,
) -> None:
    url, source = await a_journal()
    execute(url, f"UPDATE opentrail.batch SET body = {body} WHERE first = 10")  # noqa: S608
    assert source.chain_at(9) != UNKNOWN_CHAIN
    assert source.chain_at(12) == UNKNOWN_CHAIN
    with pytest.raises(JournalDamaged) as damage:
        source.chain_before(11)
    assert 10 <= damage.value.position <= 12
    execute(url, "INSERT INTO opentrail.lost VALUES (10, 12, 'a test')")
    assert source.chain_at(12) == UNKNOWN_CHAIN
    assert source.chain_before(11) is None


@asynchronous
async def test_the_chain_of_a_lost_batch_is_unknown() -> None:
    url, source = await a_journal()
    execute(url, "UPDATE opentrail.batch SET body = set_byte(body, 0, 2) WHERE first = 10")
    with pytest.raises(DataTooNew):
        source.chain_at(12)
    execute(url, "INSERT INTO opentrail.lost VALUES (10, 12, 'a test')")
    assert source.chain_at(12) == UNKNOWN_CHAIN


@pytest.mark.slow
@asynchronous
async def test_child_that_seals_a_damaged_batch_reports_it(tmp_path: Path) -> None:
    url, source = await a_journal()
    execute(url, "UPDATE opentrail.batch SET body = '\\x01aa' WHERE first = 4")
    with pytest.raises(JournalDamaged):
        await files_of_child("journal", source.address, tmp_path, 4, 12)
