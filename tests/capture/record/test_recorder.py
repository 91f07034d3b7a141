"""Records of exchanges: durable before the answer, and losses that are recorded."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Sequence

import pytest

from opentrail.capture.record import recorder
from opentrail.capture.record.assemble import Assembler
from opentrail.capture.record.client_address import Networks, VpcEndpoint
from opentrail.capture.record.exchange import Exchange
from opentrail.capture.record.recorder import Recorder
from opentrail.core.errors import RecordRefused
from opentrail.core.event import NewEntry, Record
from opentrail.core.gaps import Gap
from opentrail.core.identity import Identity, unknown
from opentrail.ports.metrics import Metrics
from tests.factories import (
    a_query_request,
    a_request,
    an_exchange,
    an_identity,
    an_s3_request,
)
from tests.fakes import (
    MemoryJournal,
    SettableClock,
    asynchronous,
    eventually,
    run_skipping_time,
    turns,
)


class BrokenJournal(MemoryJournal):
    """A journal that refuses while a test sets a failure."""

    async def append(self, entries: Sequence[NewEntry]) -> int:
        if self.failure:
            raise RecordRefused(self.failure)
        return await super().append(entries)


class World:
    def __init__(self, refuse: bool, journal: BrokenJournal | None = None) -> None:
        self.journal = journal or BrokenJournal()
        self.learned: list[Record] = []
        self.metrics = Metrics()
        self.kept: list[Gap | None] = []
        self.refuse = refuse
        self.identities: dict[str, Identity] = {}
        self.recorder = self.a_recorder()

    def a_recorder(self, networks: Networks | None = None) -> Recorder:
        return Recorder(
            self.journal,
            Assembler(
                lambda key: self.identities.get(key) or unknown("123456789012", key), networks
            ),
            self.learned.append,
            SettableClock(),
            self.metrics,
            self.refuse,
            self.kept.append,
        )

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    async def records(self) -> list[Record]:
        return [json.loads(entry.record) for entry in await self.journal.read(0, 100)]


@asynchronous
async def test_record_gets_a_position_is_counted_and_learned() -> None:
    world = World(refuse=True)
    assert await world.recorder.record(an_exchange()) == 1
    assert await world.recorder.record(an_exchange()) == 2
    assert [record["eventID"] for record in world.learned] == [
        record["eventID"] for record in await world.records()
    ]
    assert world.sample("opentrail_records_total", category="Management") == 2


class SlowJournal(BrokenJournal):
    """A journal that takes a second for each append, and remembers the size of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.appends: list[int] = []

    async def append(self, entries: Sequence[NewEntry]) -> int:
        self.appends.append(len(entries))
        await asyncio.sleep(1)
        return await super().append(entries)


@pytest.mark.parametrize("refuse", [True, False])
def test_a_record_is_queued_while_others_are_written(refuse: bool) -> None:
    """The journal writes waiting records together; no other part delays them."""

    async def story() -> None:
        world = World(refuse, SlowJournal())
        waiting: list[asyncio.Future[int]] = []
        assert isinstance(world.journal, SlowJournal)
        for number in range(1, 4):
            if refuse:
                waiting.append(asyncio.ensure_future(world.recorder.record(an_exchange())))
            else:
                world.recorder.record_later(an_exchange())
            await turns()
            assert world.journal.appends == [1] * number
        assert await asyncio.gather(*waiting) == list(range(1, len(waiting) + 1))
        await world.recorder.drain()
        assert len(await world.records()) == 3

    run_skipping_time(story())


def test_with_allow_a_key_is_learned_immediately() -> None:
    """The next call may be signed with the key, and another process may receive it."""
    assume = {"RoleArn": "arn:aws:iam::123456789012:role/R", "RoleSessionName": "s"}
    handing_out = an_exchange(a_query_request("sts", "AssumeRole", "2011-06-15", assume))

    async def story() -> None:
        world = World(False, SlowJournal())
        world.recorder.record_later(handing_out)
        await turns()
        assert [record["eventName"] for record in world.learned] == ["AssumeRole"]
        assert await world.records() == []
        await world.recorder.drain()
        assert len(await world.records()) == len(world.learned) == 1

    run_skipping_time(story())


@asynchronous
async def test_a_call_is_recorded_after_its_client_left() -> None:
    world = World(refuse=True)
    answering = asyncio.ensure_future(world.recorder.record(an_exchange()))
    await asyncio.sleep(0)
    answering.cancel()
    await world.recorder.drain()
    assert answering.cancelled()
    assert len(await world.records()) == len(world.learned) == 1


def test_call_with_very_many_records_yields_to_others() -> None:
    keys = "".join(f"<Object><Key>{number}</Key></Object>" for number in range(1_000))
    deletion = an_s3_request("POST", "/b", "delete", {}, f"<Delete>{keys}</Delete>".encode())

    async def story() -> None:
        world = World(True, SlowJournal())
        record = world.recorder.record
        alone = asyncio.ensure_future(record(an_exchange()))
        await asyncio.sleep(0.5)
        group = [an_exchange(), an_exchange(deletion), an_exchange(deletion), an_exchange()]
        positions = await asyncio.gather(*map(record, group))
        assert isinstance(world.journal, SlowJournal)
        assert world.journal.appends == [1, 1 + 1_001, 1_001, 1]
        assert [await alone, *positions] == [1, 2, 3, 1_004, 2_005]
        assert world.sample("opentrail_records_total", category="Data") == 2 * 1_001

    run_skipping_time(story())


class SlowInThreads(Networks):
    """Networks that block an assembler in a thread."""

    def __init__(self, go_on: threading.Event, fails: bool = False) -> None:
        super().__init__()
        self._go_on, self._fails = go_on, fails

    def endpoint_of(self, client: str) -> VpcEndpoint | None:
        if threading.current_thread() is not threading.main_thread():
            assert self._go_on.wait(60)
            if self._fails:
                raise LookupError(client)
        return super().endpoint_of(client)


LARGE = b'{"TableName": "t"}' + b" " * 200_000


def a_large_call(is_packed: bool = False) -> Exchange:
    headers = {"x-amz-target": "DynamoDB_20120810.DescribeTable"}
    if is_packed:
        headers["content-encoding"] = "gzip"
    body = gzip.compress(LARGE) if is_packed else LARGE
    return an_exchange(a_request("dynamodb", headers=headers, body=body))


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_others_are_recorded_during_a_large_record(is_packed: bool, fails: bool) -> None:
    others_are_recorded = threading.Event()
    networks = SlowInThreads(others_are_recorded, fails)

    async def story() -> None:
        world = World(refuse=True)
        world.recorder = world.a_recorder(networks)
        waiting = [
            asyncio.ensure_future(world.recorder.record(a_large_call(is_packed))) for _ in range(2)
        ]
        assert await asyncio.gather(*(world.recorder.record(an_exchange()) for _ in "ab")) == [1, 2]
        others_are_recorded.set()
        await world.recorder.drain()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        if fails:
            assert [str(result) for result in results] == [
                "LookupError while its record was made"
            ] * 2
            assert world.recorder.lost == 2
            return
        assert results == [3, 4]
        given = [record["requestParameters"] for record in await world.records()]
        assert given == [{"userName": "Mary"}] * 2 + [{"tableName": "t"}] * 2
        assert len(world.learned) == 4

    asyncio.run(story())


@asynchronous
async def test_large_call_keeps_the_caller_of_its_end() -> None:
    world, others_are_recorded = World(refuse=True), threading.Event()
    world.recorder = world.a_recorder(SlowInThreads(others_are_recorded))
    large = a_large_call()
    assert large.credential is not None
    key = large.credential.access_key_id
    world.identities[key] = an_identity(key)
    recording = asyncio.ensure_future(world.recorder.record(large))
    await world.recorder.record(an_exchange())
    del world.identities[key]
    others_are_recorded.set()
    await recording
    _, record = await world.records()
    assert record["userIdentity"] == an_identity(key).as_record()


@pytest.mark.parametrize(("has_room", "names"), [(True, "ULL"), (False, "LUL")])
def test_large_calls_wait_for_recording_in_limited_memory(
    has_room: bool, names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room the thread makes only the record of the first one."""
    monkeypatch.setattr(recorder, "_MAX_LARGE_BYTES", (2 if has_room else 1) * len(LARGE))
    others_are_recorded = threading.Event()
    networks = SlowInThreads(others_are_recorded)

    async def story() -> None:
        world = World(refuse=False)
        world.recorder = world.a_recorder(networks)
        for _ in range(2):
            world.recorder.record_later(a_large_call())
            await turns(1)
        world.recorder.record_later(an_exchange())
        await eventually(lambda: world.journal.head == (1 if has_room else 2))
        others_are_recorded.set()
        await world.recorder.drain()
        events = [record["eventName"] for record in await world.records()]
        assert events == [{"L": "DescribeTable", "U": "CreateUser"}[name] for name in names]
        assert len(world.learned) == 3

    asyncio.run(story())


@asynchronous
async def test_stop_waits_for_pending_records() -> None:
    world = World(refuse=False)
    for _ in range(2):
        world.recorder.record_later(an_exchange())
        await turns(1)
    await world.recorder.drain()
    assert len(await world.records()) == 2


@asynchronous
async def test_lost_records_are_refused_and_teach_nothing() -> None:
    world = World(refuse=True)
    world.journal.failure = "no room"
    assert world.recorder.failure == "no room"
    with pytest.raises(RecordRefused, match="no room"):
        await world.recorder.record(an_exchange())
    assert world.learned == []
    assert world.recorder.lost == 1


class FailingJournal(BrokenJournal):
    """A journal that fails a second after `append`."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def append(self, entries: Sequence[NewEntry]) -> int:
        await asyncio.sleep(1)
        raise self._error


@pytest.mark.parametrize("error", [RecordRefused("no room"), OSError(5, "no room")])
def test_every_unwritten_record_is_counted(
    error: Exception,
) -> None:
    """The server ends while the disk stalls: calls are cut off, and their records refused."""

    async def story() -> None:
        world = World(True, FailingJournal(error))
        leaving = asyncio.ensure_future(world.recorder.record_or_count(an_exchange()))
        staying = asyncio.ensure_future(world.recorder.record_or_count(an_exchange()))
        position = asyncio.ensure_future(world.recorder.record(an_exchange()))
        await turns()
        leaving.cancel()
        assert "no room" in str(await staying)
        with pytest.raises(RecordRefused, match="no room"):
            await position
        await world.recorder.drain()
        assert leaving.cancelled()
        assert world.recorder.lost == 3
        assert world.sample("opentrail_lost_records_total") == 3
        assert [gap and gap.count for gap in world.kept] == [1, 2, 3]

    run_skipping_time(story())


@asynchronous
async def test_with_allow_losses_are_counted_and_recorded() -> None:
    world = World(refuse=False)
    world.journal.failure = "no room"
    assert world.recorder.failure is None
    for _ in range(3):
        world.recorder.record_later(an_exchange())
    await world.recorder.drain()
    assert world.recorder.lost == 3
    assert world.sample("opentrail_lost_records_total") == 3
    world.journal.failure = None
    world.recorder.record_later(an_exchange())
    await world.recorder.drain()
    await world.recorder.close_gap()
    kept, gap = await world.records()
    assert kept["eventSource"] != gap["eventSource"]
    assert gap["eventName"] == "RecordsLost"
    assert gap["serviceEventDetails"]["lostRecords"] == 3
    assert gap["serviceEventDetails"]["reason"] == "no room"


@asynchronous
async def test_a_gap_is_kept_until_it_is_recorded() -> None:
    world = World(refuse=False)
    world.journal.failure = "no room"
    for _ in range(2):
        world.recorder.count_lost(an_exchange(), "no room")
    await world.recorder.close_gap()
    assert [gap and gap.count for gap in world.kept] == [1, 2]
    world.journal.failure = None
    await world.recorder.close_gap()
    assert world.kept[-1] is None


def test_last_gap_is_recorded_once() -> None:
    async def story() -> None:
        world = World(refuse=False, journal=SlowJournal())
        assert isinstance(world.journal, SlowJournal)
        world.recorder.count_lost(an_exchange(), "no room")
        ended = asyncio.Event()
        gaps = asyncio.ensure_future(world.recorder.close_gaps(ended))
        await asyncio.sleep(1.5)
        assert world.journal.appends == [1]
        ended.set()
        await gaps
        assert len(await world.records()) == 1
        assert world.kept[-1] is None

    run_skipping_time(story())


@asynchronous
async def test_an_unrecordable_gap_is_not_forgotten() -> None:
    world = World(refuse=False)
    world.journal.failure = "no room"
    world.recorder.record_later(an_exchange())
    await world.recorder.drain()
    await world.recorder.close_gap()
    world.recorder.count_lost(an_exchange(), "still no room")
    world.journal.failure = None
    await world.recorder.close_gap()
    await world.recorder.close_gap()
    (gap,) = await world.records()
    assert gap["serviceEventDetails"]["lostRecords"] == 2
    assert gap["serviceEventDetails"]["reason"] == "still no room"
