"""The managers of an organization's trails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.errors import CloudTrailError, ServiceError
from opentrail.core.organization import Organization
from opentrail.trails.organization_trails import (
    MAX_ADMINISTRATORS,
    OrganizationAdministration,
)
from tests.factories import a_trail
from tests.fakes import MemoryControl, asynchronous

ID, MANAGEMENT = "o-a1b2c3d4e5", "111111111111"
MEMBERS = tuple(str(200_000_000_000 + number) for number in range(5))
STRANGER = "999999999999"
ALL = (MANAGEMENT, *MEMBERS, STRANGER)


class Source:
    """`Organizations` that tests change."""

    def __init__(self) -> None:
        self.organization: Organization | None = Organization(
            ID, MANAGEMENT, frozenset({MANAGEMENT, *MEMBERS})
        )
        self.failure: ServiceError | None = None

    async def current(self) -> Organization | None:
        """Returns the test's organization, or raises its failure."""
        if self.failure is not None:
            raise self.failure
        return self.organization


class Scene:
    def __init__(self) -> None:
        self.source = Source()
        self.administration = OrganizationAdministration(self.source, MemoryControl())

    async def managers(self) -> list[str]:
        """Returns the accounts that may create organization trails."""
        found = []
        for account in ALL:
            try:
                await self.administration.managed_by(account)
            except CloudTrailError:
                continue
            found.append(account)
        return found


async def code(work: object) -> str:
    with pytest.raises(CloudTrailError) as caught:
        await work  # type: ignore[misc]
    return caught.value.code


@asynchronous
async def test_the_management_account_and_its_delegates_create_trails() -> None:
    scene = Scene()
    assert await scene.managers() == [MANAGEMENT]
    await scene.administration.register(MANAGEMENT, MEMBERS[0])
    assert await scene.managers() == [MANAGEMENT, MEMBERS[0]]
    managed_by = scene.administration.managed_by
    assert await code(managed_by(MEMBERS[1])) == "NotOrganizationMasterAccountException"
    assert await code(managed_by(STRANGER)) == "OrganizationsNotInUseException"
    await scene.administration.deregister(MANAGEMENT, MEMBERS[0])
    assert await scene.managers() == [MANAGEMENT]


@asynchronous
async def test_a_delegate_administrates_only_its_organizations_trails() -> None:
    scene = Scene()
    administration = scene.administration
    await administration.register(MANAGEMENT, MEMBERS[0])
    shared = a_trail(account=MANAGEMENT, organization=ID)
    assert await administration.administrates(MEMBERS[0], shared)
    for account in (MEMBERS[1], STRANGER):
        assert not await administration.administrates(account, shared)
    for other in (a_trail(account=MANAGEMENT), a_trail(account=MANAGEMENT, organization="o-other")):
        assert not await administration.administrates(MEMBERS[0], other)
    # It has left, but is still registered.
    scene.source.organization = Organization(ID, MANAGEMENT, frozenset({MANAGEMENT}))
    assert not await administration.administrates(MEMBERS[0], shared)
    assert await code(administration.managed_by(MEMBERS[0])) == "OrganizationsNotInUseException"
    await administration.deregister(MANAGEMENT, MEMBERS[0])
    scene.source.organization = None
    assert not await administration.administrates(MEMBERS[0], shared)


@asynchronous
async def test_registering_is_for_members_up_to_three() -> None:
    scene = Scene()
    register, deregister = scene.administration.register, scene.administration.deregister
    assert await code(register(MANAGEMENT, MANAGEMENT)) == (
        "CannotDelegateManagementAccountException"
    )
    assert await code(register(MANAGEMENT, STRANGER)) == "AccountNotFoundException"
    assert await code(register(MEMBERS[0], MEMBERS[1])) == (
        "NotOrganizationManagementAccountException"
    )
    assert await code(register(STRANGER, MEMBERS[1])) == "OrganizationsNotInUseException"
    assert await code(deregister(MANAGEMENT, MEMBERS[0])) == "AccountNotRegisteredException"
    assert await code(deregister(MANAGEMENT, STRANGER)) == "AccountNotFoundException"
    for member in MEMBERS[:MAX_ADMINISTRATORS]:
        await register(MANAGEMENT, member)
    assert await code(register(MANAGEMENT, MEMBERS[0])) == "AccountRegisteredException"
    assert await code(register(MANAGEMENT, MEMBERS[3])) == (
        "DelegatedAdminAccountLimitExceededException"
    )
    assert await code(register(MEMBERS[0], MEMBERS[3])) == (
        "NotOrganizationManagementAccountException"
    )
    await deregister(MANAGEMENT, MEMBERS[1])
    await register(MANAGEMENT, MEMBERS[3])


@asynchronous
async def test_an_organization_needs_all_features() -> None:
    scene = Scene()
    accounts = frozenset({MANAGEMENT, *MEMBERS})
    scene.source.organization = Organization(ID, MANAGEMENT, accounts, has_all_features=False)
    administration = scene.administration
    for work in (
        administration.managed_by(MANAGEMENT),
        administration.register(MANAGEMENT, MEMBERS[0]),
        administration.deregister(MANAGEMENT, MEMBERS[0]),
    ):
        assert await code(work) == "OrganizationNotInAllFeaturesModeException"


@asynchronous
async def test_upstream_refusals_are_reported() -> None:
    scene = Scene()
    scene.source.failure = ServiceError("AccessDeniedException", "no")
    assert await code(scene.administration.managed_by(MANAGEMENT)) == (
        "InsufficientDependencyServiceAccessPermissionException"
    )
    scene.source.failure = ServiceError("EndpointConnectionError", "no")
    with pytest.raises(ServiceError):
        await scene.administration.managed_by(MANAGEMENT)


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(ALL), st.sampled_from(ALL)), max_size=20),
)
@asynchronous
async def test_only_members_administrate_whatever_the_call(
    calls: list[tuple[bool, str, str]],
) -> None:
    scene = Scene()
    registered: set[str] = set()
    for registers, caller, account in calls:
        work = scene.administration.register if registers else scene.administration.deregister
        before = set(registered)
        try:
            await work(caller, account)
        except CloudTrailError:
            pass
        else:
            assert caller == MANAGEMENT
            registered = before | {account} if registers else before - {account}
            assert registered != before
        assert registered <= set(MEMBERS)
        assert len(registered) <= MAX_ADMINISTRATORS
    assert set(await scene.managers()) == {MANAGEMENT, *registered}
