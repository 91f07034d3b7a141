"""Insights events with aws-cli: selected by a trail, delivered, valid, and found in history."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opentrail.capture.in_process.shipping import ServerShipper
from tests.factories import an_insight_record, event_id, record_bytes
from tests.live.processes import opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/watched"
RATE = {"InsightType": "ApiCallRateInsight", "EventCategories": ["Management"]}
MINUTE = datetime.now(UTC).replace(second=0, microsecond=0)


def ship_insight(data_dir: Path, number: int, **details: str) -> None:
    """Sends an Insights event to the server, like its detector."""
    record = an_insight_record(**details)
    record |= {
        "eventID": event_id(number),
        "eventTime": f"{MINUTE - timedelta(minutes=5):%Y-%m-%dT%H:%M:%SZ}",
        # The API for other processes requires these of every record.
        "eventSource": "iam.amazonaws.com",
        "eventName": "CreateUser",
    }
    ServerShipper.of_data_dir(data_dir).ship(record_bytes(record))


def test_delivered_insights_events_are_valid_and_found(tmp_path: Path) -> None:
    # Only `trail flush` delivers.
    flags = ("--delivery-interval", "3600", "--digest-interval", "3600")
    with opentrail_server(tmp_path / "data", *flags, command="sandbox") as server:
        server.aws("s3", "mb", "s3://evidence")
        trail = ("--name", "watched", "--s3-bucket-name", "evidence")
        server.aws("cloudtrail", "create-trail", *trail, "--enable-log-file-validation")
        put = ("cloudtrail", "put-insight-selectors", "--trail-name", "watched")
        said = server.aws(*put, "--insight-selectors", "InsightType=ApiCallRateInsight")
        assert json.loads(said) == {"TrailARN": ARN, "InsightSelectors": [RATE]}
        server.aws("cloudtrail", "start-logging", "--name", ARN)

        ship_insight(tmp_path / "data", 0)
        ship_insight(tmp_path / "data", 1, insightType="ApiErrorRateInsight")
        assert server.opentrail("trail", "flush", "watched").returncode == 0

        listed = server.aws("s3", "ls", "--recursive", "s3://evidence/")
        keys = [line.split()[-1] for line in listed.splitlines() if line.endswith(".json.gz")]
        (insights,) = [key for key in keys if "CloudTrail-Insight" in key]
        assert insights.startswith(
            f"AWSLogs/123456789012/CloudTrail-Insight/us-east-1/{datetime.now(UTC):%Y/}"
        )
        checked = server.try_aws(
            *("cloudtrail", "validate-logs", "--trail-arn", ARN),
            *("--start-time", "2020-01-01T00:00:00Z"),
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "2/2 log files valid" in checked.stdout
        ours = server.validate(ARN)
        assert ours.returncode == 0, ours.stdout + ours.stderr

        found = json.loads(
            server.aws("cloudtrail", "lookup-events", "--event-category", "insight")
        )["Events"]
        assert {event["EventId"] for event in found} == {event_id(0), event_id(1)}
        assert {event["EventName"] for event in found} == {"CreateUser"}
        assert not any("Username" in event for event in found)


def test_insights_data_has_the_rates_of_the_calls(tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", command="sandbox") as server:
        server.aws("s3", "mb", "s3://evidence")
        server.aws(
            "cloudtrail", "create-trail", "--name", "watched", "--s3-bucket-name", "evidence"
        )
        ship_insight(tmp_path / "data", 0)
        about_data = {"sourceEventCategory": "Data", "insightSource": ARN}
        ship_insight(tmp_path / "data", 1, **about_data, eventName="PutObject")
        iam = server.boto("iam")
        for name in ("one", "two", "three"):
            iam.create_user(UserName=name)

        listing = ("cloudtrail", "list-insights-data", "--insight-source", ARN)
        listed = server.aws(
            *(*listing, "--data-type", "InsightsEvents", "--dimensions", "EventName=PutObject")
        )
        assert [event["EventId"] for event in json.loads(listed)["Events"]] == [event_id(1)]
        looked_up = server.aws("cloudtrail", "lookup-events", "--event-category", "insight")
        assert [event["EventId"] for event in json.loads(looked_up)["Events"]] == [event_id(0)]

        rates = json.loads(
            server.aws(
                *("cloudtrail", "list-insights-metric-data", "--period", "60"),
                *("--event-source", "iam.amazonaws.com", "--event-name", "CreateUser"),
                *("--insight-type", "ApiCallRateInsight"),
            )
        )
        assert sum(rates["Values"]) == 3
        assert len(rates["Timestamps"]) == len(rates["Values"])
