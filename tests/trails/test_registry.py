"""Stored trails: finding, adding, changing and retiring; one change at a time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from opentrail.adapters.sql.control_store import SqlControl
from opentrail.core.errors import CloudTrailError
from opentrail.core.trail import Trail, stored_time
from opentrail.ports.control import ControlStore, Put
from opentrail.trails.registry import TrailRegistry
from tests.factories import ACCOUNT, REGION, a_trail
from tests.fakes import MemoryControl, asynchronous
from tests.trails.world import World

OTHER = "eu-west-1"
ELSEWHERE = "210987654321"


@pytest.fixture
def registry() -> TrailRegistry:
    return TrailRegistry(MemoryControl())


def named(name: str, **changes: object) -> Trail:
    return a_trail(name=name, uid=f"uid-{name}-{changes}", **changes)


async def names(registry: TrailRegistry, account: str | None = None) -> list[str]:
    return [stored.trail.name for stored in await registry.all(account)]


def code(error: pytest.ExceptionInfo[CloudTrailError]) -> tuple[str, str]:
    return error.value.code, error.value.message


@asynchronous
async def test_trail_is_found_by_name_and_by_arn(registry: TrailRegistry) -> None:
    trail = a_trail(prefix="p", validation=True)
    await registry.add(trail)
    for name in ("my-trail", trail.arn):
        assert (await registry.find(ACCOUNT, REGION, name)).trail == trail
    assert (await registry.find(ACCOUNT, OTHER, trail.arn)).trail == trail


@asynchronous
async def test_trail_with_its_whole_past_is_read_unchanged(
    registry: TrailRegistry,
) -> None:
    trail = a_trail().started(3, "2020-01-01T09:00:00.000000+00:00")
    trail = replace(trail, bucket="other-bucket").reconfigured("call-1", 5, "2020-01-02")
    trail = trail.with_closed_span("call-1", 6).stopped("call-2", "2020-01-03")
    await registry.add(trail)
    assert (await registry.find(ACCOUNT, REGION, "my-trail")).trail == trail


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothing", ("TrailNotFoundException", "trail/nothing for the user")),
        (f"arn:aws:cloudtrail:{OTHER}:{ACCOUNT}:trail/my-trail", ("TrailNotFoundException", OTHER)),
        (
            f"arn:aws:cloudtrail:{REGION}:{ELSEWHERE}:trail/my-trail",
            ("TrailNotFoundException", f"for the user: {ACCOUNT}"),
        ),
        ("My-trail", ("TrailNotFoundException", "My-trail")),
        ("arn:aws:s3:::my-bucket", ("CloudTrailARNInvalidException", "arn:aws:s3:::my-bucket")),
        ("arn:", ("CloudTrailARNInvalidException", "arn:")),
        (f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/", ("CloudTrailARNInvalidException", "")),
        ("a", ("InvalidTrailNameException", "too short")),
        ("no/slash", ("InvalidTrailNameException", "can only contain")),
    ],
)
@asynchronous
async def test_an_unknown_trail_is_refused_with_awss_message(
    registry: TrailRegistry, name: str, expected: tuple[str, str]
) -> None:
    await registry.add(a_trail())
    with pytest.raises(CloudTrailError) as error:
        await registry.find(ACCOUNT, REGION, name)
    assert error.value.code == expected[0]
    assert expected[1] in error.value.message


@asynchronous
async def test_the_text_for_an_unknown_trail_is_awss(registry: TrailRegistry) -> None:
    with pytest.raises(CloudTrailError) as error:
        await registry.find(ACCOUNT, REGION, "nothing")
    arn = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/nothing"
    assert error.value.message == f"Unknown trail: {arn} for the user: {ACCOUNT}"


@asynchronous
async def test_a_name_is_found_in_its_region_only(registry: TrailRegistry) -> None:
    await registry.add(a_trail(multi_region=True))
    with pytest.raises(CloudTrailError, match="Unknown trail"):
        await registry.find(ACCOUNT, OTHER, "my-trail")


@asynchronous
async def test_trail_is_changed_only_in_its_home_region(registry: TrailRegistry) -> None:
    trail = a_trail(multi_region=True)
    await registry.add(trail)
    assert (await registry.find_at_home(ACCOUNT, REGION, trail.arn)).trail == trail
    with pytest.raises(CloudTrailError) as error:
        await registry.find_at_home(ACCOUNT, OTHER, trail.arn)
    assert error.value.code == "InvalidHomeRegionException"


@asynchronous
async def test_a_name_is_unique_among_a_regions_trails(
    registry: TrailRegistry,
) -> None:
    await registry.add(named("single"))
    await registry.add(named("multi", home_region=OTHER, multi_region=True))
    for name in ("single", "multi"):
        with pytest.raises(CloudTrailError) as error:
            await registry.add(a_trail(name=name, uid="another"))
        assert code(error) == (
            "TrailAlreadyExistsException",
            f"Trail {name} already exists for customer: {ACCOUNT}",
        )
    await registry.add(named("single", home_region=OTHER))
    await registry.add(named("single", account=ELSEWHERE))
    assert await names(registry) == ["multi", "single", "single", "single"]


@asynchronous
async def test_a_region_has_at_most_five_trails(registry: TrailRegistry) -> None:
    for number in range(4):
        await registry.add(named(f"trail-{number}"))
    await registry.add(named("multi", home_region=OTHER, multi_region=True))
    with pytest.raises(CloudTrailError) as error:
        await registry.add(named("sixth"))
    assert code(error) == (
        "MaximumNumberOfTrailsExceededException",
        f"User: {ACCOUNT} already has 5 trails in {REGION}.",
    )
    await registry.add(named("second-there", home_region=OTHER))
    await registry.add(named("sixth", account=ELSEWHERE))


@asynchronous
async def test_the_quota_is_a_setting() -> None:
    registry = TrailRegistry(MemoryControl(), quota=2)
    for name in ("first", "second"):
        await registry.add(named(name))
    with pytest.raises(CloudTrailError, match="already has 2 trails"):
        await registry.add(named("third"))


@asynchronous
async def test_the_quota_holds_for_concurrent_additions(tmp_path: Path) -> None:
    control = SqlControl.in_file(tmp_path / "state.db")
    registry = TrailRegistry(control)
    answers = await asyncio.gather(
        *(registry.add(named(f"trail-{number}")) for number in range(8)), return_exceptions=True
    )
    assert [answer for answer in answers if answer is None] == [None] * 5
    assert len(await registry.all()) == 5
    await control.close()


@asynchronous
async def test_one_of_two_concurrent_additions_fails(tmp_path: Path) -> None:
    stores: list[ControlStore] = [MemoryControl(), SqlControl.in_file(tmp_path / "state.db")]
    for control in stores:
        registry = TrailRegistry(control)
        answers = await asyncio.gather(
            registry.add(named("twin", prefix="a")),
            registry.add(named("twin", prefix="b")),
            return_exceptions=True,
        )
        (refused,) = [answer for answer in answers if answer is not None]
        assert isinstance(refused, CloudTrailError)
        assert refused.code in ("TrailAlreadyExistsException", "ConflictException")
        assert len(await registry.all()) == 1
        await control.close()


@asynchronous
async def test_account_sees_own_and_shadow_trails(registry: TrailRegistry) -> None:
    await registry.add(named("single"))
    await registry.add(named("multi", multi_region=True))
    await registry.add(named("there", home_region=OTHER))
    await registry.add(named("theirs", account=ELSEWHERE, multi_region=True))

    async def visible(account: str, region: str) -> list[str]:
        return [s.trail.name for s in await registry.visible(account, region)]

    assert await visible(ACCOUNT, REGION) == ["multi", "single"]
    assert sorted(await visible(ACCOUNT, OTHER)) == ["multi", "there"]
    assert await visible(ELSEWHERE, "ap-south-1") == ["theirs"]
    assert await names(registry, ACCOUNT) == ["there", "multi", "single"]
    assert await names(registry, ACCOUNT[:-1]) == []


@asynchronous
async def test_changing_a_changed_trail_is_a_conflict(
    registry: TrailRegistry,
) -> None:
    await registry.add(a_trail())
    first = await registry.find(ACCOUNT, REGION, "my-trail")
    await registry.change(first, replace(first.trail, bucket="changed"))
    with pytest.raises(CloudTrailError) as error:
        await registry.change(first, replace(first.trail, bucket="lost"))
    assert error.value.code == "ConflictException"
    assert (await registry.find(ACCOUNT, REGION, "my-trail")).trail.bucket == "changed"


@asynchronous
async def test_retired_trail_is_hidden_and_frees_its_name(registry: TrailRegistry) -> None:
    await registry.add(a_trail())
    stored = await registry.find(ACCOUNT, REGION, "my-trail")
    await registry.retire(stored, replace(stored.trail, deleted=True))
    with pytest.raises(CloudTrailError, match="Unknown trail"):
        await registry.find(ACCOUNT, REGION, "my-trail")
    assert await registry.all() == []
    assert [s.trail.deleted for s in await registry.retired()] == [True]
    await registry.add(a_trail(uid="second"))
    again = await registry.find(ACCOUNT, REGION, "my-trail")
    await registry.retire(again, replace(again.trail, deleted=True))
    assert sorted(s.trail.uid for s in await registry.retired()) == ["4f1c6a52-trail", "second"]
    await registry.forget("4f1c6a52-trail")
    assert [s.trail.uid for s in await registry.retired()] == ["second"]


@asynchronous
async def test_retiring_a_changed_trail_is_a_conflict(registry: TrailRegistry) -> None:
    await registry.add(a_trail())
    stored = await registry.find(ACCOUNT, REGION, "my-trail")
    await registry.change(stored, replace(stored.trail, bucket="changed"))
    with pytest.raises(CloudTrailError) as error:
        await registry.retire(stored, replace(stored.trail, deleted=True))
    assert error.value.code == "ConflictException"
    assert await registry.retired() == []
    assert len(await registry.all()) == 1


@asynchronous
async def test_amending_is_retried_after_conflicts(registry: TrailRegistry) -> None:
    await registry.add(a_trail(prefix=""))

    def longer(trail: Trail) -> Trail:
        return replace(trail, prefix=trail.prefix + "x")

    await asyncio.gather(*(registry.amend("4f1c6a52-trail", longer) for _ in range(4)))
    assert (await registry.find(ACCOUNT, REGION, "my-trail")).trail.prefix == "xxxx"


@asynchronous
async def test_amending_a_retired_trail_changes_no_other(registry: TrailRegistry) -> None:
    await registry.add(a_trail())
    stored = await registry.find(ACCOUNT, REGION, "my-trail")
    await registry.retire(stored, replace(stored.trail, deleted=True))
    await registry.add(a_trail(uid="second"))
    changed = await registry.amend("4f1c6a52-trail", lambda t: replace(t, prefix="amended"))
    assert changed is not None
    assert changed.prefix == "amended"
    assert (await registry.retired())[0].trail.prefix == "amended"
    assert (await registry.find(ACCOUNT, REGION, "my-trail")).trail.prefix == ""
    assert await registry.amend("nobody", lambda trail: trail) is None


@asynchronous
async def test_delivery_changes_spans_without_a_conflict() -> None:
    world = World()
    await world.add()
    await world.start_logging()
    await world.update(prefix="one")
    world.clock.advance(1)
    await world.update(prefix="two")
    read = await world.stored()
    assert len(read.trail.spans) == 3
    await world.deliver()  # which removes the first two spans
    world.clock.advance(1)
    now = stored_time(world.clock.now())
    changed = replace(read.trail, prefix="three").reconfigured("call", world.journal.head, now)
    await world.registry.change(read, changed)
    after = (await world.stored()).trail
    assert after.prefix == "three"
    assert [(span.prefix, span.closing_event) for span in after.spans] == [
        ("two", "call"),
        ("three", None),
    ]
    with pytest.raises(CloudTrailError):
        await world.registry.change(read, replace(read.trail, prefix="four"))


@asynchronous
async def test_retiring_a_trail_keeps_the_progress_of_delivery() -> None:
    world = World()
    await world.add()
    await world.start_logging()
    world.clock.advance(1)
    await world.update(prefix="one")
    read = await world.stored()
    await world.deliver()
    closed = replace(read.trail.stopped("call", stored_time(world.clock.now())), deleted=True)
    await world.registry.retire(read, closed)
    (retired,) = await world.registry.retired()
    assert [(s.prefix, s.closing_event) for s in retired.trail.spans] == [("one", "call")]


# Trails of an organization


@asynchronous
async def test_members_see_an_organization_trail_without_changing_it(
    registry: TrailRegistry,
) -> None:
    shared = named("shared", organization="o-a1b2c3d4e5", accounts=(ACCOUNT, ELSEWHERE))
    own, other = named("own"), named("shared", account=ELSEWHERE)
    for trail in (shared, own, other):
        await registry.add(trail)
    visible = [stored.trail for stored in await registry.visible(ELSEWHERE, REGION)]
    assert visible == [shared, other]
    assert await names(registry, "333333333333") == []
    assert (await registry.find(ELSEWHERE, OTHER, shared.arn)).trail == shared
    assert (await registry.find(ELSEWHERE, REGION, "shared")).trail == other
    with pytest.raises(CloudTrailError) as caught:
        await registry.find("333333333333", REGION, shared.arn)
    assert caught.value.code == "TrailNotFoundException"
    with pytest.raises(CloudTrailError) as caught:
        await registry.find(ELSEWHERE, REGION, own.arn)
    assert caught.value.code == "TrailNotFoundException"
    with pytest.raises(CloudTrailError) as caught:
        await registry.find_at_home(ELSEWHERE, REGION, shared.arn)
    assert caught.value.code == "NotOrganizationMasterAccountException"
    found = await registry.find_at_home(ELSEWHERE, REGION, shared.arn, administrates=True)
    assert found.trail == shared


@asynchronous
async def test_an_organization_trail_does_not_count_for_members(
    registry: TrailRegistry,
) -> None:
    accounts = (ACCOUNT, ELSEWHERE)
    for number in range(5):
        await registry.add(named(f"shared-{number}", organization="o-1", accounts=accounts))
        await registry.add(named(f"shared-{number}", account=ELSEWHERE))
    assert len(await names(registry, ELSEWHERE)) == 10


@asynchronous
async def test_an_earlier_versions_trail_covers_only_its_account() -> None:
    control = MemoryControl()
    registry = TrailRegistry(control)
    trail = a_trail().started(3, "2020-01-01T09:00:00.000000+00:00")
    await registry.add(trail)
    (stored,) = await control.scan("trail")
    old = {**stored.document, "spans": [dict(span) for span in stored.document["spans"]]}
    for part in (old, *old["spans"]):
        del part["organization"], part["accounts"]
    await control.apply([Put("trail", stored.key, old)])
    assert (await registry.find(ACCOUNT, REGION, "my-trail")).trail == trail
