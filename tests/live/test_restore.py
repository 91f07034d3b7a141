"""A server on yesterday's data: restored from a backup, or from a copy of the folder."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.live.processes import (
    Opentrail,
    eventually,
    moto_server,
    opentrail_server,
    run_opentrail,
    until_well,
)

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.anomaly, pytest.mark.campaign]

ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/evidence"
PASSPHRASE = {"OPENTRAIL_BACKUP_PASSPHRASE": "correct horse"}
#: Digests every few seconds: their names follow from the state, so they collide after a restore.
INTERVALS = ("--delivery-interval", "1", "--digest-interval", "3")

Restore = Callable[[Path, Path], None]


def restore_a_backup(saved: Path, folder: Path) -> None:
    restored = run_opentrail("restore", str(saved), "--data-dir", str(folder), **PASSPHRASE)
    assert restored.returncode == 0, restored.stderr


def restore_without_keys(saved: Path, folder: Path) -> None:
    arguments = ("restore", str(saved), "--data-dir", str(folder), "--without-keys")
    restored = run_opentrail(*arguments)
    assert restored.returncode == 0, restored.stderr


def put_a_copy_back(saved: Path, folder: Path) -> None:
    shutil.copytree(saved, folder)


def save(server: Opentrail, saved: Path, restore: Restore) -> None:
    """Saves the state of a running server, or copies its folder while it is stopped."""
    if restore is not put_a_copy_back:
        folder = str(server.data_dir)
        arguments = ("backup", str(saved), "--data-dir", folder, "--with-keys")
        assert run_opentrail(*arguments, **PASSPHRASE).returncode == 0
        return
    assert server.stop() == 0
    shutil.copytree(server.data_dir, saved)
    server.start()


def create_users(server: Opentrail, *names: str) -> set[str]:
    for name in names:
        server.boto("iam").create_user(UserName=name)
    return set(names)


def delivered_digests(upstream: str) -> list[str]:
    s3 = boto3.client(
        "s3",
        endpoint_url=upstream,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="evidence")
    keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
    return [key for key in keys if "/CloudTrail-Digest/" in key and key.endswith(".gz")]


def users_in_history(server: Opentrail) -> list[str]:
    return sorted(
        record["requestParameters"]["userName"]
        for record in server.records()
        if record["eventName"] == "CreateUser"
    )


def flush(server: Opentrail) -> None:
    flushed = server.opentrail("trail", "flush", "evidence")
    assert flushed.returncode == 0, flushed.stderr


def start_a_trail(server: Opentrail) -> None:
    trails = server.boto("cloudtrail")
    trails.create_trail(Name="evidence", S3BucketName="evidence", EnableLogFileValidation=True)
    trails.start_logging(Name="evidence")


def state_of(server: Opentrail) -> Any:
    return json.loads(server.opentrail("status", "--json").stdout)


@pytest.mark.parametrize("restore", [restore_a_backup, put_a_copy_back])
def test_restored_trail_continues_and_history_has_no_hole(tmp_path: Path, restore: Restore) -> None:
    saved = tmp_path / "saved"
    with moto_server() as upstream:
        with opentrail_server(tmp_path / "data", "--upstream", upstream, *INTERVALS) as server:
            server.boto("s3").create_bucket(Bucket="evidence")
            start_a_trail(server)
            users = create_users(server, "before")
            flush(server)
            save(server, saved, restore)
            users |= create_users(server, "lost-1", "lost-2")
            flush(server)
            count = len(delivered_digests(upstream))
            eventually(
                lambda: len(delivered_digests(upstream)) > count, "a digest file"
            )  # by its interval
            users |= create_users(server, "lost-3")
            eventually(lambda: "lost-3" in users_in_history(server), "the regained call")
            flush(server)
            assert server.stop() == 0
        folder = tmp_path / "restored"
        restore(saved, folder)
        with opentrail_server(folder, "--upstream", upstream, *INTERVALS) as server:
            users |= create_users(server, "after")
            eventually(lambda: set(users_in_history(server)) == users, "the regained calls")
            assert len(users_in_history(server)) == len(users)
            flush(server)
            count = len(delivered_digests(upstream))
            eventually(lambda: len(delivered_digests(upstream)) > count, "a digest file")
            eventually(lambda: server.records("EventName=RecordsLost"), "the record of the loss")
            flush(server)
            status = server.boto("cloudtrail").get_trail_status(Name="evidence")
            assert "LatestDeliveryError" not in status
            assert "LatestDigestDeliveryError" not in status
            until_well(server)
            state = state_of(server)
            assert state["trails"][0]["status"] == "Logging", state
            arguments = ("--trail-arn", ARN, "--start-time", "2020-01-01T00:00:00Z")
            done = server.try_aws("cloudtrail", "validate-logs", *arguments)
            assert done.returncode == 0, done.stdout + done.stderr
            valid = re.search(r"^(\d+)/(\d+) digest files valid", done.stdout, re.M)
            assert valid is not None, done.stdout
            # The running server may have written digests in this moment.
            assert int(valid[1]) == int(valid[2]) > count
            ours = server.validate(ARN)
            assert ours.returncode == 0, ours.stdout + ours.stderr
            (lost,) = [r for r in server.records() if r["eventName"] == "RecordsLost"]
            assert lost["serviceEventDetails"]["regainedFrom"] == ARN
            assert lost["serviceEventDetails"]["lostRecords"] >= 3


def test_digests_of_unknown_keys_end_the_chain(tmp_path: Path) -> None:
    """The old server got a new key after the backup, and the backup has no keys."""
    saved = tmp_path / "saved"
    with moto_server() as upstream:
        with opentrail_server(tmp_path / "data", "--upstream", upstream, *INTERVALS) as server:
            server.boto("s3").create_bucket(Bucket="evidence")
            start_a_trail(server)
            users = create_users(server, "before")
            flush(server)
            save(server, saved, restore_without_keys)
            assert server.stop() == 0
            for file in (tmp_path / "data" / "keys").glob("signing-*.pem"):
                file.unlink()
            server.start()
            users |= create_users(server, "lost")
            flush(server)
            assert server.stop() == 0
        folder = tmp_path / "restored"
        restore_without_keys(saved, folder)
        with opentrail_server(folder, "--upstream", upstream, *INTERVALS) as server:
            eventually(lambda: set(users_in_history(server)) == users, "the regained calls")
            flush(server)
            status = server.boto("cloudtrail").get_trail_status(Name="evidence")
            assert status["LatestDigestDeliveryError"] == "NewDigestChain"
            shown = server.opentrail("status")
            assert shown.returncode == 1
            assert "a new chain of digest files began" in shown.stdout
            (lost,) = state_of(server)["keyProblems"]
            (folder / "keys" / f"{lost.split()[2]}.lost").touch()
            trails = server.boto("cloudtrail")
            trails.stop_logging(Name="evidence")
            trails.start_logging(Name="evidence")
            flush(server)
            assert state_of(server)["trailProblems"] == []
            assert server.stop() == 0
            server.start()
            until_well(server)


def test_restore_without_keys_continues_with_a_new_key(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    with moto_server() as upstream:
        with opentrail_server(tmp_path / "data", "--upstream", upstream, *INTERVALS) as server:
            server.boto("s3").create_bucket(Bucket="evidence")
            start_a_trail(server)
            flush(server)
            save(server, saved, restore_without_keys)
            create_users(server, "lost")
            flush(server)
            assert server.stop() == 0
        folder = tmp_path / "restored"
        restore_without_keys(saved, folder)
        with opentrail_server(folder, "--upstream", upstream, *INTERVALS) as server:
            create_users(server, "after")
            flush(server)
            arguments = ("--trail-arn", ARN, "--start-time", "2020-01-01T00:00:00Z")
            done = server.try_aws("cloudtrail", "validate-logs", *arguments)
            assert done.returncode == 0, done.stdout + done.stderr
            ours = server.validate(ARN)
            assert ours.returncode == 0, ours.stdout + ours.stderr


def test_damaged_signing_key_is_named_but_stays_listed(
    tmp_path: Path,
) -> None:
    with (
        moto_server() as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream, *INTERVALS) as server,
    ):
        server.boto("s3").create_bucket(Bucket="evidence")
        start_a_trail(server)
        flush(server)
        listed = server.boto("cloudtrail").list_public_keys()["PublicKeyList"]
        assert server.stop() == 0
        (file,) = (tmp_path / "data" / "keys").glob("signing-*.pem")
        whole = file.read_bytes()
        file.write_bytes(whole[:100])
        server.start()
        state = state_of(server)
        assert state["status"] == "degraded"
        assert file.name in state["keyProblems"][0]
        assert server.boto("cloudtrail").list_public_keys()["PublicKeyList"] == listed
        assert server.opentrail("trail", "flush", "evidence").returncode != 0
        status = server.boto("cloudtrail").get_trail_status(Name="evidence")
        assert status["LatestDigestDeliveryError"] == "SigningKeyUnavailable"
        for command in ("verify-store", "doctor"):
            done = server.opentrail(command)
            assert done.returncode == 1
            assert f"signing key {file.name} is damaged" in done.stdout, command
        assert server.stop() == 0
        file.write_bytes(whole)
        server.start()
        flush(server)
        until_well(server)
