"""The notified services."""

from __future__ import annotations

from pathlib import Path

from opentrail.app.wings import sinks
from opentrail.core.event import DETECTION
from opentrail.trails.registry import TrailRegistry
from tests.app.wings.cores import a_core
from tests.factories import a_record, a_trail, an_audit_record, an_entry, entries_of
from tests.fakes import MemoryControl, asynchronous


@asynchronous
async def test_an_event_bus_gets_events_by_default(tmp_path: Path) -> None:
    async with a_core(tmp_path / "on") as core:
        wing = sinks.start(core)
        assert len(wing.followers) == 1
        assert [sink.name for sink in wing.sinks] == ["notices", "log streams"]
    async with a_core(tmp_path / "off", event_bridge="off") as core:
        wing = sinks.start(core)
        assert wing.followers == ()
        assert len(wing.sinks) == 2


@asynchronous
async def test_bus_gets_matches_of_accounts_with_logging_trails() -> None:
    trails = TrailRegistry(MemoryControl())
    assert await sinks._matcher(trails) is None
    await trails.add(a_trail().started(0, "2020-01-01T09:00:00.000000+00:00"))
    matcher = await sinks._matcher(trails)
    assert matcher is not None
    match = an_entry(2, a_record(eventCategory=DETECTION))
    other = an_entry(3, a_record(eventCategory=DETECTION, recipientAccountId="9" * 12))
    sent = an_entry(4, an_audit_record(), origin="channel")
    [call] = entries_of([a_record()])
    assert matcher([call, match, other, sent]) == [call, match]
