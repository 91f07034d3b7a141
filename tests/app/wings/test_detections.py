"""The wing of detections."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from dataclasses import replace
from pathlib import Path

import pytest

from opentrail.api.v1.detections import Detections
from opentrail.app.wings import detections
from opentrail.core.event import NewEntry
from opentrail.detections.enabled_rules import match_event
from opentrail.ports.follow import StoredCursor
from tests.adapters.test_webhook import LOOPBACK, stub_webhook
from tests.api.caller import Api
from tests.app.wings.cores import a_core
from tests.detections.test_records import RULE
from tests.factories import MOMENT, a_new_entry, a_record, an_entry, event_id
from tests.fakes import SettableClock, asynchronous, eventually


@asynchronous
async def test_the_wing_has_calls_and_a_follower(tmp_path: Path) -> None:
    async with a_core(tmp_path) as core:
        wing = detections.start(core)
        (group,) = wing.groups(Api().services, list)
        assert isinstance(group, Detections)
        assert len(wing.followers) == 1
    async with a_core(tmp_path / "webhook", webhook_url="http://alerts.example") as core:
        assert len(detections.start(core).followers) == 2


def an_event_and_its_match(number: int) -> list[NewEntry]:
    record = a_record(eventID=event_id(number), sourceIPAddress=f"192.0.2.{number}")
    return [a_new_entry(record), match_event(RULE, an_entry(number, record), record, MOMENT)]


@asynchronous
async def test_a_burst_becomes_one_alert_and_one_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detections, "_DUE_SECONDS", 0.01)
    monkeypatch.setattr(detections, "_AGAIN_SECONDS", 0.01)
    clock, key = SettableClock(), "0123456789abcdef0123456789abcdef"
    with stub_webhook() as stub:
        settings = {
            "webhook_url": stub.url,
            "webhook_secret": "s3cret",
            "webhook_networks": LOOPBACK,
            "webhook_form": "pagerduty",
            "webhook_routing_key": key,
        }
        async with a_core(tmp_path, **settings) as core:
            wing = detections.start(replace(core, engines=replace(core.engines, clock=clock)))
            taken = core.engines.metrics.webhook_events.labels("taken")._value
            await StoredCursor(core.worker_control, "webhook", lambda: 0).position()
            found = [each for number in range(1, 6) for each in an_event_and_its_match(number)]
            await core.engines.journal.append(found)
            sending = asyncio.create_task(wing.followers[1]())
            await eventually(lambda: taken.get() == 1)
            stub.statuses = [503]
            clock.advance(60)
            await eventually(lambda: taken.get() == 5 and not wing.problems())
            sending.cancel()
            await asyncio.wait([sending])
    for _, headers, body in stub.came:
        signed = f"{headers['X-Opentrail-Timestamp']}.".encode() + body
        expected = hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
        assert headers["X-Opentrail-Signature"] == f"sha256={expected}"
    alert, failed, digest = [json.loads(body) for _, _, body in stub.came]
    assert failed == digest
    assert alert["routing_key"] == digest["routing_key"] == key
    assert (alert["dedup_key"], digest["dedup_key"]) == tuple(
        an_event_and_its_match(number)[1].event_id for number in (1, 2)
    )
    assert " from 192.0.2.1 at " in alert["payload"]["summary"]
    summary = digest["payload"]["summary"]
    assert " matched 4 times between " in summary
    assert " from 192.0.2.2 at " in summary
    assert " from 192.0.2.5 at " in summary
