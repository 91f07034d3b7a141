"""The wing of detections."""

from __future__ import annotations

from pathlib import Path

from opentrail.api.v1.detections import Detections
from opentrail.app.wings import detections
from tests.api.caller import Api
from tests.app.wings.cores import a_core
from tests.fakes import asynchronous


@asynchronous
async def test_the_wing_has_calls_and_a_follower(tmp_path: Path) -> None:
    async with a_core(tmp_path) as core:
        wing = detections.start(core)
        (group,) = wing.groups(Api().services, list)
        assert isinstance(group, Detections)
        assert len(wing.followers) == 1
    async with a_core(tmp_path / "webhook", detections_webhook="http://alerts.example") as core:
        assert len(detections.start(core).followers) == 2
