"""Events that begin and end chains, in records of many kinds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.validation.bucket_objects import ChainId
from opentrail.validation.coverage import Evidence
from opentrail.validation.report import Status
from tests.fakes import run
from tests.trails.world import World
from tests.validation.delivered import FAR, Trail, delivered, hours

CHAIN = ChainId("123456789012", "us-east-1", "my-trail", "us-east-1")


async def _ended_by(event: dict[str, Any]) -> Trail:
    """Returns a trail whose chain ends and restarts; `event` is the record of the reason."""
    world = World()
    await world.add(multi_region=True, validation=True)
    await world.start_logging()
    await hours(world, 2)
    stored = await world.stored()
    stopped = stored.trail.stopped("the-end", world.clock.now().isoformat())
    await world.registry.change(stored, stopped)
    await world.event(**{"eventID": "the-end", **event})
    await world.close_span(stopped.uid, "the-end")
    await world.deliver()
    world.clock.advance(7200)
    await world.start_logging()
    await hours(world, 2)
    return await delivered(world)


def event(name: str, trail: str = "my-trail", **more: Any) -> dict[str, Any]:
    asked = {"name": trail, **more.pop("asked", {})}
    own = {"eventSource": "cloudtrail.amazonaws.com", "requestParameters": asked}
    return {"eventName": name, **own, **more}


@pytest.mark.parametrize(
    "ending",
    [
        event("StopLogging"),
        event("StopLogging", "arn:aws:cloudtrail:us-east-1:123456789012:trail/my-trail"),
        event("DeleteTrail"),
        event("UpdateTrail", asked={"enableLogFileValidation": False}),
    ],
    ids=["StopLogging", "by ARN", "DeleteTrail", "UpdateTrail"],
)
def test_stop_logging_explains_the_end_of_a_chain(ending: dict[str, Any]) -> None:
    outcome = run(_ended_by(ending)).validate()
    assert outcome.code == 0, outcome.text()
    assert all(ending["eventName"] in note.reason for note in outcome.of(Status.NOTE))


@pytest.mark.parametrize(
    "ending",
    [
        event("StopLogging", "other-trail"),
        event("StopLogging", "arn:aws:cloudtrail:eu-west-1:123456789012:trail/my-trail"),
        event("StopLogging", errorCode="AccessDenied"),
        event("StopLogging", eventSource="iam.amazonaws.com"),
        event("UpdateTrail", asked={"enableLogFileValidation": True}),
        event("UpdateTrail"),
        event("GetTrail"),
        {
            "eventName": "StopLogging",
            "eventSource": "cloudtrail.amazonaws.com",
            "requestParameters": None,
        },
    ],
    ids=["other name", "other home", "denied", "other source", "on", "nothing", "read", "no name"],
)
def test_no_other_statement_explains_the_denial(ending: dict[str, Any]) -> None:
    outcome = run(_ended_by(ending)).validate()
    assert outcome.code == 1
    assert "no event shows that logging stopped" in outcome.text()


def test_a_changed_log_file_explains_nothing() -> None:
    trail = run(_ended_by(event("GetTrail")))
    last = json.loads(trail.content(trail.digests()[2]))["logFiles"][0]["s3Object"]
    trail.put(last, trail.content(last).replace(b"GetTrail", b"StopLogging"))
    outcome = trail.validate()
    assert outcome.code == 1
    assert "no event shows that logging stopped" in outcome.text()


@pytest.mark.parametrize("damage", [b"", b"no gzip"])
def test_an_unreadable_log_file_explains_nothing(damage: bytes) -> None:
    from dataclasses import replace

    trail = run(_ended_by(event("StopLogging")))
    last = json.loads(trail.content(trail.digests()[2]))["logFiles"][0]["s3Object"]
    trail.bucket[last] = replace(trail.bucket[last], content=damage)
    assert "no event shows that logging stopped" in trail.validate().text()


def test_another_regions_final_digest_must_be_verified() -> None:
    trail = run(_ended_by(event("StopLogging")))
    final = trail.digests(FAR)[2]
    del trail.bucket[final]
    without_knowledge = trail.validate(known=[])
    assert without_knowledge.code == 1, without_knowledge.text()
    assert final in trail.validate().text()


def test_missing_home_region_chain_is_undecided() -> None:
    from opentrail.validation.bucket_objects import Inventory, Wanted

    evidence = Evidence(Inventory(Wanted()), {})
    assert not evidence.has_events(CHAIN)
