"""All wings of a server, one line for each; the small ones are here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from opentrail.adapters.aws.services import (
    ConfiguredOrganizations,
    UpstreamOrganizations,
)
from opentrail.api.services import Services
from opentrail.api.v1.questions import AgentQuestions
from opentrail.app.wing import Core, Missing, StartWing, Wing
from opentrail.app.wings import console, detections, imports, insights, sinks
from opentrail.core.logs import attempt
from opentrail.core.organization import Organization
from opentrail.ports.services import Organizations
from opentrail.trails.organization_trails import OrganizationAdministration, TrailMembers
from opentrail.trails.registry import TrailRegistry

#: Seconds between two checks of the organization's accounts.
_MEMBERS_EVERY = 60.0


def organizations(core: Core) -> Wing:
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


def agents(core: Core) -> Wing:
    """Appends questions to the journal before the server answers them."""
    engines = core.engines

    def groups(_services: Services, _missing: Missing) -> Sequence[object]:
        return (AgentQuestions(engines.journal, engines.clock, core.account),)

    return Wing(groups=groups)


WINGS: tuple[StartWing, ...] = (
    imports.start,
    organizations,
    sinks.start,
    insights.start,
    detections.start,
    agents,
    console.start,
)
