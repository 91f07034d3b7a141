"""The actions of `opentrail trail`, over the API in memory."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.access.users import ConsoleRole
from opentrail.core.version import __version__
from tests.api.browser import AGENT, Browser
from tests.api.caller import TOKEN, send
from tests.factories import ACCOUNT, REGION
from tests.fakes import asynchronous
from tests.trails.world import BUCKET


async def with_trail(**given: object) -> Browser:
    browser = Browser()
    await browser.api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET, **given)
    return browser


async def done(browser: Browser, **given: object) -> Any:
    answer = await browser.post("trails", given)
    assert answer.status == 200, answer.body
    return answer.json


@asynchronous
async def test_trails_are_listed_with_their_health() -> None:
    browser = await with_trail()
    await browser.api.ok("CreateTrail", Name="another", S3BucketName=BUCKET)
    await browser.api.ok("StartLogging", Name="my-trail")
    listed = (await done(browser, action="list"))["trails"]
    assert [(one["name"], one["status"]) for one in listed] == [
        ("another", "Off"),
        ("my-trail", "Logging"),
    ]


@asynchronous
async def test_a_trail_is_started_shown_stopped_and_deleted() -> None:
    browser = await with_trail()
    arn = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/my-trail"
    assert await done(browser, action="start", name="my-trail") == {"trail": arn}
    assert (await done(browser, action="show", name=arn))["status"] == "Logging"
    await done(browser, action="stop", name=arn)
    assert (await done(browser, action="show", name="my-trail"))["status"] == "Off"
    await done(browser, action="delete", name="my-trail")
    assert (await browser.api.ok("ListTrails"))["Trails"] == []


@asynchronous
async def test_creating_a_trail_creates_its_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser()
    browser.endpoint.missing = ["HeadBucket"]
    note_call = browser.endpoint.call

    async def call(service: str, operation: str, *arguments: Any) -> dict[str, Any]:
        if operation == "CreateTrail":
            await browser.api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET)
        return await note_call(service, operation, *arguments)

    monkeypatch.setattr(browser.endpoint, "call", call)
    wish = {"name": "my-trail", "bucket": "evidence", "createBucket": True, "prefix": None}
    created = await done(browser, action="create", region=REGION, **wish)
    assert created["name"] == "my-trail"
    assert [operation for _, operation, _ in browser.endpoint.calls] == [
        "HeadBucket",
        "CreateBucket",
        "PutBucketPolicy",
        "CreateTrail",
        "StartLogging",
    ]


@asynchronous
async def test_a_failed_call_is_named() -> None:
    browser = await with_trail()
    browser.endpoint.refused = ["CreateBucket"]
    wish = {"action": "create", "region": REGION, "name": "new", "bucket": "evidence"}
    answer = await browser.post("trails", wish)
    assert answer.status == 400
    assert answer.json["error"] == "s3:CreateBucket: not today"


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("S3BucketDoesNotExistException", "--create-bucket creates it"),
        ("InsufficientS3BucketPolicyException", "s3:PutObject below AWSLogs/"),
    ],
)
@asynchronous
async def test_an_error_of_the_bucket_has_a_remedy(code: str, hint: str) -> None:
    browser = Browser()
    browser.endpoint.errors = {"CreateTrail": code}
    wish = {"region": REGION, "name": "new", "bucket": "evidence", "createBucket": False}
    answer = await browser.post("trails", {"action": "create", **wish})
    assert answer.json["code"] == code
    assert hint in answer.json["error"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"action": "show", "name": "other"}, "trail 'other' not found"),
        ({"action": "paint", "name": "my-trail"}, "no action 'paint'"),
        ({"action": "create", "name": "new", "bucket": "evidence"}, "region"),
        ({"action": "create", "name": "x", "region": REGION}, "bucket must be given"),
    ],
)
@asynchronous
async def test_problems_are_named(given: dict[str, object], named: str) -> None:
    answer = await (await with_trail()).post("trails", given)
    assert answer.status in (400, 404)
    assert named in answer.json["error"]


@asynchronous
async def test_a_refusal_of_the_api_has_its_code() -> None:
    browser = await with_trail()
    browser.endpoint.answer = (400, b'{"__type": "ThrottlingException", "message": "slow down"}')
    answer = await browser.post("trails", {"action": "start", "name": "my-trail"})
    assert answer.status == 400
    assert (answer.json["code"], answer.json["error"]) == ("ThrottlingException", "slow down")
    browser.endpoint.answer = (502, b"<html>")
    answer = await browser.post("trails", {"action": "start", "name": "my-trail"})
    assert (answer.status, "status 502" in answer.json["error"]) == (502, True)


@asynchronous
async def test_records_distinguish_commands_from_the_console() -> None:
    browser = await with_trail()
    body = b'{"action": "start", "name": "my-trail"}'
    await send(browser.app, "POST", "/api/v1/trails", {"Authorization": f"Bearer {TOKEN}"}, body)
    assert browser.endpoint.callers == {(f"opentrail/{__version__}", None)}
    browser.become(ConsoleRole.OPERATOR)
    await browser.post("trails", {"action": "stop", "name": "my-trail"})
    (agent,) = [agent for agent, name in browser.endpoint.callers if name == "ann"]
    assert agent.startswith(AGENT)
    assert agent != AGENT
