"""The wing of organizations: trails of all their accounts, and who may manage them."""

from __future__ import annotations

import asyncio

from opentrail.adapters.aws.organization_sources import (
    ConfiguredOrganizations,
    UpstreamOrganizations,
)
from opentrail.app.wing import Core, Wing
from opentrail.core.logs import attempt
from opentrail.core.organization import Organization
from opentrail.ports.services import Organizations
from opentrail.trails.organization_trails import OrganizationAdministration, TrailMembers
from opentrail.trails.registry import TrailRegistry

#: Seconds between two checks of the organization's accounts.
_MEMBERS_EVERY = 60.0


def start(core: Core) -> Wing:
    """Keeps the accounts of organization trails up to date."""
    source = _source(core)
    engines = core.engines
    trails = TrailRegistry(core.worker_control)
    members = TrailMembers(trails, source, engines.journal, engines.clock)

    async def update_members() -> None:
        while True:
            await attempt(members.update(), "the organization is not known")
            await asyncio.sleep(_MEMBERS_EVERY)

    return Wing(
        organizations=OrganizationAdministration(source, engines.control),
        followers=(update_members,),
    )


def _source(core: Core) -> Organizations:
    described = core.settings.organization
    if described == "upstream":
        return UpstreamOrganizations(core.clients)
    return ConfiguredOrganizations(described if isinstance(described, Organization) else None)
