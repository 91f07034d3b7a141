"""A journal over a link; the contract tests the guarantees of every journal."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.adapters import batches
from opentrail.adapters.ipc import journal as module
from opentrail.adapters.ipc.journal import Appended, AppendEntries, IpcJournalWriter, append_to
from opentrail.adapters.ipc.link import LinkError
from opentrail.core.errors import RecordRefused
from opentrail.core.event import NewEntry
from tests.factories import a_new_entry, some_records
from tests.fakes import MemoryJournal, asynchronous, turns


def entries(count: int, first: int = 1) -> list[NewEntry]:
    return [a_new_entry(record) for record in some_records(count, first)]


class FarSide:
    """The other end of a link: a journal, and the requests to it."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.batches: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    async def ask(self, request: AppendEntries) -> Appended:
        await self.open.wait()
        if self.error:
            raise self.error
        self.batches.append(len(request.entries))
        return await append_to(self.journal, request)


def linked(far: FarSide) -> IpcJournalWriter:
    return IpcJournalWriter(far)  # type: ignore[arg-type]


new_entries = st.builds(
    NewEntry,
    st.sampled_from(["recorder", "api"]),
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.just("Management"),
    st.uuids().map(str),
    st.binary(),
)


@pytest.mark.slow
@given(st.lists(new_entries))
def test_entries_arrive_unchanged(given_: list[NewEntry]) -> None:
    sent = msgspec.msgpack.encode(AppendEntries(given_))
    assert msgspec.msgpack.decode(sent, type=AppendEntries).entries == given_


@asynchronous
async def test_records_during_a_batch_join_the_next() -> None:
    far = FarSide()
    journal = linked(far)
    far.open.clear()
    appending = [asyncio.create_task(journal.append([entry])) for entry in entries(1)]
    await turns()
    appending += [asyncio.create_task(journal.append([entry])) for entry in entries(9, 2)]
    await turns()
    far.open.set()
    assert await asyncio.gather(*appending) == list(range(1, 11))
    assert far.batches == [1, 9]
    assert journal.head == 10


@asynchronous
async def test_batches_are_cut_by_number_and_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_RECORDS", 4)
    far = FarSide()
    journal = linked(far)
    far.open.clear()
    appending = [asyncio.create_task(journal.append(entries(3, 1 + 3 * n))) for n in range(4)]
    await turns()
    far.open.set()
    assert await asyncio.gather(*appending) == [3, 6, 9, 12]
    assert sum(far.batches) == 12
    assert max(far.batches) <= 6
    monkeypatch.setattr(module, "BATCH_BYTES", 1)
    far.batches.clear()
    await asyncio.gather(*(journal.append([entry]) for entry in entries(3, 20)))
    assert far.batches == [1, 1, 1]


@asynchronous
async def test_a_refusal_arrives_with_its_reason_and_lasts() -> None:
    far = FarSide()
    journal = linked(far)
    far.journal.failure = "the disk is full"
    for _ in range(2):
        with pytest.raises(RecordRefused, match="the disk is full"):
            await journal.append(entries(1))
        assert journal.failure == "the disk is full"
    assert far.batches == [1], "a journal known to fail is not asked"
    far.journal.failure = journal.failure = None
    assert await journal.append(entries(1)) == 1


@asynchronous
async def test_a_dead_far_side_refuses_waiting_entries() -> None:
    far = FarSide()
    journal = linked(far)
    far.error = LinkError("the other process is gone")
    with pytest.raises(RecordRefused, match="gone"):
        await journal.append(entries(2))


@asynchronous
async def test_unexpected_error_refuses_each_caller_of_its_batch() -> None:
    far = FarSide()
    journal = linked(far)
    far.error = msgspec.ValidationError("Expected `int`, got `str`")
    appending = [asyncio.create_task(journal.append([entry])) for entry in entries(2)]
    await turns()
    assert all(task.done() for task in appending)
    refused = await asyncio.gather(*appending, return_exceptions=True)
    assert all(isinstance(error, RecordRefused) and "Expected" in str(error) for error in refused)
    far.error = None
    assert await journal.append(entries(1)) == 1


@pytest.mark.parametrize("limit", ["QUEUE_RECORDS", "QUEUE_BYTES"])
@asynchronous
async def test_records_beyond_the_queue_are_refused_alone(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(batches, limit, 2)
    far = FarSide()
    journal = linked(far)
    far.open.clear()
    under_way = asyncio.create_task(journal.append(entries(1)))
    await turns()
    waiting = asyncio.create_task(journal.append(entries(1, 2)))
    await turns()
    with pytest.raises(RecordRefused, match="too many"):
        await journal.append(entries(2, 3))
    far.open.set()
    assert list(await asyncio.gather(under_way, waiting)) == [1, 2]


@asynchronous
async def test_a_cancelled_append_does_not_affect_others() -> None:
    far = FarSide()
    journal = linked(far)
    far.open.clear()
    first, second = (asyncio.create_task(journal.append(e)) for e in (entries(1), entries(1, 2)))
    await turns()
    first.cancel()
    far.open.set()
    assert await second == 2


@asynchronous
async def test_responses_have_position_or_reason_and_health() -> None:
    journal = MemoryJournal()
    assert await append_to(journal, AppendEntries(entries(3))) == Appended(3)
    journal.failure = "broken"
    refused = await append_to(journal, AppendEntries(entries(1)))
    assert refused == Appended(refused="broken", failure="broken")
