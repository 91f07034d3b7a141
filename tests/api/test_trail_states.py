"""Trails with their health, and how they are found."""

from __future__ import annotations

import pytest

from opentrail.api.trail_states import find_trail, trail_state
from opentrail.core.errors import CloudTrailError
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
async def test_a_name_of_several_trails_needs_the_account_or_the_arn() -> None:
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
