"""Expiry while the process is killed, and on a filling or full disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from opentrail.adapters.ipc import child
from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.app.losses import record_expired
from opentrail.core.event import MANAGEMENT
from opentrail.ports.event_store import Excess
from tests.adapters.duckdb.test_expiry import LONG_AGO, write
from tests.adapters.duckdb.worlds import ALL, world
from tests.anomaly.test_bad_days import fill, small_disk
from tests.fakes import MemoryJournal, SettableClock, asynchronous, naive_page
from tests.live.processes import Opentrail, eventually, health, opentrail_server, until_well
from tests.stub_upstream import StubUpstream

__all__ = ["small_disk"]

pytestmark = [pytest.mark.anomaly, pytest.mark.slow]


@pytest.mark.parametrize("point", ["history.expiring", "history.thinned", "history.expired"])
@asynchronous
async def test_killed_expiry_is_recorded_once(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event history process is killed at its first passage of the point."""
    monkeypatch.setenv("OPENTRAIL_CRASH_AT", f"{point}:1")
    monkeypatch.setenv(child._CRASH_FAMILY, "")  # this process survives
    async with world(tmp_path) as here:
        entries = await write(here, "md" * 20 + "d" * 20 + "m" * 10)
        await here.seal((1, 40), (41, 60))
        store = IpcEventStore(here.history, SqliteJournalSource(here.journal_folder), 1_000)
        await store.open()
        for _round in range(3):  # a new process verifies the files first
            while not (await store.refresh()).is_checked:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
            await store.expire(LONG_AGO, 60, None, Excess(10**9, "size", True))
        await store.add(await here.entries(store.position))
        kept = [e for e in entries if e.category == MANAGEMENT]
        assert await store.lookup(ALL) == naive_page(kept, ALL)
        journal = MemoryJournal()
        for _round in range(2):
            await record_expired(here.history, journal, SettableClock(), lambda _events: None)
        recorded = [json.loads(e.record)["serviceEventDetails"] for e in await journal.read(0, 9)]
        assert [each["expiredEvents"] for each in recorded] == [20, 20]
        await store.close()


def read_objects(server: Opentrail, count: int) -> None:
    s3 = server.boto("s3")
    for number in range(count):
        s3.get_object(Bucket="bucket", Key=f"key-{number}")


def expired(server: Opentrail) -> Sequence[dict[str, Any]]:
    return [each["serviceEventDetails"] for each in server.records("eventName=EventsExpired")]


def is_sealed(server: Opentrail) -> bool:
    state = health(server)
    return bool(state["history"]["files"] >= 3 and state["journal"]["checked"])


@pytest.mark.live
@pytest.mark.campaign
@pytest.mark.parametrize("share", [0.94, 1.0])
def test_data_events_expire_before_calls_are_refused(small_disk: Path, share: float) -> None:
    flags = ("--history-seal-records", "300", "--insights", "off", "--disk-full-expiry", "data")
    with (
        StubUpstream() as upstream,
        opentrail_server(small_disk / "data", "--upstream", upstream.url, *flags) as server,
    ):
        server.boto("iam").create_user(UserName="before")
        read_objects(server, 1_000)
        eventually(lambda: is_sealed(server), "three sealed files")
        filler = fill(small_disk)
        if share < 1:
            size = filler.stat().st_size
            with filler.open("r+b") as file:
                file.truncate(size - int((1 - share) * 24 * 2**20))
        found = eventually(lambda: expired(server), "an expiry")
        assert {(each["category"], each["reason"]) for each in found} == {("Data", "disk")}
        state = health(server)
        assert state["status"] == "degraded"
        assert "the disk of" in state["dataProblems"][0]
        read_objects(server, 20)
        users = [r["requestParameters"]["userName"] for r in server.records("eventName=CreateUser")]
        assert users == ["before"]
        filler.unlink()
        until_well(server)
        assert server.stop() == 0
        done = server.opentrail("verify-store", "--data-dir", str(small_disk / "data"))
        assert done.returncode == 0, done.stdout
