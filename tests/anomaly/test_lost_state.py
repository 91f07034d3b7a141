"""A control store that was removed while the server was down."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.live.processes import (
    health,
    moto_server,
    opentrail_server,
    run_opentrail,
    until_well,
)

pytestmark = [pytest.mark.anomaly, pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/evidence"


def verified(folder: Path) -> tuple[int, str]:
    done = run_opentrail("verify-store", "--data-dir", str(folder))
    return done.returncode, done.stdout


def doctor(folder: Path, *flags: str) -> str:
    return run_opentrail("doctor", "--data-dir", str(folder), *flags).stdout


def delivered_to(s3: Any, bucket: str) -> list[dict[str, Any]]:
    """Returns the records of all log files."""
    records: list[dict[str, Any]] = []
    for each in s3.list_objects_v2(Bucket=bucket)["Contents"]:
        if "/CloudTrail/" in each["Key"] and each["Key"].endswith(".json.gz"):
            body = s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
            records += json.loads(gzip.decompress(body))["Records"]
    return records


def test_lost_state_is_named_and_trails_are_restored(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with moto_server() as upstream:
        flags = ("--upstream", upstream, "--delivery-interval", "0.5", "--digest-interval", "2")
        direct = boto3.client(
            "s3",
            endpoint_url=upstream,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        direct.create_bucket(Bucket="evidence")
        with opentrail_server(folder, *flags) as server:
            trails = server.boto("cloudtrail")
            trails.create_trail(
                Name="evidence", S3BucketName="evidence", EnableLogFileValidation=True
            )
            trails.start_logging(Name="evidence")
            iam = server.boto("iam")
            iam.create_user(UserName="before")
            made = iam.create_access_key(UserName="before")["AccessKey"]
            own = (made["AccessKeyId"], made["SecretAccessKey"])
            assert server.opentrail("trail", "flush", "evidence").returncode == 0
            until_well(server)
            assert server.stop() == 0
        assert verified(folder)[0] == 0
        (folder / "state.db").unlink()
        code, said = verified(folder)
        assert code == 1
        assert "state.db is missing: trails" in said
        refused = run_opentrail(
            *("serve", "--data-dir", str(folder), "--upstream", upstream, "--auth", "enforced"),
            *("--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0"),
        )
        assert refused.returncode == 74
        assert "doctor --accept-losses" in refused.stderr
        with opentrail_server(folder, *flags) as server:
            state = health(server)
            assert state["status"] == "degraded"
            assert "state.db is" in state["dataProblems"][0]
            assert "state.db is" in server.opentrail("status").stdout
            said = doctor(folder, "--fix")
            assert "in use by the server" in said
            assert server.stop() == 0
        said = doctor(folder, "--fix")
        assert f"trails rebuilt from recorded calls: {ARN}" in said
        with opentrail_server(folder, *flags) as server:
            assert health(server)["status"] == "degraded"
            assert "losses accepted" in doctor(folder, "--accept-losses")
            until_well(server)  # after the acceptance
            server.boto("iam", *own).create_user(UserName="after")
            (record,) = server.records("requestParameters.userName=after name=CreateUser")
            assert record["userIdentity"]["userName"] == "before", "the key is known again"
            assert server.opentrail("trail", "flush", "evidence").returncode == 0
            (trail,) = server.boto("cloudtrail").describe_trails()["trailList"]
            assert trail["TrailARN"] == ARN
            validated = server.validate(ARN)
            assert validated.returncode == 0, validated.stdout + validated.stderr
            delivered = delivered_to(direct, "evidence")
            assert len(delivered) == len({each["eventID"] for each in delivered})
            names = [(each["requestParameters"] or {}).get("userName") for each in delivered]
            assert {"before", "after"} <= set(names)
            assert server.stop() == 0
        assert verified(folder)[0] == 0
