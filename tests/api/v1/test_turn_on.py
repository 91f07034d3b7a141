from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.api.v1.trail_administration import delivery_policy
from opentrail.trails.destinations import allows_delivery
from opentrail.who.sentence import CONSOLE_AGENT
from tests.api.browser import AGENT, Browser
from tests.factories import ACCOUNT
from tests.fakes import asynchronous
from tests.trails.world import BUCKET

WISH = {"name": "my-trail", "bucket": "evidence"}


def lines(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


@asynchronous
async def test_each_step_is_a_call_of_the_endpoint() -> None:
    browser = Browser()
    browser.endpoint.missing = ("HeadBucket",)
    answer = await browser.post("turn-on", WISH)
    assert [(each["step"], each["done"]) for each in lines(answer.body)] == [
        ("bucket", True),
        ("policy", True),
        ("trail", True),
        ("logging", True),
    ]
    made = {operation: given for _, operation, given in browser.endpoint.calls}
    assert "PutBucketPolicy" in made
    assert made["CreateBucket"] == {"Bucket": "evidence"}
    assert made["CreateTrail"] == {
        "Name": "my-trail",
        "S3BucketName": "evidence",
        "IsMultiRegionTrail": True,
        "EnableLogFileValidation": True,
    }
    assert made["StartLogging"] == {"Name": "my-trail"}
    assert browser.endpoint.callers == {(f"{AGENT} {CONSOLE_AGENT}", None)}


@asynchronous
async def test_all_settings_reach_the_trail() -> None:
    browser = Browser()
    given = {
        **WISH,
        "allRegions": False,
        "createBucket": False,
        "prefix": "audit",
        "kmsKey": "alias/logs",
        "validation": False,
        "topic": "delivered",
        "createTopic": True,
    }
    await browser.post("turn-on", given)
    calls = {operation: given for _, operation, given in browser.endpoint.calls}
    assert list(calls) == ["GetTopicAttributes", "CreateTopic", "CreateTrail", "StartLogging"]
    assert calls["CreateTrail"] == {
        "Name": "my-trail",
        "S3BucketName": "evidence",
        "S3KeyPrefix": "audit",
        "KmsKeyId": "alias/logs",
        "SnsTopicName": "delivered",
        "IsMultiRegionTrail": False,
        "EnableLogFileValidation": False,
    }


@asynchronous
async def test_failed_step_ends_the_sequence() -> None:
    browser = Browser()
    browser.endpoint.missing = ("GetBucketPolicy",)
    browser.endpoint.refused = ("PutBucketPolicy",)
    answer = await browser.post("turn-on", WISH)
    last = lines(answer.body)[-1]
    assert (last["step"], last["done"]) == ("policy", False)
    assert last["error"] == {"code": "Refused", "message": "s3:PutBucketPolicy: not today"}
    assert [operation for _, operation, _ in browser.endpoint.calls] == [
        "HeadBucket",
        "CreateBucket",
        "GetBucketPolicy",
        "PutBucketPolicy",
    ]


@asynchronous
async def test_the_policy_of_an_existing_bucket_stays() -> None:
    browser = Browser()
    browser.endpoint.errors = {"CreateBucket": "BucketAlreadyOwnedByYou"}
    answer = await browser.post("turn-on", WISH)
    assert lines(answer.body)[-1] == {"step": "logging", "done": True, "error": None}
    assert "PutBucketPolicy" not in [operation for _, operation, _ in browser.endpoint.calls]


@asynchronous
async def test_name_in_use_is_refused_before_any_step() -> None:
    browser = Browser()
    await browser.api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET)
    answer = await browser.post("turn-on", WISH)
    assert (answer.status, answer.json["code"]) == (400, "TrailAlreadyExistsException")
    assert browser.endpoint.calls == []


@asynchronous
async def test_a_topic_is_made_only_on_request() -> None:
    browser = Browser()
    await browser.post("turn-on", {**WISH, "topic": "delivered"})
    operations = [operation for _, operation, _ in browser.endpoint.calls]
    assert "CreateTopic" not in operations
    assert "CreateTrail" in operations


@asynchronous
async def test_failed_step_undoes_earlier_steps() -> None:
    browser = Browser()
    browser.endpoint.missing = ("HeadBucket", "GetTopicAttributes")
    browser.endpoint.refused = ("StartLogging",)
    answer = await browser.post("turn-on", {**WISH, "topic": "delivered", "createTopic": True})
    assert lines(answer.body)[-1]["error"]["message"] == (
        "cloudtrail:StartLogging: not today; the new trail my-trail was removed again; "
        "the new topic delivered was removed again; the new bucket evidence was removed again"
    )
    removed = [(operation, given) for _, operation, given in browser.endpoint.calls[-3:]]
    arn = f"arn:aws:sns:us-east-1:{ACCOUNT}:delivered"
    assert removed == [
        ("DeleteTrail", {"Name": "my-trail"}),
        ("DeleteTopic", {"TopicArn": arn}),
        ("DeleteBucket", {"Bucket": "evidence"}),
    ]


@asynchronous
async def test_undeletable_entries_are_named() -> None:
    browser = Browser()
    browser.endpoint.missing = ("HeadBucket",)
    browser.endpoint.refused = ("PutBucketPolicy", "DeleteBucket")
    answer = await browser.post("turn-on", WISH)
    assert lines(answer.body)[-1]["error"]["message"] == (
        "s3:PutBucketPolicy: not today; the new bucket evidence remains, since "
        "Refused: s3:DeleteBucket: not today: a next attempt uses it"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": 1}, "name must be a string, not 1"),
        ({"allRegions": "yes"}, "allRegions must be true or false, not 'yes'"),
        ({"bucket": ""}, "bucket must be given"),
        ({"colour": "red"}, "there is no member 'colour'"),
        ({"name": "x"}, "Trail name too short"),
        ({"bucket": "Bad_Bucket!"}, "Bucket name 'Bad_Bucket!' is not a valid S3 bucket name"),
        ({"kmsKey": "no key"}, "KmsKeyId 'no key' is not valid"),
        ({"prefix": "/logs"}, "S3 key prefix '/logs' is not valid"),
    ],
)
@asynchronous
async def test_an_invalid_request_is_refused_before_any_step(
    change: dict[str, Any], words: str
) -> None:
    browser = Browser()
    answer = await browser.post("turn-on", {**WISH, **change})
    assert answer.status == 400
    assert words in answer.json["error"]
    assert browser.endpoint.calls == []


@pytest.mark.parametrize("prefix", ["", "audit"])
def test_the_policy_lets_cloudtrail_deliver(prefix: str) -> None:
    policy = json.dumps(delivery_policy("evidence", prefix, ACCOUNT))
    folder = f"{prefix}/AWSLogs/{ACCOUNT}/" if prefix else f"AWSLogs/{ACCOUNT}/"
    arn = f"arn:aws:cloudtrail:us-east-1:{ACCOUNT}:trail/my-trail"
    assert allows_delivery(policy, "evidence", folder, arn)
