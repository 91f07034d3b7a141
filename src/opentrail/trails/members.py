"""Organization trails get the events of current member accounts only."""

from __future__ import annotations

import logging
from functools import partial

from opentrail.core.trail import Trail, stored_time
from opentrail.ports.clock import Clock
from opentrail.ports.journal import Journal
from opentrail.ports.services import Organizations
from opentrail.trails.registry import TrailRegistry

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
