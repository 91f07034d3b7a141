"""Backups of a server under load, restored elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import boto3
import pytest

from tests.live.load import Load
from tests.live.processes import (
    eventually,
    moto_server,
    opentrail_server,
    run_opentrail,
    until_well,
)
from tests.stub_upstream import StubUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.anomaly, pytest.mark.campaign]

CLIENTS = 12  # 540 calls a second
BACKUPS = 2
WARM_UP_CALLS, CALLS_BETWEEN = 1_500, 700
PASSPHRASE = {"OPENTRAIL_BACKUP_PASSPHRASE": "correct horse"}
ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/evidence"


def answered(load: Load, count: int) -> set[str]:
    """Waits for some answers and returns the names in them."""
    eventually(lambda: len(load.answered) >= count, f"{count} calls have answers", 300)
    return set(load.answered)


def test_backup_under_load_is_complete_to_its_point(tmp_path: Path) -> None:
    """During the backup, history seals files every 200 records and merges them."""
    flags = ("--history-seal-records", "200")
    before = []
    with (
        StubUpstream() as stub,
        opentrail_server(tmp_path / "data", "--upstream", stub.url, *flags) as server,
    ):
        load = Load(int(server.url.rpartition(":")[2]), "call", clients=CLIENTS)
        load.start()
        for number in range(BACKUPS):
            before.append(answered(load, WARM_UP_CALLS + number * CALLS_BETWEEN))
            done = server.opentrail("backup", str(tmp_path / f"{number}.tar"), "--json")
            assert done.returncode == 0, done.stdout + done.stderr
        load.stop()
    for number, names in enumerate(before):
        folder = tmp_path / f"restored-{number}"
        restored = run_opentrail(
            *("restore", str(tmp_path / f"{number}.tar"), "--data-dir", str(folder), "--json")
        )
        assert restored.returncode == 0, restored.stdout + restored.stderr
        with opentrail_server(folder, "--upstream", "http://127.0.0.1:9") as server:
            found = Counter(
                str(record["requestParameters"].get("userName"))
                if record["eventName"] == "CreateUser"
                else str(record["requestParameters"]["tableName"])
                for record in server.records()
            )
            until_well(server)
        assert {name: found[name] for name in names} == dict.fromkeys(names, 1)
        assert sum(found.values()) == json.loads(restored.stdout)["position"]


def test_a_restored_trail_continues_with_its_keys(tmp_path: Path) -> None:
    with moto_server() as upstream:
        s3 = boto3.client(
            "s3",
            endpoint_url=upstream,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        s3.create_bucket(Bucket="evidence")
        with opentrail_server(tmp_path / "data", "--upstream", upstream) as server:
            trails = server.boto("cloudtrail")
            trails.create_trail(
                Name="evidence", S3BucketName="evidence", EnableLogFileValidation=True
            )
            trails.start_logging(Name="evidence")
            server.boto("iam").create_user(UserName="Mary")
            assert server.opentrail("trail", "flush", "evidence").returncode == 0
        file = str(tmp_path / "b.tar")
        made = run_opentrail(
            "backup", file, "--data-dir", str(tmp_path / "data"), "--with-keys", **PASSPHRASE
        )
        assert made.returncode == 0, made.stderr
        folder = tmp_path / "restored"
        restored = run_opentrail("restore", file, "--data-dir", str(folder), **PASSPHRASE)
        assert restored.returncode == 0, restored.stderr
        with opentrail_server(folder, "--upstream", upstream) as server:
            assert "created IAM user Mary" in server.opentrail("who", "Mary").stdout
            server.boto("iam").create_user(UserName="John")
            assert server.opentrail("trail", "flush", "evidence").returncode == 0
            done = server.try_aws(
                *("cloudtrail", "validate-logs", "--trail-arn", ARN),
                *("--start-time", "2020-01-01T00:00:00Z"),
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert "2/2 digest files valid" in done.stdout
            ours = server.validate(ARN)
            assert ours.returncode == 0, ours.stdout + ours.stderr
