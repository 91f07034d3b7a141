"""The accounts of organization trails, as accounts join and leave."""

from __future__ import annotations

from opentrail.core.organization import Organization
from tests.factories import ACCOUNT
from tests.fakes import asynchronous
from tests.trails.world import World

ID = "o-a1b2c3d4e5"
FIRST, SECOND = "222222222222", "333333333333"


def of(*accounts: str) -> Organization:
    return Organization(ID, ACCOUNT, frozenset({ACCOUNT, *accounts}))


async def a_world(*accounts: str) -> World:
    """Returns a world with a logging organization trail."""
    world = World(organization=of(*accounts))
    await world.add(organization=ID, accounts=tuple(sorted({ACCOUNT, *accounts})))
    await world.start_logging()
    return world


@asynchronous
async def test_trail_gets_an_accounts_events_after_it_joined() -> None:
    world = await a_world()
    started = [entry.event_id for entry in world.entries]
    await world.event(recipientAccountId=FIRST)
    world.organization = of(FIRST)
    world.clock.advance(1)
    await world.members.update()
    expected = started + await world.event(recipientAccountId=FIRST) + await world.event()
    await world.event(recipientAccountId=SECOND)
    await world.deliver()
    await world.check(expected)
    assert (await world.stored()).trail.accounts == (ACCOUNT, FIRST)


@asynchronous
async def test_trail_gets_no_events_of_a_former_member() -> None:
    world = await a_world(FIRST, SECOND)
    expected = [entry.event_id for entry in world.entries]
    expected += await world.event(recipientAccountId=FIRST)
    world.organization = of(SECOND)
    world.clock.advance(1)
    await world.members.update()
    await world.event(recipientAccountId=FIRST)
    expected += await world.event(recipientAccountId=SECOND)
    await world.deliver()
    await world.check(expected)


@asynchronous
async def test_digest_chains_continue_as_accounts_join_and_leave() -> None:
    world = await a_world(FIRST)
    stored = await world.stored()
    await world.update(validation=True)
    assert stored.trail.organization == ID
    events = [await world.event(recipientAccountId=FIRST)]
    for accounts in ((FIRST, SECOND), (SECOND,), (FIRST, SECOND)):
        await world.deliver(flush=True)
        world.clock.advance(600)
        world.organization = of(*accounts)
        await world.members.update()
        events.append(await world.event(recipientAccountId=SECOND))
    world.clock.advance(3_600)
    await world.deliver()
    delivered = await world.verified()
    places = {f"{ID}/{account}/us-east-1" for account in (ACCOUNT, FIRST, SECOND)}
    assert set(delivered.chains) == places
    assert all(len(chains) == 1 for chains in delivered.chains.values())
    found = [i for i in delivered.event_ids if any(i in some for some in events)]
    assert sorted(found) == sorted(i for some in events for i in some)


@asynchronous
async def test_unchanged_or_unknown_organization_changes_nothing() -> None:
    world = await a_world(FIRST)
    before = (await world.stored()).trail
    await world.members.update()
    for gone in (None, Organization("o-0000000000", ACCOUNT, frozenset({ACCOUNT}))):
        world.organization = gone
        await world.members.update()
    assert (await world.stored()).trail == before


@asynchronous
async def test_other_and_stopped_trails_get_no_spans() -> None:
    world = World(organization=of(FIRST))
    await world.add()
    await world.start_logging()
    await world.add(name="shared", uid="shared", organization=ID, accounts=(ACCOUNT,))
    before = (await world.stored()).trail
    await world.members.update()
    assert (await world.stored()).trail == before
    shared = (await world.stored("shared")).trail
    assert (shared.accounts, shared.spans) == ((ACCOUNT, FIRST), ())


@asynchronous
async def test_ending_a_span_during_account_changes_loses_nothing() -> None:
    world = await a_world(FIRST)
    expected = [entry.event_id for entry in world.entries]
    stored = await world.stored()
    changed = stored.trail.reconfigured("a-call", world.journal.head, "2020-01-01T09:00:01+00:00")
    await world.registry.change(stored, changed)
    expected += await world.event(recipientAccountId=FIRST)
    world.organization = of(FIRST, SECOND)
    world.clock.advance(2)
    await world.members.update()
    await world.event(eventID="a-call")
    expected.append("a-call")
    await world.close_span(stored.trail.uid, "a-call")
    expected += await world.event(recipientAccountId=SECOND)
    await world.deliver()
    await world.check(expected)
