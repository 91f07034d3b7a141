"""Trails over the API in memory."""

from __future__ import annotations

from tests.api.browser import Browser
from tests.factories import REGION
from tests.fakes import asynchronous
from tests.trails.world import BUCKET


@asynchronous
async def test_trails_are_listed_with_their_state() -> None:
    browser = Browser()
    for name in ("second", "first"):
        await browser.api.ok("CreateTrail", Name=name, S3BucketName=BUCKET)
    await browser.api.ok("StartLogging", Name="first")
    first, second = (await browser.get("trails")).json["trails"]
    assert (first["name"], first["status"], first["logging"]) == ("first", "Logging", True)
    assert (second["name"], second["status"]) == ("second", "Off")
    assert first["homeRegion"] == REGION
    assert first["reason"] is None


@asynchronous
async def test_a_flush_delivers_and_its_digests_are_listed() -> None:
    browser = Browser()
    given = {"Name": "first", "S3BucketName": BUCKET, "EnableLogFileValidation": True}
    await browser.api.ok("CreateTrail", **given)
    await browser.api.ok("StartLogging", Name="first")
    flushed = (await browser.post("trails/flush", {"name": "first"})).json
    assert flushed["trail"].endswith(":trail/first")
    assert flushed["logFiles"]
    assert (await browser.get("trails/digests", name="first")).json["chains"]
    assert (await browser.get("trails")).json["trails"][0]["latestDelivery"]


@asynchronous
async def test_a_verification_says_what_the_verifier_said() -> None:
    browser = Browser()
    given = {"Name": "first", "S3BucketName": BUCKET}
    arn = (await browser.api.ok("CreateTrail", **given))["TrailARN"]
    assert (await browser.get("trails")).json["trails"][0]["verified"] is None
    line = f"NOT GOOD\tlog file\ts3://b/{arn}\thash value doesn't match"
    found = (await browser.post("trails/verify", {"name": "first"})).json
    assert found == {"valid": False, "lines": [line]}
    verified = (await browser.get("trails")).json["trails"][0]["verified"]
    assert verified["valid"] is False
    bad = {"name": f"s3://b/{arn}", "reason": "hash value doesn't match", "event": None}
    assert verified["findings"] == [bad]


@asynchronous
async def test_an_unknown_trail_is_not_found() -> None:
    answer = await Browser().get("trails/digests", name="none")
    assert (answer.status, answer.json["code"]) == (404, "TrailNotFoundException")
