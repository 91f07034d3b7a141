"""Notifications: AWS's message for each log file, at least once, for a day at most."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from opentrail.core.errors import ServiceError, ServiceMissing
from opentrail.core.trail import stored_time
from opentrail.ports.metrics import Metrics
from opentrail.trails.outbox import NOTICE, SUBJECT, Outbox, SinkStatus, note_of
from opentrail.trails.sns import SnsSink
from tests.factories import MOMENT
from tests.fakes import Fault, MemoryControl, MemoryServices, SettableClock, asynchronous

TOPIC = "arn:aws:sns:us-east-1:123456789012:news"


class Scene:
    """A trail with files to announce to a topic."""

    def __init__(self) -> None:
        self.control, self.services = MemoryControl(), MemoryServices()
        self.services.topics[TOPIC] = []
        self.clock = SettableClock()
        self.notices = SnsSink(self.control, self.services, self.clock, Metrics())
        self.outbox = Outbox(self.control, NOTICE, timedelta(1))
        self.files = 0

    async def deliver(self, count: int) -> list[str]:
        """Notes files; returns their keys."""
        keys = []
        for _ in range(count):
            self.files += 1
            keys.append(f"AWSLogs/1/CloudTrail/{self.files:03}.json.gz")
            document = {"topic": TOPIC, "bucket": "my-bucket", "key": keys[-1]}
            since = stored_time(self.clock.now())
            await self.control.apply([note_of(NOTICE, "one", self.files, since, document)])
        return keys

    @property
    def announced(self) -> list[str]:
        """The keys announced to the topic."""
        return [json.loads(m)["s3ObjectKey"][0] for _, m in self.services.topics[TOPIC]]


@asynchronous
async def test_each_file_has_a_message_in_awss_form() -> None:
    scene = Scene()
    (key,) = await scene.deliver(1)
    await scene.notices.send("one")
    assert scene.services.topics[TOPIC] == [
        (SUBJECT, f'{{"s3Bucket":"my-bucket","s3ObjectKey":["{key}"]}}')
    ]
    await scene.notices.send("one")
    assert len(scene.announced) == 1


@asynchronous
async def test_each_of_many_files_is_announced_once() -> None:
    scene = Scene()
    keys = await scene.deliver(50)
    await scene.notices.send("one")
    assert sorted(scene.announced) == keys
    assert await scene.outbox.waiting("one") == []
    now = stored_time(MOMENT)
    assert await scene.outbox.status("one") == SinkStatus(now, now, None)


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.LOST_ANSWER])
@asynchronous
async def test_only_failed_messages_are_sent_again(fault: Fault) -> None:
    scene = Scene()
    keys = await scene.deliver(20)
    scene.services.faults.extend([None, None, fault])
    with pytest.raises(ServiceError):
        await scene.notices.send("one")
    how = await scene.outbox.status("one")
    assert (how.error, how.latest) != (None, None)
    await scene.notices.send("one")
    twice = 1 if fault is Fault.LOST_ANSWER else 0
    assert sorted(set(scene.announced)) == keys
    assert len(scene.announced) == len(keys) + twice
    assert (await scene.outbox.status("one")).error is None


@asynchronous
async def test_a_missing_topic_is_retried_for_a_day() -> None:
    scene = Scene()
    await scene.deliver(3)
    del scene.services.topics[TOPIC]
    scene.clock.advance(86_400)
    late = await scene.deliver(1)
    with pytest.raises(ServiceMissing):
        await scene.notices.send("one")
    assert (await scene.outbox.status("one")).error == "NotFound"
    scene.clock.advance(1)
    scene.services.topics[TOPIC] = []
    await scene.notices.send("one")
    assert scene.announced == late


@asynchronous
async def test_a_missing_topic_delays_no_other() -> None:
    scene = Scene()
    await scene.deliver(20)
    del scene.services.topics[TOPIC]
    other = f"{TOPIC}-2"
    scene.services.topics[other] = []
    document = {"topic": other, "bucket": "my-bucket", "key": "k"}
    since = stored_time(scene.clock.now())
    await scene.control.apply([note_of(NOTICE, "one", 99, since, document)])
    with pytest.raises(ServiceMissing):
        await scene.notices.send("one")
    assert len(scene.services.topics[other]) == 1
    assert len(await scene.outbox.waiting("one")) == 20


@asynchronous
async def test_only_old_notes_of_late_files_expire() -> None:
    """A file planned first may be written last: its note has the lowest key, but is the newest."""
    scene = Scene()
    for number, hours in ((6, 0), (5, 20), (7, 1)):
        scene.files = number - 1
        scene.clock.moment = MOMENT + timedelta(hours=hours)
        await scene.deliver(1)
    scene.clock.moment = MOMENT + timedelta(hours=24.5)
    await scene.notices.send("one")
    assert sorted(key[-11:-8] for key in scene.announced) == ["005", "007"]
    assert await scene.outbox.waiting("one") == []
