"""Organization trails: a folder, a file name and a digest chain for each account and Region."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.organization import Organization
from opentrail.ports.control import Put
from tests.factories import ACCOUNT, REGION
from tests.fakes import Breaker, PowerCutError, asynchronous
from tests.trails.world import BUCKET, World

ID = "o-a1b2c3d4e5"
MEMBER, OTHER_MEMBER, STRANGER = "222222222222", "333333333333", "444444444444"
ACCOUNTS = (ACCOUNT, MEMBER, OTHER_MEMBER)
OTHER = "eu-west-1"
GROUP = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:trail"


async def logging_trail(**settings: Any) -> tuple[World, list[str]]:
    """Returns a logging organization trail, and its events to deliver."""
    world = World(organization=Organization(ID, ACCOUNT, frozenset(ACCOUNTS)))
    given = {"multi_region": True, "validation": True, **settings}
    await world.add(organization=ID, accounts=ACCOUNTS, **given)
    return world, [await world.start_logging()]


async def a_mixture(world: World) -> list[str]:
    """Records events of all accounts in two Regions; returns the organization's events."""
    expected = []
    for account in (*ACCOUNTS, STRANGER):
        for region in (REGION, OTHER):
            made = await world.event(recipientAccountId=account, awsRegion=region)
            expected += made if account != STRANGER else []
    return expected


@asynchronous
async def test_each_account_and_region_has_a_chain() -> None:
    world, expected = await logging_trail()
    expected += await a_mixture(world)
    await world.deliver()
    world.clock.advance(3_600)
    await world.deliver()
    delivered = await world.check(expected, chains=1)
    places = {f"{ID}/{account}/{region}" for account in ACCOUNTS for region in (REGION, OTHER)}
    assert set(delivered.chains) == places
    for place, ((digest,),) in delivered.chains.items():
        _, account, region = place.split("/")
        assert digest.key == (
            f"AWSLogs/{ID}/{account}/CloudTrail-Digest/{region}/2020/01/01/"
            f"{account}_CloudTrail-Digest_{region}_my-trail_{REGION}_20200101T100000Z.json.gz"
        )
        assert digest.document["awsAccountId"] == account
        assert all(f"/{ID}/{account}/CloudTrail/{region}/" in log for log in digest.logs)
        assert len(digest.logs) == 1


@asynchronous
async def test_events_of_other_accounts_are_in_no_file() -> None:
    world, expected = await logging_trail(multi_region=False)
    await world.event(recipientAccountId=STRANGER)
    await world.event(recipientAccountId=MEMBER, awsRegion=OTHER)
    expected += await world.event(recipientAccountId=MEMBER)
    await world.deliver()
    await world.check(expected)
    assert not [key for key in world.log_keys() if STRANGER in key]


@asynchronous
async def test_known_signatures_name_organization_and_account() -> None:
    world, _ = await logging_trail()
    await a_mixture(world)
    await world.deliver(flush=True)
    known = await world.deliveries.known_digests((await world.stored()).trail)
    owners = {(each["organization"], each["account"], each["region"]) for each in known}
    assert owners == {(ID, account, region) for account in ACCOUNTS for region in (REGION, OTHER)}


@asynchronous
async def test_each_account_and_region_has_a_stream() -> None:
    world, _ = await logging_trail(log_group=f"{GROUP}:*")
    world.services.groups[GROUP] = {}
    expected = await a_mixture(world)
    await world.deliver()
    for sink in world.sinks:
        await sink.send("4f1c6a52-trail")
    streams = world.services.groups[GROUP]
    assert set(streams) == {
        f"{ID}_{account}_CloudTrail_{region}" for account in ACCOUNTS for region in (REGION, OTHER)
    }
    sent = [event.message for events in streams.values() for event in events]
    assert all(any(event_id in message for message in sent) for event_id in expected)


@asynchronous
async def test_files_planned_before_a_failure_stay_unchanged() -> None:
    world, expected = await logging_trail()
    expected += await a_mixture(world)
    world.objects.down = "SlowDown"
    with pytest.raises(Exception, match="SlowDown"):
        await world.deliver()
    planned = {plan.document["key"] for plan in await world.control.scan("plan")}
    assert len(planned) == 6
    # The account has left; its earlier events are still delivered.
    world.organization = Organization(ID, ACCOUNT, frozenset({ACCOUNT, OTHER_MEMBER}))
    world = world.restarted()
    world.clock.advance(60)
    await world.members.update()
    await world.deliver(flush=True)
    assert {log.key for log in (await world.check(expected, chains=1)).logs} == planned


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None, max_examples=40)
@given(st.data())
@asynchronous
async def test_a_power_cut_loses_and_doubles_nothing(data: st.DataObject) -> None:
    world, expected = await logging_trail()
    for _ in range(3):
        expected += await a_mixture(world)
        world.clock.advance(1_800)
        moment = data.draw(st.integers(1, 60))
        cut = world.restarted(Breaker(at=moment, done=data.draw(st.booleans())))
        try:
            await cut.deliver(flush=True)
        except PowerCutError:
            world = world.restarted()
        else:
            world = cut.restarted()
    await world.deliver(flush=True)
    await world.check(expected, chains=1)


@asynchronous
async def test_trail_that_joins_an_organization_begins_new_chains() -> None:
    world = World(organization=Organization(ID, ACCOUNT, frozenset(ACCOUNTS)))
    await world.add(validation=True)
    expected = [await world.start_logging(), *await world.event()]
    await world.event(recipientAccountId=MEMBER)
    world.clock.advance(1_200)
    expected.append(await world.update(organization=ID, accounts=ACCOUNTS))
    expected += await world.event(recipientAccountId=MEMBER) + await world.event()
    await world.deliver()
    world.clock.advance(3_600)
    expected.append(await world.update(organization="", accounts=()))
    await world.event(recipientAccountId=MEMBER)
    expected += await world.event()
    world.clock.advance(3_600)
    await world.deliver()
    delivered = await world.check(expected)
    assert {place: len(chains) for place, chains in delivered.chains.items()} == {
        REGION: 2,
        f"{ID}/{ACCOUNT}/{REGION}": 1,
        f"{ID}/{MEMBER}/{REGION}": 1,
    }
    listed = sorted(log for digest in delivered.digests for log in digest.logs)
    assert listed == sorted(log.key for log in delivered.logs)


@asynchronous
async def test_trail_state_of_earlier_version_is_continued() -> None:
    world = World()
    await world.add(validation=True, log_group=f"{GROUP}:*")
    world.services.groups[GROUP] = {}
    expected = [await world.start_logging(), *await world.event()]
    world.objects.down = "SlowDown"
    with pytest.raises(Exception, match="SlowDown"):
        await world.deliver()
    for kind, inner in (("plan", None), ("stream", "plan")):
        (stored,) = await world.control.scan(kind)
        document = stored.document
        for name in ("account", "organization"):
            del (document[inner] if inner else document)[name]
        await world.control.apply([Put(kind, stored.key, document)])
    (state,) = await world.control.scan("delivery")
    assert state.document["regions"] in ([REGION], (REGION,))
    world = world.restarted()
    expected += await world.event()
    world.clock.advance(3_600)
    await world.deliver()
    await world.check(expected, chains=1)
    assert [chain.key for chain in await world.control.scan("chain")] == [
        f"4f1c6a52-trail/{REGION}"
    ]
    for sink in world.sinks:
        await sink.send("4f1c6a52-trail")
    streams = world.services.groups[GROUP]
    assert {name: len(events) for name, events in streams.items()} == {
        f"{ACCOUNT}_CloudTrail_{REGION}": 3
    }
    assert all(key.startswith(f"AWSLogs/{ACCOUNT}/") for key in world.buckets.objects[BUCKET])
