"""The story of Insights: far more instances than usual are launched, found and explained."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect

from opentrail.capture.in_process.shipping import ServerShipper
from opentrail.core.event import format_time, parse_time
from tests.adapters.test_webhook import Stub, stub_webhook
from tests.factories import a_record, an_iam_user, event_id, record_bytes
from tests.live.browser import browser
from tests.live.processes import Opentrail, eventually

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/watched"
Record = Mapping[str, Any]
#: The next minute may have just begun; it ends after 60 s, and is evaluated 30 s later.
_DEADLINE = 180.0
_WEEK = 10_080


def a_call(number: int, moment: datetime, name: str = "RunInstances") -> dict[str, Any]:
    return a_record(
        eventID=event_id(number),
        eventTime=format_time(moment),
        eventSource="ec2.amazonaws.com",
        eventName=name,
        awsRegion="us-east-1",
        recipientAccountId="123456789012",
        userIdentity=an_iam_user(f"builder-{number % 2}"),
    )


def import_a_month(server: Opentrail, file: Path) -> None:
    """Imports 28 days with launches and terminations of instances every second hour."""
    now = datetime.now(UTC)
    calls = [
        a_call(1_000 + 2 * hours + end, now - timedelta(hours=2 * hours, minutes=30 + end), name)
        for hours in range(28 * 12)
        for end, name in enumerate(("RunInstances", "TerminateInstances"))
    ]
    file.write_text("\n".join(json.dumps(call) for call in calls))
    done = server.opentrail("import", str(file))
    assert done.returncode == 0, done.stderr


def wait_until_learned(server: Opentrail) -> None:
    def is_watching() -> bool:
        status = server.opentrail("insights", "status", "--json").stdout
        return bool(json.loads(status)["state"] == "watching")

    eventually(is_watching, "Insights that watches", _DEADLINE)


def wait_for(server: Opentrail, *states: tuple[str, str]) -> dict[tuple[str, str], Record]:
    """Returns the Insights records of these APIs and states, once lookups find them."""
    cloudtrail = server.boto("cloudtrail")
    found: dict[tuple[str, str], Record] = {}

    def all_found() -> bool:
        for event in cloudtrail.lookup_events(EventCategory="insight")["Events"]:
            record = json.loads(event["CloudTrailEvent"])
            details = record["insightDetails"]
            found[details["eventName"], details["state"]] = record
        return found.keys() >= set(states)

    eventually(all_found, f"Insights records of {states}", _DEADLINE)
    listed = server.aws("cloudtrail", "lookup-events", "--event-category", "insight")
    assert len(json.loads(listed)["Events"]) >= len(found)
    return found


def check_figures(record: Record, calls: Sequence[Record]) -> None:
    """Compares a record's averages and attributions with plain counts."""
    details = record["insightDetails"]
    statistics = details["insightContext"]["statistics"]
    minutes = statistics["insightDuration"]
    begin = parse_time(record["eventTime"])
    if details["state"] == "End":
        begin -= timedelta(minutes=minutes)
    before = statistics["baselineDuration"]
    assert before == _WEEK
    periods = {
        "insight": (begin, begin + timedelta(minutes=minutes), minutes),
        "baseline": (begin - timedelta(minutes=before), begin, before),
    }
    for period, (first, last, length) in periods.items():
        counted = [each for each in calls if first <= parse_time(each["eventTime"]) < last]
        assert statistics[period]["average"] == pytest.approx(len(counted) / length, abs=1e-10)
        for attribution in details["insightContext"]["attributions"]:
            values = Counter(_value(each, attribution["attribute"]) for each in counted)
            averages = {each["value"]: each["average"] for each in attribution[period]}
            assert averages == pytest.approx(
                {value: number / length for value, number in values.most_common(5)}, abs=1e-10
            )
            assert list(averages.values()) == sorted(averages.values(), reverse=True)


def _value(call: Record, attribute: str) -> str:
    if attribute == "userIdentityArn":
        return str(call["userIdentity"]["arn"])
    return str(call.get(attribute, "null"))


@dataclass
class Story:
    """A server with far more launches of instances than usual at `began`."""

    server: Opentrail
    began: datetime
    #: The time when another process terminated as many, which it reported late.
    ended: datetime
    #: Insights records by event name and state.
    found: Mapping[tuple[str, str], Record]


@pytest.fixture(scope="module")
def webhook() -> Iterator[Stub]:
    with stub_webhook() as stub:
        yield stub


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, webhook: Stub) -> Iterator[Opentrail]:
    """A sandbox with a month of history, a trail for Insights, and Insights on."""
    folder = tmp_path_factory.mktemp("watched")
    server = Opentrail(folder / "data", "--insights", "off", command="sandbox")
    try:
        server.start()
        import_a_month(server, folder / "month.ndjson")
        server.stop()
        server.flags = (
            *("--config", str(folder / "opentrail.toml"), "--webhook-url", webhook.url),
            *("--console-url", "https://trail.example"),
        )
        (folder / "opentrail.toml").write_text(
            '[webhook]\nform = "slack"\nnetworks = ["127.0.0.0/8"]\ninsights = "on"\n'
        )
        server.start()
        server.aws("s3", "mb", "s3://evidence")
        trail = ("--name", "watched", "--s3-bucket-name", "evidence")
        server.aws("cloudtrail", "create-trail", *trail, "--enable-log-file-validation")
        types = ("InsightType=ApiCallRateInsight", "InsightType=ApiErrorRateInsight")
        selectors = ("--trail-name", "watched", "--insight-selectors", *types)
        server.aws("cloudtrail", "put-insight-selectors", *selectors)
        server.aws("cloudtrail", "start-logging", "--name", ARN)
        wait_until_learned(server)
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def story(watched: Opentrail) -> Story:
    ec2 = watched.boto("ec2")
    # All in one minute: an incident begins with the first minute of many calls.
    eventually(lambda: datetime.now(UTC).second < 30, "the first half of a minute")
    began = datetime.now(UTC).replace(second=0, microsecond=0)
    for _ in range(40):
        ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)
    # Another process now reports 40 calls from half an hour ago.
    shipper, ended = ServerShipper.of_data_dir(watched.data_dir), began - timedelta(minutes=30)
    for number in range(40):
        moment = ended + timedelta(seconds=6 * number)
        shipper.ship(record_bytes(a_call(number, moment, "TerminateInstances")))
    found = wait_for(
        watched,
        ("RunInstances", "Start"),
        ("TerminateInstances", "Start"),
        ("TerminateInstances", "End"),
    )
    return Story(watched, began, ended, found)


def test_unusual_number_of_instances_is_found_in_minutes(story: Story, webhook: Stub) -> None:
    server, began, ended, found = story.server, story.began, story.ended, story.found
    calls = server.records("eventSource:ec2.amazonaws.com AND eventCategory:Management")
    for (name, _), record in found.items():
        check_figures(record, [call for call in calls if call["eventName"] == name])
    launched = found["RunInstances", "Start"]
    duration = launched["insightDetails"]["insightContext"]["statistics"]["insightDuration"]
    assert parse_time(launched["eventTime"]) in (began, began + timedelta(minutes=1))
    assert duration <= 3
    start, end = (found["TerminateInstances", state] for state in ("Start", "End"))
    assert start["sharedEventID"] == end["sharedEventID"]
    assert parse_time(start["eventTime"]) == ended
    assert parse_time(end["eventTime"]) == ended + timedelta(minutes=4)

    listed = server.opentrail("insights", "--json").stdout.splitlines()
    (incident,) = [each for each in map(json.loads, listed) if "RunInstances" in each["sentence"]]
    assert "usually 0.5 an hour" in incident["sentence"]
    link = f"https://trail.example/console/insights/{incident['id']}"
    eventually(
        lambda: any(link in json.loads(body)["text"] for _, _, body in webhook.came),
        "an alert",
        _DEADLINE,
    )
    shown = server.opentrail("insights", "show", incident["id"], "--events", "--json").stdout
    events = [json.loads(line) for line in shown.splitlines()]
    assert len(events) == 40
    assert {event["eventName"] for event in events} == {"RunInstances"}

    assert server.opentrail("trail", "flush", "watched").returncode == 0
    delivered = server.aws("s3", "ls", "--recursive", "s3://evidence/")
    assert "CloudTrail-Insight/us-east-1/" in delivered
    since = ("--start-time", "2020-01-01T00:00:00Z")
    checked = server.try_aws("cloudtrail", "validate-logs", "--trail-arn", ARN, *since)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert " valid" in checked.stdout


def test_an_incident_can_be_marked_as_expected(chromium: Chromium, story: Story) -> None:
    with browser(chromium, story.server) as console:
        console.open()
        page = console.page
        console.go("insights")
        page.get_by_role("link", name=re.compile("RunInstances")).first.click()
        expect(page.get_by_role("heading", name=re.compile("RunInstances"))).to_be_visible()
        expect(page.get_by_role("group", name="Calls around the incident")).to_be_visible()
        expect(page.get_by_text("arn:aws:iam::123456789012:user/admin").first).to_be_visible()
        page.get_by_role("tab", name="CloudTrail events").click()
        page.get_by_role("link", name="Open in Event history").click()
        expect(page.get_by_role("heading", name="Event history (40)")).to_be_visible()
        page.go_back()
        page.get_by_role("button", name="Mark as expected").click()
        page.get_by_label("Note").fill("a load test")
        page.get_by_role("dialog").get_by_role("button", name="Mark as expected").click()
        expect(page.get_by_text("a load test")).to_be_visible()
        console.check()
    listed = story.server.opentrail("insights", "--json").stdout.splitlines()
    (incident,) = [each for each in map(json.loads, listed) if "RunInstances" in each["sentence"]]
    assert incident["expected"] == "a load test"
