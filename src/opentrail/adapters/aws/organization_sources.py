"""The organization that the configuration, or an upstream's AWS Organizations, describes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from opentrail.adapters.aws.sink_services import ServiceClients, member
from opentrail.core.errors import ServiceError, UsageError
from opentrail.core.organization import Organization, read_organization

log = logging.getLogger(__name__)

#: AWS Organizations has its only endpoint there.
_REGION = "us-east-1"


class UpstreamOrganizations:
    """`Organizations` on the upstream: DescribeOrganization and ListAccounts.

    The upstream's credentials must be of the management account or of a delegated administrator of
    any service, because only these may list accounts.
    """

    def __init__(self, clients: ServiceClients) -> None:
        self._clients = clients
        self._known: Organization | None = None
        self._has_answered = False

    async def current(self) -> Organization | None:
        """Returns the organization as the upstream describes it now; while it fails, as before."""
        try:
            self._known = await self._clients.call(
                "organizations", _REGION, _describe, "the organization"
            )
        except ServiceError as error:
            if not self._has_answered:
                raise
            log.warning("the upstream does not describe its organization: %s", error)
        self._has_answered = True
        return self._known


def _describe(client: Any) -> Organization | None:
    try:
        described = member(client.describe_organization(), "Organization")
    except client.exceptions.AWSOrganizationsNotInUseException:
        return None
    pages = client.get_paginator("list_accounts").paginate()
    accounts = {member(item, "Id") for page in pages for item in member(page, "Accounts")}
    table = {
        "id": member(described, "Id"),
        "management_account": member(described, "MasterAccountId"),
        "accounts": list(accounts),
    }
    try:
        organization = read_organization(table, "the answer")
    except UsageError as error:
        raise ServiceError("UnexpectedAnswer", str(error)) from error
    return replace(organization, has_all_features=described.get("FeatureSet", "ALL") == "ALL")


@dataclass(frozen=True, slots=True)
class ConfiguredOrganizations:
    """`Organizations` of the settings; None without any."""

    organization: Organization | None = None

    async def current(self) -> Organization | None:
        """Returns the organization."""
        return self.organization
