"""The output of `opentrail status`."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from opentrail.app.health import ServerStatus
from opentrail.core.logs import LastProblem
from opentrail.core.selectors.selection import LeftOut
from opentrail.settings import Settings
from tests.api.caller import Api
from tests.factories import MOMENT
from tests.fakes import asynchronous
from tests.trails.world import BUCKET


async def document(api: Api, folder: Path, problem: LastProblem) -> dict[str, Any]:
    settings = Settings(data_dir=folder, upstream={"": "http://127.0.0.1:1"})

    async def health() -> dict[str, Any]:
        return {"status": "ok"}

    async def disk() -> dict[str, Any]:
        return {"used": 10_000, "free": 1}

    quantiles = [(0.5, 0.01234), (0.99, math.nan)]
    counts = {LeftOut("s3.amazonaws.com", "GetObject", "AWS::S3::Object"): 3}
    status = ServerStatus(
        settings, api.services, health, lambda: quantiles, lambda: counts, problem, MOMENT, disk
    )
    return await status.document()


@asynchronous
async def test_health_trails_disk_and_last_problem_are_shown(tmp_path: Path) -> None:
    api, problem = Api(), LastProblem()
    empty = await document(api, tmp_path, problem)
    assert empty["trails"] == []
    assert empty["newestEvent"] is None
    assert empty["lastProblem"] is None
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET)
    problem.emit(logging.makeLogRecord({"msg": "it broke", "levelno": logging.ERROR}))
    shown = await document(api, tmp_path, problem)
    assert shown["status"] == "ok"
    assert shown["upstreams"] == {"*": "http://127.0.0.1:1"}
    assert shown["visibleSeconds"] == {"p50": 0.012, "p99": None}
    assert [trail["name"] for trail in shown["trails"]] == ["my-trail"]
    assert shown["record"] == "all"
    (left_out,) = shown["leftOut"]
    assert (left_out["eventName"], left_out["calls"]) == ("GetObject", 3)
    assert shown["disk"]["used"] >= 10_000
    assert shown["disk"]["free"] > 0
    assert shown["lastProblem"]["message"] == "it broke"
