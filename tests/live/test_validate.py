"""`opentrail validate` and `aws cloudtrail validate-logs` on one bucket of a real server."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET
from tests.live.processes import Opentrail, moto_server, opentrail_server, run_opentrail

pytestmark = [pytest.mark.live, pytest.mark.slow]

ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/evidence"
DIGESTS, LOGS = "CloudTrail-Digest/us-east-1", "CloudTrail/us-east-1"


@dataclass
class World:
    """A server with a trail, and direct access to its bucket."""

    server: Opentrail
    upstream: str
    _kept: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def s3(self) -> Any:
        access = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
        return boto3.client("s3", endpoint_url=self.upstream, region_name="us-east-1", **access)

    def keys(self, folder: str) -> list[str]:
        """Returns the keys of a folder of the trail, oldest first."""
        prefix = f"AWSLogs/123456789012/{folder}/"
        listed = self.s3.list_objects_v2(Bucket="evidence", Prefix=prefix)
        return sorted(item["Key"] for item in listed.get("Contents", ()))

    def delete(self, key: str) -> None:
        stored = self.s3.get_object(Bucket="evidence", Key=key)
        self._kept[key] = {"Body": stored["Body"].read(), "Metadata": stored["Metadata"]}
        self.s3.delete_object(Bucket="evidence", Key=key)

    def alter(self, key: str) -> None:
        """Changes a byte of an object."""
        self.delete(key)
        raw = bytearray(gzip.decompress(self._kept[key]["Body"]))
        raw[len(raw) // 2] ^= 1
        changed = {**self._kept[key], "Body": gzip.compress(bytes(raw))}
        self.s3.put_object(Bucket="evidence", Key=key, **changed)

    def put_back(self) -> None:
        """Undoes all changes."""
        for key, kept in self._kept.items():
            self.s3.put_object(Bucket="evidence", Key=key, **kept)
        self._kept.clear()

    def own(self, *more: str) -> tuple[int, str]:
        """Runs our verifier."""
        done = run_opentrail(
            *("validate", ARN, "--data-dir", str(self.server.data_dir), *more),
            AWS_ENDPOINT_URL=self.server.url,
            AWS_ACCESS_KEY_ID=ADMIN_KEY_ID,
            AWS_SECRET_ACCESS_KEY=ADMIN_SECRET,
            AWS_DEFAULT_REGION="us-east-1",
        )
        return done.returncode, done.stdout + done.stderr

    def aws(self) -> tuple[int, str]:
        """Runs AWS's verifier."""
        start = ("--start-time", "2020-01-01T00:00:00Z", "--verbose")
        done = self.server.try_aws("cloudtrail", "validate-logs", "--trail-arn", ARN, *start)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("validate")
    with (
        moto_server() as upstream,
        opentrail_server(folder / "data", "--upstream", upstream) as server,
    ):
        server.aws("s3", "mb", "s3://evidence")
        cloudtrail = server.boto("cloudtrail")
        cloudtrail.create_trail(
            Name="evidence", S3BucketName="evidence", EnableLogFileValidation=True
        )
        cloudtrail.start_logging(Name="evidence")
        iam = server.boto("iam")
        for number in range(6):
            for index in range(3):
                iam.create_user(UserName=f"user-{number}-{index}")
            if number == 3:
                cloudtrail.stop_logging(Name="evidence")
                cloudtrail.start_logging(Name="evidence")
            flushed = server.opentrail("trail", "flush", "evidence")
            assert flushed.returncode == 0, flushed.stderr
        yield World(server, upstream)


@contextmanager
def tampered(world: World, tamper: Callable[[World], list[str]]) -> Iterator[list[str]]:
    try:
        yield tamper(world)
    finally:
        world.put_back()


def test_both_verifiers_accept_an_untouched_trail(world: World) -> None:
    code, said = world.own()
    assert code == 0, said
    assert said.splitlines()[-1] == "good"
    code, said = world.aws()
    assert code == 0, said


def alter_a_log(world: World) -> list[str]:
    key = world.keys(LOGS)[1]
    world.alter(key)
    return [key]


def delete_a_log(world: World) -> list[str]:
    key = world.keys(LOGS)[1]
    world.delete(key)
    return [key]


def alter_a_digest(world: World) -> list[str]:
    key = world.keys(DIGESTS)[1]
    world.alter(key)
    return [key]


def delete_a_digest(world: World) -> list[str]:
    key = world.keys(DIGESTS)[1]
    world.delete(key)
    return [key]


@pytest.mark.parametrize(
    "tamper",
    [
        alter_a_log,
        pytest.param(delete_a_log, marks=pytest.mark.campaign),
        alter_a_digest,
        pytest.param(delete_a_digest, marks=pytest.mark.campaign),
    ],
)
def test_both_verifiers_name_visible_damage(
    world: World, tamper: Callable[[World], list[str]]
) -> None:
    with tampered(world, tamper) as named:
        for code, said in (world.own(), world.aws()):
            assert code == 1, said
            for key in named:
                assert key in said


def cut_the_tail(world: World) -> list[str]:
    """Deletes the newest digest and its log files."""
    key = world.keys(DIGESTS)[-1]
    packed = world.s3.get_object(Bucket="evidence", Key=key)["Body"].read()
    listed = json.loads(gzip.decompress(packed))["logFiles"]
    assert listed
    for name in [key, *(log["s3Object"] for log in listed)]:
        world.delete(name)
    return [key]


def cut_the_head(world: World) -> list[str]:
    """Deletes the whole chain that ended when logging stopped."""
    first = world.keys(DIGESTS)[0]
    for key in world.keys(DIGESTS)[:4]:
        world.delete(key)
    return [first]


@pytest.mark.parametrize("tamper", [cut_the_tail, cut_the_head])
def test_ours_finds_more_than_awss(world: World, tamper: Callable[[World], list[str]]) -> None:
    with tampered(world, tamper) as named:
        code, said = world.aws()
        assert code == 0, said
        code, said = world.own()
        assert code == 1, said
        for key in named:
            assert key in said


def test_two_missing_neighbouring_digests_are_one_gap(world: World) -> None:
    digests = world.keys(DIGESTS)
    older, newer = digests[1:3]

    def delete_both(world: World) -> list[str]:
        world.delete(older)
        world.delete(newer)
        return [newer]

    with tampered(world, delete_both):
        code, said = world.own()
        assert code == 1
        assert f"{newer}\tis missing" in said
        assert "no good digest file covers this time" in said
