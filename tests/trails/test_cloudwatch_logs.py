"""Events in CloudWatch Logs: every one once, whatever breaks; batches within AWS's limits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest

from opentrail.core.errors import ServiceError, ServiceMissing
from opentrail.core.event import Entry, format_time
from opentrail.core.logfile import DeliveryPlace
from opentrail.core.trail import stored_time
from opentrail.ports.metrics import Metrics
from opentrail.trails.cloudwatch_logs import MAX_EVENT_BYTES, CloudWatchLogsSink
from opentrail.trails.outbox import STREAM, Outbox, note_of, stream_name
from opentrail.trails.plans import LogFilePlan
from tests.factories import ACCOUNT, MOMENT, REGION, a_record, an_entry, event_id
from tests.fakes import (
    Breaker,
    Fault,
    MemoryControl,
    MemoryServices,
    PowerCutError,
    SettableClock,
    asynchronous,
)
from tests.trails.test_plans import a_plan

GROUP = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:trail"
NAME = stream_name(DeliveryPlace("", ACCOUNT, REGION))


class Scene:
    """A trail with planned files for a log group."""

    def __init__(self) -> None:
        self.control, self.services = MemoryControl(), MemoryServices()
        self.streams = self.services.groups[GROUP] = {}
        self.clock, self.metrics = SettableClock(), Metrics()
        self.entries: list[Entry] = []
        self.outbox = Outbox(self.control, STREAM, timedelta(days=30))
        self.sink = self.new_sink(self.control)

    def new_sink(self, control: MemoryControl) -> CloudWatchLogsSink:
        """Returns another process's sink."""
        return CloudWatchLogsSink(
            control, self.services, self.clock, self.metrics, self._entries_of
        )

    async def _entries_of(
        self, plan: LogFilePlan, account: str, home_region: str, after: int
    ) -> AsyncIterator[Entry]:
        for entry in self.entries:
            if max(after, plan.after) < entry.position <= plan.until:
                yield entry

    async def plan(self, *records: dict[str, Any]) -> list[str]:
        """Plans a file with these records; returns their ids."""
        after = len(self.entries)
        self.entries += [an_entry(n, r) for n, r in enumerate(records, after + 1)]
        plan = a_plan(after=after, until=len(self.entries))
        document = {
            "log_group": f"{GROUP}:*",
            "stream": NAME,
            "sent": after,
            "account": ACCOUNT,
            "home_region": REGION,
            "plan": asdict(plan),
        }
        since = stored_time(self.clock.now())
        await self.control.apply([note_of(STREAM, "one", after + 1, since, document)])
        return [record["eventID"] for record in records]

    @property
    def ids(self) -> list[str]:
        """The ids of the events in the stream, in their order."""
        return [json.loads(event.message)["eventID"] for event in self.streams.get(NAME, [])]


def records(count: int, first: int = 1, seconds: float = 1, **changes: Any) -> list[dict[str, Any]]:
    return [
        a_record(
            eventID=event_id(n),
            eventTime=format_time(MOMENT + timedelta(seconds=n * seconds)),
            **changes,
        )
        for n in range(first, first + count)
    ]


@asynchronous
async def test_stream_has_the_very_records_at_their_times() -> None:
    scene = Scene()
    await scene.plan(*records(3))
    await scene.plan(*records(2, first=4))
    await scene.sink.send("one")
    kept = scene.streams[NAME]
    assert [event.message.encode() for event in kept] == [e.record for e in scene.entries]
    assert [event.time for event in kept] == [MOMENT + timedelta(seconds=n) for n in range(1, 6)]
    assert await scene.outbox.waiting("one") == []
    how = await scene.outbox.status("one")
    assert (how.latest, how.error) == (stored_time(MOMENT), None)


@asynchronous
async def test_batchs_events_are_in_order_of_time() -> None:
    scene = Scene()
    shuffled = records(9)
    await scene.plan(*shuffled[::2], *shuffled[1::2])
    await scene.sink.send("one")
    assert scene.ids == [record["eventID"] for record in shuffled]


@pytest.mark.parametrize("carried_out", [False, True], ids=["before", "after"])
@asynchronous
async def test_a_power_cut_anywhere_sends_each_event_once(carried_out: bool) -> None:
    for cut in range(1, 40):
        scene = Scene()
        expected = await scene.plan(*records(3))
        expected += await scene.plan(*records(2, first=4))
        breaker = Breaker(at=cut, done=carried_out)
        cutting = MemoryControl(scene.control.disk, breaker)
        try:
            await scene.new_sink(cutting).send("one")
        except PowerCutError:
            pass
        else:
            break
        await scene.new_sink(scene.control).send("one")
        assert scene.ids == expected, cut
    assert cut > 5


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.LOST_ANSWER])
@asynchronous
async def test_lost_answers_and_refusals_lose_and_double_nothing(fault: Fault) -> None:
    scene = Scene()
    expected = await scene.plan(*records(5))
    scene.services.faults.extend([None, fault])  # the stream is made, then events are put
    with pytest.raises(ServiceError):
        await scene.sink.send("one")
    assert (await scene.outbox.status("one")).error
    await scene.sink.send("one")
    assert scene.ids == expected
    assert (await scene.outbox.status("one")).error is None


@asynchronous
async def test_a_lost_answer_resends_only_missing_events() -> None:
    scene = Scene()
    large = records(9, seconds=60, requestParameters={"text": "x" * 200_000})
    expected = await scene.plan(*large)
    scene.services.faults.extend([None, None, Fault.LOST_ANSWER])
    with pytest.raises(ServiceError):
        await scene.sink.send("one")
    await scene.new_sink(scene.control).send("one")
    assert scene.ids == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "seconds", "changes"),
    [
        (10_001, 0, {}),
        (12, 1, {"requestParameters": {"text": "x" * 200_000}}),
        (30, 3_600, {}),
    ],
    ids=["many", "large", "long"],
)
@asynchronous
async def test_a_batch_respects_the_limits(
    count: int, seconds: float, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene()
    expected = await scene.plan(*records(count, seconds=seconds, **changes))
    sizes: list[int] = []
    put = scene.services.put

    async def checked(group: str, stream: str, events: Any) -> int:
        sizes.append(len(events))
        assert len(events) <= 10_000
        assert sum(len(event.message.encode()) + 26 for event in events) <= 1_048_576
        assert events[-1].time - events[0].time <= timedelta(hours=24)
        return await put(group, stream, events)

    monkeypatch.setattr(scene.services, "put", checked)
    await scene.sink.send("one")
    assert sorted(scene.ids) == sorted(expected)
    assert len(sizes) > 1
    assert sum(sizes) == count


@asynchronous
async def test_oversized_log_events_are_left_out_and_counted() -> None:
    scene = Scene()
    huge = records(1, requestParameters={"text": "x" * MAX_EVENT_BYTES})
    await scene.plan(*huge)
    await scene.plan(*huge, *records(1, first=2))
    await scene.sink.send("one")
    assert scene.ids == [event_id(2)]
    assert b'streamed_events_total{outcome="refused"} 2.0' in scene.metrics.exposition()
    assert await scene.outbox.waiting("one") == []


@asynchronous
async def test_a_removed_stream_is_recreated() -> None:
    scene = Scene()
    await scene.plan(*records(1))
    await scene.sink.send("one")
    scene.streams.clear()
    expected = await scene.plan(*records(2, first=2))
    with pytest.raises(ServiceMissing):
        await scene.sink.send("one")
    await scene.sink.send("one")
    assert scene.ids == expected


@asynchronous
async def test_a_missing_group_is_retried_for_thirty_days() -> None:
    scene = Scene()
    await scene.plan(*records(2))
    del scene.services.groups[GROUP]
    scene.clock.advance(30 * 86_400)
    with pytest.raises(ServiceMissing):
        await scene.sink.send("one")
    assert (await scene.outbox.status("one")).error == "ResourceNotFoundException"
    scene.clock.advance(1)
    await scene.sink.send("one")
    assert await scene.outbox.waiting("one") == []


@asynchronous
async def test_a_missing_group_delays_no_other() -> None:
    scene = Scene()
    await scene.plan(*records(2))
    await scene.plan(*records(2, first=3))
    (_, last) = await scene.outbox.waiting("one")
    other = f"{GROUP}-2"
    scene.services.groups[other] = {}
    last.document["log_group"] = f"{other}:*"
    await scene.outbox.store("one", last)
    del scene.services.groups[GROUP]
    with pytest.raises(ServiceMissing):
        await scene.sink.send("one")
    assert len(scene.services.groups[other][NAME]) == 2
    assert len(await scene.outbox.waiting("one")) == 1
    assert (await scene.outbox.status("one")).error == "ResourceNotFoundException"


@asynchronous
async def test_unauthorized_stream_reads_are_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    expected = await scene.plan(*records(3))
    scene.services.faults.extend([None, Fault.UNAVAILABLE])
    with pytest.raises(ServiceError):
        await scene.sink.send("one")

    async def refused(*_: object) -> bool:
        raise ServiceError("AccessDeniedException", "logs:GetLogEvents")

    monkeypatch.setattr(scene.services, "holds", refused)
    await scene.sink.send("one")
    assert scene.ids == expected
