"""trailscraper from the package index lists the same events as our lookup."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conformance.installed import installed
from tests.live.processes import (
    TIMEOUT_SECONDS,
    Opentrail,
    clean_environment,
    opentrail_server,
)

pytestmark = [pytest.mark.conformance, pytest.mark.live]

ACCOUNT, REGIONS = "123456789012", ("us-east-1", "eu-west-1")


@pytest.fixture(scope="module")
def trailscraper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the command, installed into a new environment."""
    folder = tmp_path_factory.mktemp("trailscraper")
    return installed(folder, "trailscraper", "setuptools<81") / "trailscraper"


def scraped(trailscraper: Path, server: Opentrail, folder: Path) -> list[dict[str, str]]:
    """Downloads log files of today and returns the records that trailscraper selects."""
    environment = clean_environment(
        AWS_ENDPOINT_URL=server.url,
        AWS_ACCESS_KEY_ID="x",
        AWS_SECRET_ACCESS_KEY="x",
        AWS_DEFAULT_REGION="us-east-1",
    )
    now = datetime.now(UTC)
    times = (
        *("--from", (now - timedelta(days=1)).isoformat()),
        *("--to", (now + timedelta(days=1)).isoformat()),
    )
    regions = [part for region in REGIONS for part in ("--region", region)]
    output = ""
    for command in (
        ["download", "--bucket", "evidence", "--account-id", ACCOUNT, *regions, *times],
        ["select"],
    ):
        done = subprocess.run(
            [str(trailscraper), *command, "--log-dir", str(folder)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        output = done.stdout
    records: list[dict[str, str]] = json.loads(output)["Records"]
    return records


def test_trailscraper_lists_the_calls_of_our_lookup(trailscraper: Path, tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", command="sandbox") as server:
        server.boto("s3").create_bucket(Bucket="evidence")
        trail = server.boto("cloudtrail")
        trail.create_trail(Name="read", S3BucketName="evidence", IsMultiRegionTrail=True)
        trail.start_logging(Name="read")
        for number in range(20):
            server.boto("iam").create_user(UserName=f"user-{number}")
            server.boto("ec2", region=REGIONS[number % 2]).describe_instances()
        server.boto("iam").list_users()
        flush = server.opentrail("trail", "flush", "read")
        assert flush.returncode == 0, flush.stderr
        found = scraped(trailscraper, server, tmp_path / "logs")
        ids = {record["eventID"] for record in found}
        assert len(ids) == len(found)
        ours = server.records("eventCategory=Management")
        started = next(r["eventTime"] for r in ours if r["eventName"] == "StartLogging")
        flushed = {r["eventID"] for r in ours if r["eventTime"] >= started}
        late = {r["eventID"] for r in ours if r["eventSource"] == "s3.amazonaws.com"}
        made = {r["eventID"] for r in ours if r["eventName"] in ("CreateBucket", "CreateTrail")}
        assert ids - made == flushed - made - late
        assert len(ids) > 40
