"""A server that sends its events to a collector of OpenTelemetry."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.live.processes import Opentrail, eventually, free_port, moto_server
from tests.stub_collector import StubCollector, stub_collector

pytestmark = [pytest.mark.live, pytest.mark.slow]

#: The parameters of CreateUser, in a record of CloudTrail and in OCSF.
PARAMETERS = re.compile(r'\{"userName":"([^"]*)"\}')


def users(collector: StubCollector) -> list[str]:
    """Returns the names of the created users in order, possibly repeated."""
    bodies = [record["body"]["stringValue"] for record in collector.records()]
    return [PARAMETERS.findall(body)[0] for body in bodies if '"CreateUser"' in body]


def has_users(collector: StubCollector, count: int) -> None:
    eventually(lambda: len(set(users(collector))) == count, f"{count} users are there")


def test_collector_gets_events_after_both_sides_restart(tmp_path: Path) -> None:
    with moto_server() as upstream, stub_collector() as collector:
        flags = ("--upstream", upstream, "--otlp-endpoint", collector.url)
        server = Opentrail(tmp_path / "data", *flags)
        try:
            server.start(OPENTRAIL_OTLP_HEADERS="Authorization=Bearer secret")
            for number in range(3):
                server.boto("iam").create_user(UserName=f"user-{number}")
            has_users(collector, 3)
            assert {headers["Authorization"] for headers in collector.headers} == {"Bearer secret"}
            assert "secret" not in server.opentrail("status", "--json").stdout

            # Events arrive late if the collector was busy.
            collector.statuses = [503, 429]
            server.boto("iam").create_user(UserName="user-3")
            has_users(collector, 4)
            server.kill()
            server.start()
            server.boto("iam").create_user(UserName="user-4")
            has_users(collector, 5)
        finally:
            server.close()
    # At least once, and in order.
    assert list(dict.fromkeys(users(collector))) == [f"user-{number}" for number in range(5)]


def test_events_reach_a_collector_in_ocsf(tmp_path: Path) -> None:
    with moto_server() as upstream, stub_collector() as collector:
        flags = ("--upstream", upstream, "--otlp-endpoint", collector.url)
        server = Opentrail(tmp_path / "data", *flags)
        try:
            server.start(OPENTRAIL_OTLP_BODY="ocsf")
            server.boto("iam").create_user(UserName="Mary")
            has_users(collector, 1)
        finally:
            server.close()
    bodies = [json.loads(one["body"]["stringValue"]) for one in collector.records()]
    (event,) = [body for body in bodies if body["api"]["operation"] == "CreateUser"]
    assert event["class_uid"] == 6003
    assert event["api"]["request"]["data"] == {"userName": "Mary"}


def test_a_server_records_while_its_collector_is_down(tmp_path: Path) -> None:
    port = free_port()
    with moto_server() as upstream:
        flags = ("--upstream", upstream, "--otlp-endpoint", f"http://127.0.0.1:{port}")
        server = Opentrail(tmp_path / "data", *flags)
        try:
            server.start()
            server.boto("iam").create_user(UserName="Mary")
            assert len(server.records("name=CreateUser")) == 1
            with stub_collector(port) as late:
                has_users(late, 1)
        finally:
            server.close()
