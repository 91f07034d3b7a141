"""Each match is sent to the webhook at least once, in order."""

from __future__ import annotations

import pytest

from opentrail.core.errors import ServiceError
from opentrail.core.event import DETECTION, Entry
from opentrail.detections import notifications as module
from opentrail.detections.notifications import WebhookFollower
from opentrail.metrics import Metrics
from tests.factories import a_record, an_entry, event_id
from tests.fakes import MemoryControl, asynchronous


class Hook:
    """A `Webhook` in memory."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.answers: list[bool | None] = []

    async def send(self, event_id: str, body: bytes) -> bool:
        answer = self.answers.pop(0) if self.answers else True
        if answer is None:
            raise ServiceError("WebhookFailed", "it is down")
        self.taken.append(event_id)
        return answer


def a_match(position: int) -> Entry:
    return an_entry(position, a_record(eventID=event_id(position), eventCategory=DETECTION))


def follower(control: MemoryControl, hook: Hook, metrics: Metrics | None = None) -> WebhookFollower:
    return WebhookFollower(control, hook, metrics or Metrics(), lambda: 0)


ENTRIES = [a_match(1), an_entry(2), a_match(3), a_match(4)]
IDS = [event_id(1), event_id(3), event_id(4)]


@asynchronous
async def test_matches_alone_are_sent() -> None:
    control, hook, metrics = MemoryControl(), Hook(), Metrics()
    hook.answers = [True, False]
    sends = follower(control, hook, metrics)
    assert await sends.cursor() == 0
    await sends.process(ENTRIES)
    assert hook.taken == IDS
    assert metrics.webhook_events.labels("taken")._value.get() == 2
    assert metrics.webhook_events.labels("rejected")._value.get() == 1
    assert await follower(control, hook).cursor() == 4


@asynchronous
async def test_while_the_webhook_is_down_matches_wait() -> None:
    control, hook = MemoryControl(), Hook()
    hook.answers = [True, None]
    sends = follower(control, hook)
    with pytest.raises(ServiceError):
        await sends.process(ENTRIES)
    assert await sends.cursor() == 1
    again = follower(control, hook)
    await again.process(ENTRIES)
    assert hook.taken == IDS


def test_the_cursor_is_stored_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STORED_EVERY", 5)

    @asynchronous
    async def run() -> None:
        control, hook = MemoryControl(), Hook()
        sends = follower(control, hook)
        await sends.process([an_entry(4)])
        assert await sends.cursor() == 4
        assert await follower(control, hook).cursor() == 0
        await sends.process([an_entry(5)])
        assert await follower(control, hook).cursor() == 5

    run()
