"""Organization trails: who manages them, and the member accounts whose events they get.

The management account manages them, and the administrators that it delegates to. Error messages
that were not observed come from "RegisterOrganizationDelegatedAdmin" and "CreateTrail" of the API
Reference.

"""

from __future__ import annotations

import logging
from functools import partial

from opentrail.core.errors import CloudTrailError, Conflict, ServiceError
from opentrail.core.organization import Organization, not_management_account
from opentrail.core.trail import Trail, stored_time
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put
from opentrail.ports.journal import Journal
from opentrail.ports.services import Organizations
from opentrail.trails.registry import TrailRegistry

#: Maximum delegated administrators of an organization (cloudtrail-format §8.5).
MAX_ADMINISTRATORS = 3
_KIND = "delegated-administrators"
_REFUSED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})


class OrganizationAdministration:
    """Decides who may manage organization trails, and registers delegated administrators.

    Its methods raise `ServiceError` while the organization's source fails and was never known.
    """

    def __init__(self, source: Organizations, control: ControlStore) -> None:
        self._source = source
        self._control = control

    async def current(self) -> Organization | None:
        """Returns the organization, or None if there is none.

        Raises:
            CloudTrailError: `InsufficientDependencyServiceAccessPermissionException` if the
                upstream refuses to describe it.
        """
        try:
            return await self._source.current()
        except ServiceError as error:
            if error.code not in _REFUSED:
                raise
            raise CloudTrailError(
                "InsufficientDependencyServiceAccessPermissionException",
                "The credentials of this server's upstream may not describe the organization: "
                f"{error}",
            ) from error

    async def managed_by(self, account: str) -> Organization:
        """Returns the organization whose trails an account may create.

        Raises:
            CloudTrailError: `OrganizationsNotInUseException`,
                `NotOrganizationMasterAccountException`,
                `OrganizationNotInAllFeaturesModeException`.
        """
        organization = await self._of(account)
        if account != organization.management_account and account not in await self.delegates(
            organization
        ):
            raise not_management_account()
        return organization

    async def administrates(self, account: str, trail: Trail) -> bool:
        """Returns whether an account is a delegated administrator of a trail's organization."""
        if not trail.organization or account == trail.account:
            return False
        organization = await self.current()
        if organization is None or organization.id != trail.organization:
            return False
        return account in organization.accounts and account in await self.delegates(organization)

    async def delegates(self, organization: Organization) -> list[str]:
        """Returns the delegated administrators."""
        accounts, _ = await self._delegates(organization)
        return accounts

    async def _delegates(self, organization: Organization) -> tuple[list[str], int]:
        """Returns the delegated administrators, and the version of their document."""
        stored = await self._control.get(_KIND, organization.id)
        return (list(stored.document["accounts"]), stored.version) if stored else ([], 0)

    async def register(self, caller: str, account: str) -> None:
        """Makes a member account a delegated administrator.

        Raises:
            CloudTrailError: as `managed_by`, but `NotOrganizationManagementAccountException`;
                `AccountNotFoundException`, `CannotDelegateManagementAccountException`,
                `AccountRegisteredException`, `DelegatedAdminAccountLimitExceededException`,
                `ConflictException`.
        """
        organization = await self._of_management(caller)
        if account == organization.management_account:
            raise CloudTrailError(
                "CannotDelegateManagementAccountException",
                f"Account {account} is the management account of the organization; it cannot be "
                "registered as a delegated administrator.",
            )
        if account not in organization.accounts:
            raise _no_member(account)
        accounts, version = await self._delegates(organization)
        if account in accounts:
            raise CloudTrailError(
                "AccountRegisteredException",
                f"Account {account} is already registered as a CloudTrail delegated administrator.",
            )
        if len(accounts) >= MAX_ADMINISTRATORS:
            raise CloudTrailError(
                "DelegatedAdminAccountLimitExceededException",
                f"The organization already has {MAX_ADMINISTRATORS} CloudTrail delegated "
                "administrators, the maximum.",
            )
        await self._put(organization, [*accounts, account], version)

    async def deregister(self, caller: str, account: str) -> None:
        """Removes a delegated administrator, even if it has left the organization.

        Raises:
            CloudTrailError: as `register`, and `AccountNotRegisteredException`.
        """
        organization = await self._of_management(caller)
        accounts, version = await self._delegates(organization)
        if account not in accounts:
            if account not in organization.accounts:
                raise _no_member(account)
            raise CloudTrailError(
                "AccountNotRegisteredException",
                f"Account {account} is not registered as a CloudTrail delegated administrator.",
            )
        accounts.remove(account)
        await self._put(organization, accounts, version)

    async def _of(self, account: str) -> Organization:
        """Returns the organization that an account is in, with all features."""
        organization = await self.current()
        if organization is None or account not in organization.accounts:
            raise CloudTrailError(
                "OrganizationsNotInUseException",
                f"Account {account} is not in an organization of AWS Organizations.",
            )
        if not organization.has_all_features:
            raise CloudTrailError(
                "OrganizationNotInAllFeaturesModeException",
                f"Organization {organization.id} does not have all features enabled.",
            )
        return organization

    async def _of_management(self, caller: str) -> Organization:
        organization = await self._of(caller)
        if caller != organization.management_account:
            raise CloudTrailError(
                "NotOrganizationManagementAccountException",
                f"Account {caller} is not the management account of the organization.",
            )
        return organization

    async def _put(self, organization: Organization, accounts: list[str], version: int) -> None:
        put = Put(_KIND, organization.id, {"accounts": accounts}, expected=version)
        try:
            await self._control.apply([put])
        except Conflict as error:
            raise CloudTrailError(
                "ConflictException",
                "The delegated administrators were changed by another request; try again.",
            ) from error


def _no_member(account: str) -> CloudTrailError:
    return CloudTrailError(
        "AccountNotFoundException", f"Account {account} is not in the organization."
    )


log = logging.getLogger(__name__)


class TrailMembers:
    """Keeps the accounts of organization trails up to date.

    The accounts are stored with the trail, so that its events do not depend on whether the
    organization can be described. Without its organization, a trail keeps the last accounts.
    """

    def __init__(
        self, registry: TrailRegistry, source: Organizations, journal: Journal, clock: Clock
    ) -> None:
        self._registry = registry
        self._source = source
        self._journal = journal
        self._clock = clock

    async def update(self) -> None:
        """Gives each organization trail the current accounts, from the journal's end on.

        Raises:
            ServiceError: the organization's source fails and was never known.
        """
        trails = [stored.trail for stored in await self._registry.all()]
        if not any(trail.organization for trail in trails):
            return
        organization = await self._source.current()
        current = tuple(sorted(organization.accounts)) if organization else ()
        for trail in trails:
            if not trail.organization:
                continue
            if organization is None or organization.id != trail.organization:
                about = {"trail": trail.arn, "organization": trail.organization}
                log.warning("a trail's organization is not known; its accounts stay", extra=about)
            elif trail.accounts != current:
                update = partial(self._update, after=await self._journal.newest(), accounts=current)
                await self._registry.amend(trail.uid, update)
                added, removed = (
                    set(current) - set(trail.accounts),
                    set(trail.accounts) - set(current),
                )
                extra = {"trail": trail.arn, "joined": sorted(added), "left": sorted(removed)}
                log.info("the accounts of an organization trail have changed", extra=extra)

    def _update(self, trail: Trail, after: int, accounts: tuple[str, ...]) -> Trail:
        if not trail.organization or trail.deleted:
            return trail
        return trail.with_accounts(accounts, after, stored_time(self._clock.now()))
