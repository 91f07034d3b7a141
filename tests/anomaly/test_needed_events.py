"""A trail's bucket is unreachable for longer than the limits on events allow."""

from __future__ import annotations

import base64
import itertools
import json
import random
import threading
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opentrail.commands.client import find
from opentrail.core.errors import OpentrailError
from opentrail.core.event import new_event_id
from tests.anomaly.bad_store import BadStore
from tests.anomaly.test_bad_days import file_system
from tests.anomaly.test_bad_stores import delivered, flushed
from tests.factories import a_data_record, record_bytes
from tests.live.processes import Opentrail, eventually, health, moto_server, opentrail_server

pytestmark = [pytest.mark.anomaly, pytest.mark.live, pytest.mark.slow]

#: Calls whose records need more space than `--history-size 50MB` allows.
CALLS = 12_000
#: Calls in a request, and bytes of each.
_BATCH, _CALL_BYTES = 200, 4_000
#: A trail and a store of the calls below. They are data events, which expire first.
SELECTORS = [
    {
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
        ]
    }
]
#: Runs before a server, whose clock is then ahead.
CLOCK = """
import os
from datetime import timedelta
from opentrail.adapters.data_directory.system import SystemClock
now = SystemClock.now
SystemClock.now = lambda clock: now(clock) + timedelta(days=int(os.environ["DAYS_AHEAD"]))
"""


def call(name: str, ahead: timedelta) -> bytes:
    """Returns a record of 6 kB that hardly compresses."""
    path = base64.b64encode(random.randbytes(_CALL_BYTES)).decode()
    time = f"{datetime.now(UTC) + ahead:%Y-%m-%dT%H:%M:%SZ}"
    parameters = {"userName": name, "path": path}
    record = a_data_record(eventID=new_event_id(), eventTime=time, eventName="CreateUser")
    return record_bytes({**record, "requestParameters": parameters})


@dataclass
class Outage:
    """A server with a trail whose bucket is unreachable, and its acknowledged calls."""

    server: Opentrail
    moto: str
    store: BadStore
    acknowledged: list[str] = field(default_factory=list)
    #: Calls whose answer was lost: they may be recorded.
    unanswered: list[str] = field(default_factory=list)
    store_id: str = ""
    ahead: timedelta = timedelta(0)

    def begin(self, *, with_store: bool = False) -> None:
        """Starts logging, then makes the bucket unreachable."""
        self.server.boto("s3").create_bucket(Bucket="tried")
        trail = self.server.boto("cloudtrail")
        trail.create_trail(Name="tried", S3BucketName="tried", EnableLogFileValidation=True)
        trail.put_event_selectors(TrailName="tried", AdvancedEventSelectors=SELECTORS)
        trail.start_logging(Name="tried")
        if with_store:
            made = trail.create_event_data_store(Name="all", AdvancedEventSelectors=SELECTORS)
            self.store_id = str(made["EventDataStoreArn"]).rpartition("/")[2]
        flushed(self.server)
        self.store.script.extend(["down"] * 1_000_000)

    def send(self, count: int) -> None:
        """Records calls as a hook does; tries again with others while the server is down."""
        while (sent := len(self.acknowledged)) < count:
            first = sent + len(self.unanswered)
            names = [f"user-{number}" for number in range(first, first + min(_BATCH, count - sent))]
            if self.try_to_send(names):
                self.acknowledged += names
            else:
                self.unanswered += names
                threading.Event().wait(0.1)

    def try_to_send(self, names: Sequence[str]) -> bool:
        """Returns whether a batch of calls is acknowledged."""
        lines = b"\n".join(call(name, self.ahead) for name in names)
        try:
            console = find(Namespace(endpoint=None, data_dir=self.server.data_dir))
            return bool(console.send("/api/v1/records", [lines], 60) == {"taken": len(names)})
        except (OpentrailError, OSError):
            return False

    def send_until_refused(self) -> None:
        """Records calls until the disk is full."""
        for first in itertools.count(0, _BATCH):
            names = [f"last-{number}" for number in range(first, first + _BATCH)]
            if not self.try_to_send(names):
                self.unanswered += names
                return
            self.acknowledged += names

    def send_through_kills(self, count: int, kills: int, **environment: str) -> None:
        """Records calls while the server is killed and started again."""
        sender = threading.Thread(target=self.send, args=(count,))
        sender.start()
        chance = random.Random(20200101)
        for _ in range(kills):
            threading.Event().wait(chance.uniform(0.5, 3))
            self.server.kill()
            self.server.start(**environment)
        sender.join()

    def end(self) -> None:
        """Makes the bucket reachable, and finds each acknowledged call in one log file."""
        self.store.script.clear()
        flushed(self.server)
        found = delivered(self.moto)
        missing = Counter(self.acknowledged) - found
        assert not missing, f"{missing.total()} calls are in no log file"
        assert set(found.values()) == {1}
        assert set(found) <= {*self.acknowledged, *self.unanswered}
        assert health(self.server)["trailProblems"] == []
        if self.store_id:
            assert self._in_store() == len(found)

    def _in_store(self) -> int:
        counted = f"SELECT count(*) AS n FROM {self.store_id} WHERE eventName = 'CreateUser'"  # noqa: S608
        done = self.server.opentrail("query", "--json", counted)
        return int(json.loads(done.stdout)["n"])

    def expired(self) -> int:
        """Returns the number of expiries."""
        return self.server.count("eventName=EventsExpired")

    def excess(self) -> list[str]:
        """Returns the problem of an exceeded limit."""
        problems = health(self.server)["dataProblems"]
        return [text for text in problems if "--history-size" in text]


@contextmanager
def outage(data: Path, *flags: str, interval: int = 1, **environment: str) -> Iterator[Outage]:
    with moto_server() as moto, BadStore(moto, ()) as store:
        upstreams = ("--upstream", moto, "--upstream", f"s3={store.url}", "--insights", "off")
        delivery = ("--delivery-interval", str(interval))
        with opentrail_server(data, *upstreams, *delivery, *flags) as server:
            yield Outage(server, moto, store)


def test_limit_spares_events_for_an_unreachable_bucket(tmp_path: Path) -> None:
    with outage(tmp_path / "data", "--history-size", "50MB") as tried:
        tried.begin()
        tried.send(CALLS)
        problems = eventually(lambda: tried.excess() or tried.expired(), "the limit")
        assert "trail/tried needs 1" in str(problems)
        tried.end()
        eventually(lambda: tried.expired() and not tried.excess(), "the limit is kept again")


def test_trail_and_store_catch_up_to_keep_the_limit(tmp_path: Path) -> None:
    with outage(tmp_path / "data", "--history-size", "50MB", interval=86_400) as tried:
        tried.begin(with_store=True)
        tried.store.script.clear()
        tried.send(CALLS)
        eventually(lambda: tried.expired() and not tried.excess(), "the limit is kept")
        tried.end()


@pytest.mark.campaign
@pytest.mark.parametrize("with_store", [False, True])
def test_kills_beyond_the_size_lose_no_call(tmp_path: Path, with_store: bool) -> None:
    with outage(tmp_path / "data", "--history-size", "50MB") as tried:
        tried.begin(with_store=with_store)
        tried.send_through_kills(CALLS, 4)
        eventually(tried.excess, "the limit")
        tried.end()
        eventually(lambda: tried.expired() and not tried.excess(), "the limit is kept again")


@pytest.mark.campaign
@pytest.mark.parametrize("with_store", [False, True])
def test_kills_beyond_data_event_days_lose_no_call(tmp_path: Path, with_store: bool) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    flags = ("--data-event-days", "1", "--history-seal-records", "300")
    with outage(tmp_path / "data", *flags) as tried:
        tried.send(600)
        unneeded, tried.acknowledged = tried.acknowledged, []
        tried.unanswered += unneeded
        tried.begin(with_store=with_store)
        tried.send_through_kills(1_000, 2)
        tried.server.kill()
        later = {"PYTHONPATH": str(tmp_path), "DAYS_AHEAD": "3"}
        tried.server.start(**later)
        tried.ahead = timedelta(days=3)
        tried.send_through_kills(2_000, 2, **later)
        eventually(tried.expired, "unneeded events expire", 180)
        tried.end()
        assert not set(unneeded) & set(delivered(tried.moto))


@pytest.mark.campaign
@pytest.mark.parametrize("with_store", [False, True])
def test_kills_and_a_full_disk_lose_no_call(tmp_path: Path, with_store: bool) -> None:
    flags = ("--disk-full-expiry", "all")
    with file_system(tmp_path / "disk", 200) as disk, outage(disk / "data", *flags) as tried:
        tried.begin(with_store=with_store)
        tried.send_through_kills(CALLS, 4)
        tried.send_until_refused()
        tried.end()
        if not with_store:  # a store keeps all its events, which need the disk
            while not tried.expired():
                tried.send(len(tried.acknowledged) + 1_000)
            tried.end()
