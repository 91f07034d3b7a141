"""Insights events with aws-cli: selected by a trail, delivered, valid, and found in history."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opentrail.capture.in_process.shipping import ServerShipper
from tests.factories import an_insight_record, event_id, record_bytes
from tests.live.processes import opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow]

ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/watched"
RATE = {"InsightType": "ApiCallRateInsight", "EventCategories": ["Management"]}


def test_insights_events_are_delivered_valid_for_both_verifiers_and_found(tmp_path: Path) -> None:
    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    with opentrail_server(tmp_path / "data", command="sandbox") as server:
        server.aws("s3", "mb", "s3://evidence")
        trail = ("--name", "watched", "--s3-bucket-name", "evidence")
        server.aws("cloudtrail", "create-trail", *trail, "--enable-log-file-validation")
        put = ("cloudtrail", "put-insight-selectors", "--trail-name", "watched")
        said = server.aws(*put, "--insight-selectors", "InsightType=ApiCallRateInsight")
        assert json.loads(said) == {"TrailARN": ARN, "InsightSelectors": [RATE]}
        server.aws("cloudtrail", "start-logging", "--name", ARN)

        shipper = ServerShipper.of_data_dir(tmp_path / "data")
        for number, insight_type in enumerate(("ApiCallRateInsight", "ApiErrorRateInsight")):
            record = an_insight_record(insightType=insight_type)
            record |= {
                "eventID": event_id(number),
                "eventTime": f"{minute - timedelta(minutes=5):%Y-%m-%dT%H:%M:%SZ}",
                # What the API for other processes requires of every record.
                "eventSource": "iam.amazonaws.com",
                "eventName": "CreateUser",
            }
            shipper.ship(record_bytes(record))
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
