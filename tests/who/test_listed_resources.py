"""Lists of principals and resources."""

from __future__ import annotations

from typing import Any

import msgspec

from opentrail.access.users import ConsoleRole
from opentrail.questions.principals import PrincipalList
from opentrail.questions.resources import ResourceList
from tests.api.browser import Browser
from tests.api.caller import Api
from tests.factories import ACCOUNT, a_record, an_assumed_role, an_iam_user, event_id
from tests.fakes import asynchronous

ANN = f"arn:aws:iam::{ACCOUNT}:user/team/Ann"


async def with_events(*records: dict[str, Any]) -> Browser:
    browser = Browser(Api())
    browser.api.world.clock.advance(3_600)
    browser.open_link()
    await browser.api.record(list(records))
    return browser


def made(number: int, **changes: Any) -> dict[str, Any]:
    time = f"2024-01-01T09:00:{number:02}Z"
    return a_record(**{"eventID": event_id(number), "eventTime": time, **changes})


def naming(number: int, *names: str, **changes: Any) -> dict[str, Any]:
    """Returns a call whose resources are users of these names."""
    resources = [{"type": "AWS::IAM::User", "ARN": name} for name in names]
    return made(
        number, resources=resources, requestParameters=None, responseElements=None, **changes
    )


@asynchronous
async def test_principals_are_listed_by_their_last_call() -> None:
    ann = {**an_iam_user("Ann"), "arn": ANN}
    browser = await with_events(
        made(1, userIdentity=ann),
        made(2, userIdentity=ann, errorCode="AccessDenied", responseElements=None),
        made(3, userIdentity=an_assumed_role("deploy", "ci")),
        made(4, userIdentity={"type": "AWSService", "invokedBy": "s3.amazonaws.com"}),
    )
    found = (await browser.get("principals")).json
    msgspec.convert(found, PrincipalList)
    session, user = found["principals"]
    assert found["complete"]
    assert (session["name"], session["kind"]) == ("deploy/ci", "role session")
    assert user == {
        "arn": ANN,
        "name": "Ann",
        "kind": "IAM user",
        "account": ACCOUNT,
        "events": 2,
        "failed": 1,
        "first": "2024-01-01T09:00:01Z",
        "last": "2024-01-01T09:00:02Z",
    }
    (only,) = (await browser.get("principals", text="TEAM")).json["principals"]
    assert only == user
    newest = (await browser.get("principals", limit="1")).json
    assert newest == {"principals": [session], "complete": False}


async def listed(browser: Browser, **query: str) -> list[tuple[str, list[str], int | None]]:
    found = (await browser.get("resources/list", **query)).json
    msgspec.convert(found, ResourceList)
    return [(each["name"], each["aliases"], each["events"]) for each in found["resources"]]


@asynchronous
async def test_resource_is_listed_once_with_its_other_names() -> None:
    arn, unique = f"arn:aws:iam::{ACCOUNT}:user/team/Mary", "AIDACKCEVSQ6C2EXAMPLE"
    browser = await with_events(naming(1, arn, "Mary", unique), naming(2, "Mary"))
    assert await listed(browser) == [("Mary", [arn, unique], 2)]
    assert await listed(browser, text="aRy") == [("Mary", [arn, unique], 2)]
    assert await listed(browser, prefix="Ma") == [("Mary", [arn, unique], None)]
    assert await listed(browser, text="John") == []
    assert await listed(browser, type="AWS::S3::Bucket") == []


@asynchronous
async def test_an_ambiguous_name_is_listed_alone() -> None:
    unique = "AIDACKCEVSQ6C2EXAMPLE"
    arn = f"arn:aws:iam::{ACCOUNT}:user/Zoe"
    browser = await with_events(naming(1, "Mary", "John", unique), naming(2, arn))
    found = await listed(browser)
    assert found == [(arn, [], 1), ("Mary", [], 1), ("John", [], 1), (unique, [], 1)]


@asynchronous
async def test_a_queue_is_listed_once_with_its_address() -> None:
    url = f"http://localhost:4566/{ACCOUNT}/jobs"
    browser = await with_events(
        made(
            1,
            eventSource="sqs.amazonaws.com",
            eventName="CreateQueue",
            requestParameters={"queueName": "jobs"},
            responseElements={"queueUrl": url},
        )
    )
    assert await listed(browser) == [("jobs", [url], 1)]


@asynchronous
async def test_a_parameter_is_listed_once_with_its_arn() -> None:
    arn = f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/app/key"
    parameter = [{"type": "AWS::SSM::Parameter", "ARN": arn}]
    browser = await with_events(
        made(
            1,
            eventSource="ssm.amazonaws.com",
            eventName="PutParameter",
            requestParameters={"name": "/app/key"},
            responseElements=None,
            resources=parameter,
        )
    )
    assert await listed(browser) == [("/app/key", [arn], 1)]


@asynchronous
async def test_resources_only_read_are_found_by_name() -> None:
    browser = await with_events(naming(1, "Mary", readOnly=True), naming(2, "John"))
    assert await listed(browser) == [("John", [], 1)]
    assert await listed(browser, text="mar") == [("Mary", [], 1)]
    cut = (await browser.get("resources/list", text="o", limit="1")).json
    assert cut["complete"]


@asynchronous
async def test_the_events_of_a_resource_match_the_search() -> None:
    other = "210987654321"
    browser = await with_events(
        naming(1, "Mary", readOnly=True),
        naming(2, "Mary"),
        naming(3, "Mary", recipientAccountId=other),
        naming(4, "Mary", awsRegion="eu-west-1"),
    )
    assert await listed(browser) == [("Mary", [], 4)]
    assert await listed(browser, account=ACCOUNT) == [("Mary", [], 3)]
    assert await listed(browser, account=ACCOUNT, region="eu-west-1") == [("Mary", [], 1)]
    assert await listed(browser, until="2024-01-01T09:00:02Z") == [("Mary", [], 2)]


@asynchronous
async def test_a_limited_user_sees_its_principals_and_resources() -> None:
    other = "210987654321"
    zoe = {**an_iam_user("Zoe"), "arn": f"arn:aws:iam::{other}:user/Zoe"}
    browser = await with_events(
        naming(1, "Mary"),
        naming(2, "Mary", recipientAccountId=other, userIdentity=zoe),
        naming(3, "John", recipientAccountId=other, userIdentity=zoe),
    )
    browser.become(ConsoleRole.VIEWER, ACCOUNT)
    assert await listed(browser) == [("Mary", [], 1)]
    assert await listed(browser, text="o") == []
    found = (await browser.get("principals")).json["principals"]
    assert [each["account"] for each in found] == [ACCOUNT]
