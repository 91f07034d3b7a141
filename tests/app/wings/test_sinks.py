"""Which services are notified."""

from __future__ import annotations

from pathlib import Path

from opentrail.app.wings import sinks
from tests.app.wings.cores import a_core
from tests.fakes import asynchronous


@asynchronous
async def test_an_event_bus_gets_events_unless_that_is_off(tmp_path: Path) -> None:
    async with a_core(tmp_path / "on") as core:
        wing = sinks.start(core)
        assert len(wing.followers) == 1
        assert [sink.name for sink in wing.sinks] == ["notices", "log streams"]
    async with a_core(tmp_path / "off", event_bridge="off") as core:
        wing = sinks.start(core)
        assert wing.followers == ()
        assert len(wing.sinks) == 2
