"""An organization that the configuration describes."""

from __future__ import annotations

from dataclasses import dataclass

from opentrail.core.organization import Organization


@dataclass(frozen=True, slots=True)
class ConfiguredOrganizations:
    """`Organizations` of the settings; None without any."""

    organization: Organization | None = None

    async def current(self) -> Organization | None:
        """Returns the organization."""
        return self.organization
