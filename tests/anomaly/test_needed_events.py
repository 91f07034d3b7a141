"""A trail's bucket is unreachable for longer than the limits on events allow."""

from __future__ import annotations

import base64
import random
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opentrail.commands.client import find
from opentrail.core.event import new_event_id
from tests.anomaly.bad_store import BadStore
from tests.anomaly.test_bad_stores import delivered, flushed
from tests.factories import a_record, record_bytes
from tests.live.processes import Opentrail, eventually, health, moto_server, opentrail_server

pytestmark = [pytest.mark.anomaly, pytest.mark.live, pytest.mark.slow]

#: Calls whose records need more space than `--history-size 50MB` allows.
CALLS = 12_000
#: Calls in a request, and bytes of each.
_BATCH, _CALL_BYTES = 500, 4_000


def send(server: Opentrail, names: Sequence[str]) -> None:
    """Records calls as a hook does; returns once all are acknowledged."""
    console = find(Namespace(endpoint=None, data_dir=server.data_dir))
    for start in range(0, len(names), _BATCH):
        part = names[start : start + _BATCH]
        lines = b"\n".join(record_bytes(call(name)) for name in part)
        assert console.send("/api/v1/records", [lines], 60) == {"taken": len(part)}


def call(name: str) -> dict[str, Any]:
    """Returns a record of 6 kB that hardly compresses."""
    path = base64.b64encode(random.randbytes(_CALL_BYTES)).decode()
    parameters = {"userName": name, "path": path}
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return a_record(eventID=new_event_id(), eventTime=now, requestParameters=parameters)


def log_into_bucket(server: Opentrail) -> None:
    """Creates the trail `tried`."""
    server.boto("s3").create_bucket(Bucket="tried")
    trail = server.boto("cloudtrail")
    trail.create_trail(Name="tried", S3BucketName="tried", EnableLogFileValidation=True)
    trail.start_logging(Name="tried")
    flushed(server)


def has_expired(server: Opentrail) -> int:
    return server.count("eventName=EventsExpired")


def over_limit(server: Opentrail) -> list[str]:
    """Returns the problem of the exceeded limit."""
    return [text for text in health(server)["dataProblems"] if "--history-size" in text]


def test_limit_spares_events_for_an_unreachable_bucket(tmp_path: Path) -> None:
    names = [f"user-{number}" for number in range(CALLS)]
    with moto_server() as moto, BadStore(moto, ()) as store:
        flags = ("--upstream", moto, "--upstream", f"s3={store.url}", "--insights", "off")
        limits = ("--delivery-interval", "1", "--history-size", "50MB")
        with opentrail_server(tmp_path / "data", *flags, *limits) as server:
            log_into_bucket(server)
            store.script.extend(["down"] * 1_000_000)
            send(server, names)
            problems = eventually(lambda: over_limit(server) or has_expired(server), "the limit")
            assert "trail/tried needs 1" in str(problems)
            store.script.clear()
            flushed(server)
            missing = Counter(names) - delivered(moto)
            assert not missing, f"{missing.total()} calls are in no log file"
            eventually(lambda: has_expired(server), "the limit is kept again")
            eventually(lambda: not over_limit(server), "the limit is kept again")
