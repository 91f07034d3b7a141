"""Trails into buckets with Object Lock and a default retention, where deletion is impossible."""

from __future__ import annotations

import json
from pathlib import Path

import botocore.exceptions
import pytest

from tests.live.processes import Opentrail, eventually, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow]

_DAYS = 30


@pytest.mark.parametrize("store", ["moto", pytest.param("seaweedfs", marks=pytest.mark.campaign)])
def test_log_files_and_digests_are_locked_and_validate(tmp_path: Path, store: str) -> None:
    often = ("--delivery-interval", "1", "--digest-interval", "2")
    with opentrail_server(tmp_path / "data", "--s3", store, *often, command="sandbox") as server:
        s3 = server.boto("s3")
        s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
        retention = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": _DAYS}}
        s3.put_object_lock_configuration(
            Bucket="locked",
            ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": retention},
        )
        made = server.opentrail("trail", "create", "audit", "--bucket", "locked", "--json")
        assert made.returncode == 0, made.stderr
        arn = json.loads(made.stdout)["arn"]
        server.boto("iam").create_user(UserName="Mary")
        eventually(lambda: len(log_files(server)) > 0, "a log file is delivered")
        versions = s3.list_object_versions(Bucket="locked")["Versions"]
        held = {
            each["Key"]: each["VersionId"] for each in versions if each["Key"] in log_files(server)
        }
        key, version = next(iter(held.items()))
        head = s3.head_object(Bucket="locked", Key=key, VersionId=version)
        assert head["ObjectLockMode"] == "COMPLIANCE"
        with pytest.raises(botocore.exceptions.ClientError, match=r"AccessDenied|Forbidden"):
            s3.delete_object(Bucket="locked", Key=key, VersionId=version)
        eventually(lambda: len(digests(server)) > 1, "digest files follow the log file")
        said = server.validate(arn)
        assert said.returncode == 0, said.stdout + said.stderr
        assert "DeleteMarkers" not in s3.list_object_versions(Bucket="locked")


def log_files(server: Opentrail) -> list[str]:
    """Returns the keys of the log files in the bucket."""
    return [key for key in keys(server) if "/CloudTrail/" in key and key.endswith(".gz")]


def digests(server: Opentrail) -> list[str]:
    """Returns the keys of the digest files in the bucket."""
    return [key for key in keys(server) if "/CloudTrail-Digest/" in key and key.endswith(".gz")]


def keys(server: Opentrail) -> list[str]:
    """Returns the keys of all objects in the bucket."""
    listed = server.boto("s3").list_objects_v2(Bucket="locked").get("Contents", [])
    return [str(each["Key"]) for each in listed]
