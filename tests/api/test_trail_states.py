"""Trails with their health, and finding them."""

from __future__ import annotations

import pytest

from opentrail.api.v1.trails import find_trail, trail_problems, trail_state
from opentrail.core.errors import CloudTrailError
from opentrail.ports.control import Put
from opentrail.trails.plans import DELIVERY, DeliveryState, add_undelivered, load_undelivered
from tests.api.caller import Api
from tests.factories import ACCOUNT
from tests.fakes import asynchronous
from tests.trails.world import BUCKET

OTHER = "222222222222"


@asynchronous
async def test_a_state_has_settings_and_health() -> None:
    api = Api()
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET, S3KeyPrefix="audit")
    trail = await find_trail(api.services.trails, "my-trail", None)
    state = await trail_state(api.services.control, trail)
    assert (state["name"], state["status"], state["prefix"]) == ("my-trail", "Off", "audit")
    assert state["latestDelivery"] is None
    assert state["reason"] is None


@asynchronous
async def test_an_ambiguous_name_needs_the_account_or_arn() -> None:
    api = Api()
    for account in (ACCOUNT, OTHER):
        await api.ok("CreateTrail", account=account, Name="my-trail", S3BucketName=BUCKET)
    trails = api.services.trails
    with pytest.raises(CloudTrailError, match="several trails are called 'my-trail'"):
        await find_trail(trails, "my-trail", None)
    found = await find_trail(trails, "my-trail", OTHER)
    assert found.account == OTHER
    assert await find_trail(trails, found.arn, None) == found
    with pytest.raises(CloudTrailError, match="trail 'x' not found; 'opentrail trail list'"):
        await find_trail(trails, "x", None)


@asynchronous
async def test_a_stuck_or_restarted_trail_is_named() -> None:
    api = Api()
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET)
    control, trails = api.services.control, api.services.trails
    trail = await find_trail(trails, "my-trail", None)
    states = DeliveryState(latest_error="ObjectMismatch", latest_digest_error="SlowDown")
    states.new_chain, states.new_chain_reason = "2999-01-01T00:00:00.000000+00:00", "other keys"
    await control.apply([Put(DELIVERY, trail.uid, states.document())])
    assert await trail_problems(control, trails) == [], "it does not log"
    await api.ok("StartLogging", Name="my-trail")
    problems = await trail_problems(control, trails)
    assert [each["trail"] for each in problems] == [trail.arn] * 3
    for each, text in zip(problems, ("ObjectMismatch", "SlowDown", "2999-01-01"), strict=True):
        assert text in each["problem"]
    status = await api.ok("GetTrailStatus", Name="my-trail")
    assert status["LatestDigestDeliveryError"] == "SlowDown"
    states.latest_digest_error = None
    await control.apply([Put(DELIVERY, trail.uid, states.document())])
    status = await api.ok("GetTrailStatus", Name="my-trail")
    assert status["LatestDigestDeliveryError"] == "NewDigestChain"


@asynchronous
async def test_trail_with_expired_events_is_named_until_it_restarts() -> None:
    api = Api()
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET)
    await api.ok("StartLogging", Name="my-trail")
    control, trails = api.services.control, api.services.trails
    trail = await find_trail(trails, "my-trail", None)
    await control.apply(await add_undelivered(control, trail, [[5, 9]], api.world.clock.now()))
    await control.apply(await add_undelivered(control, trail, [[12, 12]], api.world.clock.now()))
    [problem] = await trail_problems(control, trails)
    assert problem["problem"].startswith("6 events between positions 5 and 12 expired")
    state = await trail_state(control, trail)
    assert (state["status"], state["reason"]) == ("Logging", problem["problem"])
    api.world.clock.advance(1)
    await api.ok("StopLogging", Name="my-trail")
    await api.ok("StartLogging", Name="my-trail")
    assert await trail_problems(control, trails) == []


@asynchronous
async def test_list_of_undelivered_events_is_bounded() -> None:
    api = Api()
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET)
    control = api.services.control
    trail = await find_trail(api.services.trails, "my-trail", None)
    ranges = [[position, position] for position in range(1, 301, 2)]
    await control.apply(await add_undelivered(control, trail, ranges, api.world.clock.now()))
    undelivered = await load_undelivered(control, trail.uid)
    assert undelivered is not None
    assert undelivered.ranges == [*ranges[:99], [199, 299]]
