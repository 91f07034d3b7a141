"""Destinations: a trail verifies each one before use; failures have AWS's errors."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from opentrail.core.errors import CloudTrailError, ObjectStoreError
from opentrail.core.trail import Trail
from opentrail.ports.objects import NewObject
from opentrail.trails.destinations import Destinations
from opentrail.trails.outbox import FIRST_MESSAGE, SUBJECT
from tests.factories import ACCOUNT, REGION, a_trail
from tests.fakes import Fault, MemoryObjects, MemoryServices, asynchronous

TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:news"
GROUP = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:trail"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/logs"
KEY = "12345678-1234-1234-1234-123456789012"
KEY_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{KEY}"
FOLDER = f"AWSLogs/{ACCOUNT}/CloudTrail/"


class Scene:
    """A bucket, a topic, a log group and a key."""

    def __init__(self, enforced: bool = False) -> None:
        self.objects, self.services = MemoryObjects("my-bucket"), MemoryServices()
        self.services.topics[TOPIC] = []
        self.services.groups[GROUP] = {}
        self.services.kms = {KEY: KEY_ARN, KEY_ARN: KEY_ARN, "alias/one": KEY_ARN}
        services = self.services
        self.destinations = Destinations(self.objects, services, services, services, enforced)

    async def verify(self, before: Trail | None = None, **settings: Any) -> Trail:
        """Returns the verified trail with these settings."""
        trail = replace(before or a_trail(), **settings)
        return await self.destinations.verify(trail, before, ACCOUNT)

    async def refused(self, before: Trail | None = None, **settings: Any) -> tuple[str, str]:
        """Returns the error of a trail with these settings."""
        with pytest.raises(CloudTrailError) as caught:
            await self.verify(before, **settings)
        return caught.value.code, caught.value.message


# Buckets


@asynchronous
async def test_a_bucket_that_accepts_awss_markers_suffices() -> None:
    scene = Scene()
    await scene.verify(validation=True, prefix="audit")
    assert sorted(scene.objects.disk.objects["my-bucket"]) == [
        f"audit/{FOLDER.replace('CloudTrail', 'CloudTrail-Digest')}",
        f"audit/{FOLDER}",
        f"audit/AWSLogs/{ACCOUNT}/opentrail-write-check",
    ]
    await scene.verify(validation=True, prefix="audit")


class OverwrittenObjects(MemoryObjects):
    """A store that ignores `If-None-Match`."""

    def _put(self, new: NewObject, fault: Fault | None) -> None:
        self.disk.objects[new.bucket].pop(new.key, None)
        super()._put(new, fault)


@asynchronous
async def test_a_store_that_overwrites_objects_gives_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    await scene.verify()
    assert caplog.records == []
    services, objects = scene.services, OverwrittenObjects("my-bucket")
    scene.destinations = Destinations(objects, services, services, services)
    trail = await scene.verify()
    (warning,) = caplog.records
    assert "may be overwritten" in warning.message
    assert vars(warning)["bucket"] == "my-bucket"
    assert vars(warning)["trail"] == trail.arn


class OverwrittenMarkers(OverwrittenObjects):
    """A store that ignores `If-None-Match` on keys with a final slash, like SeaweedFS."""

    def _put(self, new: NewObject, fault: Fault | None) -> None:
        if new.key.endswith("/"):
            super()._put(new, fault)
        else:
            MemoryObjects._put(self, new, fault)


@asynchronous
async def test_overwritten_folder_markers_cause_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    services, objects = scene.services, OverwrittenMarkers("my-bucket")
    scene.destinations = Destinations(objects, services, services, services)
    await scene.verify(validation=True)
    await scene.verify(validation=True)
    assert caplog.records == []


@asynchronous
async def test_a_missing_or_refusing_bucket_is_named() -> None:
    scene = Scene()
    assert await scene.refused(bucket="other") == (
        "S3BucketDoesNotExistException",
        "S3 bucket other does not exist!",
    )
    scene.objects.down = "AccessDenied"
    assert await scene.refused() == (
        "InsufficientS3BucketPolicyException",
        "Incorrect S3 bucket policy is detected for bucket: my-bucket",
    )
    scene.objects.down = "SlowDown"
    with pytest.raises(ObjectStoreError):
        await scene.verify()


@asynchronous
async def test_a_strict_server_requires_a_sufficient_bucket_policy() -> None:
    scene = Scene(enforced=True)
    assert (await scene.refused())[0] == "InsufficientS3BucketPolicyException"
    assert scene.objects.disk.objects["my-bucket"] == {}
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "cloudtrail.amazonaws.com"},
        "Action": ["s3:GetBucketAcl", "s3:PutObject"],
        "Resource": ["arn:aws:s3:::my-bucket", f"arn:aws:s3:::my-bucket/AWSLogs/{ACCOUNT}/*"],
    }
    scene.objects.policies["my-bucket"] = json.dumps({"Statement": [statement]})
    await scene.verify()
    assert (await scene.refused(prefix="audit"))[0] == "InsufficientS3BucketPolicyException"


@asynchronous
async def test_an_organization_trails_bucket_must_allow_its_folder() -> None:
    scene = Scene(enforced=True)
    of_organization: dict[str, Any] = {
        "organization": "o-a1b2c3d4e5",
        "accounts": (ACCOUNT, "222222222222"),
    }
    own, shared = (f"arn:aws:s3:::my-bucket/AWSLogs/{root}/*" for root in (ACCOUNT, "o-a1b2c3d4e5"))

    def allow(*folders: str) -> None:
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "cloudtrail.amazonaws.com"},
            "Action": ["s3:GetBucketAcl", "s3:PutObject"],
            "Resource": ["arn:aws:s3:::my-bucket", *folders],
        }
        scene.objects.policies["my-bucket"] = json.dumps({"Statement": [statement]})

    for folders in ((own,), (shared,)):
        allow(*folders)
        code, _ = await scene.refused(**of_organization)
        assert code == "InsufficientS3BucketPolicyException"
    allow(own, shared)
    trail = await scene.verify(validation=True, **of_organization)
    assert sorted(scene.objects.disk.objects["my-bucket"]) == [
        f"AWSLogs/o-a1b2c3d4e5/{ACCOUNT}/CloudTrail-Digest/",
        f"AWSLogs/o-a1b2c3d4e5/{ACCOUNT}/CloudTrail/",
        "AWSLogs/o-a1b2c3d4e5/opentrail-write-check",
    ]
    # A trail that leaves its organization is verified again.
    allow(shared)
    assert (await scene.refused(trail, organization="", accounts=()))[0] == (
        "InsufficientS3BucketPolicyException"
    )


@asynchronous
async def test_an_organization_trails_stream_has_the_organizations_id() -> None:
    scene = Scene()
    await scene.verify(
        log_group=f"{GROUP}:*", log_role=ROLE, organization="o-a1b2c3d4e5", accounts=(ACCOUNT,)
    )
    assert list(scene.services.groups[GROUP]) == [f"o-a1b2c3d4e5_{ACCOUNT}_CloudTrail_{REGION}"]


# Keys


@pytest.mark.parametrize("key", [KEY, KEY_ARN, "alias/one"])
@asynchronous
async def test_key_is_stored_as_arn(key: str) -> None:
    scene = Scene()
    settled = await scene.verify(kms_key=key)
    assert settled.kms_key == KEY_ARN
    assert scene.objects.disk.objects["my-bucket"][FOLDER].kms_key == KEY_ARN


@asynchronous
async def test_an_unusable_key_is_refused() -> None:
    scene = Scene()
    there = "arn:aws:kms:eu-west-1:123456789012:key/" + KEY
    scene.services.kms |= {"alias/off": None, "alias/there": there}
    for key, code in {
        "no key": "InvalidKmsKeyIdException",
        "alias/two": "KmsKeyNotFoundException",
        "alias/there": "KmsKeyNotFoundException",
        "alias/off": "KmsException",
    }.items():
        assert (await scene.refused(kms_key=key))[0] == code
    assert (await scene.refused(kms_key=KEY, bucket="other"))[0] == "S3BucketDoesNotExistException"
    assert scene.objects.disk.objects["my-bucket"] == {}


# Topics


@asynchronous
async def test_a_topic_gets_one_validation_message() -> None:
    scene = Scene()
    trail = await scene.verify(topic=TOPIC)
    assert scene.services.topics[TOPIC] == [(SUBJECT, FIRST_MESSAGE)]
    await scene.verify(trail, prefix="audit")
    assert len(scene.services.topics[TOPIC]) == 1


@asynchronous
async def test_a_missing_topic_is_refused() -> None:
    code, message = await Scene().refused(topic=f"{TOPIC}-2")
    assert code == "InsufficientSnsTopicPolicyException"
    assert message == "SNS Topic does not exist or the topic policy is incorrect!"


# Log groups


@asynchronous
async def test_a_log_group_gets_its_first_stream() -> None:
    scene = Scene()
    await scene.verify(log_group=f"{GROUP}:*", log_role=ROLE)
    assert list(scene.services.groups[GROUP]) == [f"{ACCOUNT}_CloudTrail_{REGION}"]


@asynchronous
async def test_group_and_role_belong_together_and_must_exist() -> None:
    scene = Scene()
    refusals: tuple[tuple[dict[str, Any], str], ...] = (
        ({"log_group": f"{GROUP}:*"}, "InvalidCloudWatchLogsRoleArnException"),
        ({"log_role": ROLE}, "InvalidCloudWatchLogsLogGroupArnException"),
        ({"log_group": GROUP, "log_role": ROLE}, "InvalidCloudWatchLogsLogGroupArnException"),
        (
            {"log_group": f"{GROUP}2:*", "log_role": ROLE},
            "InvalidCloudWatchLogsLogGroupArnException",
        ),
    )
    for settings, code in refusals:
        assert (await scene.refused(**settings))[0] == code
    scene.services.down = "ServiceUnavailableException"
    code, _ = await scene.refused(log_group=f"{GROUP}:*", log_role=ROLE)
    assert code == "CloudWatchLogsDeliveryUnavailableException"


@asynchronous
async def test_permanent_failures_are_not_retried() -> None:
    scene = Scene()
    trail = await scene.verify(topic=TOPIC, log_group=f"{GROUP}:*", log_role=ROLE, kms_key=KEY)
    scene.services.down = scene.objects.down = "Down"
    assert await scene.verify(trail, include_global_services=False)
    assert await scene.verify(trail, topic="", log_group="", log_role="")
