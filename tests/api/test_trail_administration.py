"""What `opentrail trail` does, over the API in memory."""

from __future__ import annotations

import pytest

from opentrail.api.trail_administration import TrailAdministration
from opentrail.core.errors import CloudTrailError
from tests.api.caller import Api
from tests.api.console.browser import CalledEndpoint
from tests.factories import ACCOUNT, REGION
from tests.fakes import asynchronous
from tests.trails.world import BUCKET


async def a_trail(**given: object) -> tuple[Api, TrailAdministration]:
    api = Api()
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET, **given)
    return api, TrailAdministration(api.services, CalledEndpoint(api), ACCOUNT)


@asynchronous
async def test_trails_are_listed_with_their_health() -> None:
    api, trails = await a_trail()
    await api.ok("CreateTrail", Name="another", S3BucketName=BUCKET)
    await api.ok("StartLogging", Name="my-trail")
    listed = (await trails.run({"action": "list"}))["trails"]
    assert [(one["name"], one["status"]) for one in listed] == [
        ("another", "Off"),
        ("my-trail", "Logging"),
    ]


@asynchronous
async def test_a_trail_is_started_shown_stopped_and_deleted() -> None:
    api, trails = await a_trail()
    arn = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/my-trail"
    assert await trails.run({"action": "start", "name": "my-trail"}) == {"trail": arn}
    assert (await trails.run({"action": "show", "name": arn}))["status"] == "Logging"
    await trails.run({"action": "stop", "name": arn})
    assert (await trails.run({"action": "show", "name": "my-trail"}))["status"] == "Off"
    await trails.run({"action": "delete", "name": "my-trail"})
    assert (await api.ok("ListTrails"))["Trails"] == []


@asynchronous
async def test_creating_a_trail_creates_what_it_needs() -> None:
    """The calls of services are noted by the endpoint, which here creates no trail."""
    api, _ = await a_trail()
    endpoint = CalledEndpoint(api)
    trails = TrailAdministration(api.services, endpoint, ACCOUNT)
    wish = {"name": "my-trail", "bucket": "evidence", "createBucket": True, "prefix": None}
    created = await trails.run({"action": "create", "region": REGION, **wish})
    assert created["name"] == "my-trail"
    assert [operation for _, operation, _ in endpoint.calls] == [
        "HeadBucket",
        "CreateBucket",
        "PutBucketPolicy",
        "CreateTrail",
        "StartLogging",
    ]


@asynchronous
async def test_the_step_that_fails_is_named() -> None:
    api, _ = await a_trail()
    endpoint = CalledEndpoint(api)
    endpoint.refused = ["CreateBucket"]
    trails = TrailAdministration(api.services, endpoint, ACCOUNT)
    wish = {"action": "create", "region": REGION, "name": "new", "bucket": "evidence"}
    with pytest.raises(CloudTrailError, match=r"step bucket: .*not today"):
        await trails.run(wish)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"action": "show", "name": "other"}, "trail 'other' not found"),
        ({"action": "paint", "name": "my-trail"}, "no action 'paint'"),
        ({"action": "create", "name": "x", "bucket": "b"}, "region"),
        ({"action": "create", "name": "x", "region": REGION}, "bucket must be given"),
    ],
)
@asynchronous
async def test_what_is_wrong_is_named(given: dict[str, object], named: str) -> None:
    _, trails = await a_trail()
    with pytest.raises(CloudTrailError, match=named):
        await trails.run(given)


@asynchronous
async def test_a_refusal_of_the_api_has_its_code() -> None:
    api, _ = await a_trail()

    class Refusing(CalledEndpoint):
        async def cloudtrail(self, *_: object) -> tuple[int, bytes]:
            return 400, b'{"__type": "ThrottlingException", "message": "slow down"}'

    trails = TrailAdministration(api.services, Refusing(api), ACCOUNT)
    with pytest.raises(CloudTrailError, match="slow down") as refused:
        await trails.run({"action": "start", "name": "my-trail"})
    assert refused.value.code == "ThrottlingException"
