"""Entries that some part of the server still needs, which therefore must not be deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.app.cluster.site import Site
from opentrail.identity.known_identities import Identities
from opentrail.lake.store_keeping import StoreKeeper
from opentrail.ports.follow import FollowedPositions
from opentrail.ports.journal import Hold, TrimmedJournal, first_needed, first_not_lost
from opentrail.trails.delivery_rounds import Deliveries

#: Maximum holders that a problem names.
_MAX_NAMED_HOLDERS = 3


@dataclass(frozen=True, slots=True)
class HeldEntries:
    """The needed entries as of a moment; later, the same parts need no earlier ones."""

    holds: Sequence[Hold]
    #: The last position in the journal, and the last one in verified files of event history.
    head: int
    sealed: int

    @property
    def expirable(self) -> int:
        """The last position that may expire from event history."""
        return first_needed([hold for hold in self.holds if not hold.reads_journal], self.head)

    @property
    def trimmable(self) -> int:
        """The last position that the journal may trim: event history has it, and each store."""
        return first_needed([hold for hold in self.holds if hold.reads_journal], self.sealed)

    def holders(self) -> list[str]:
        """Describes who needs events in verified files, and thus takes space; the first few."""
        holds = sorted(self.holds, key=attrgetter("after"))
        return [
            f"{hold.holder} needs {self.head - hold.after:,} of them"
            for hold in holds[:_MAX_NAMED_HOLDERS]
            if hold.after < self.sealed
        ]


class Retention:
    """Asks all parts that need entries; nothing else decides about deletion.

    Args:
        journal: is trimmed.
        store: has the verified files of event history.
        identities: need entries until they are stored.
        deliveries: need entries until they are in log files and log groups.
        site: knows the needs of a cluster's other servers.
        followers: need entries until they have processed them.
        stores: need the journal until their files have its events.
    """

    def __init__(
        self,
        journal: TrimmedJournal,
        store: IpcEventStore,
        identities: Identities,
        deliveries: Deliveries,
        site: Site,
        followers: FollowedPositions | None = None,
        stores: StoreKeeper | None = None,
    ) -> None:
        self._journal = journal
        self._store = store
        self._identities = identities
        self._deliveries = deliveries
        self._site = site
        self._followers = followers or FollowedPositions()
        self._stores = stores

    async def held(self) -> HeldEntries:
        """Returns the entries that are needed now.

        Raises:
            OpentrailError: the needs of a part are unknown: nothing may be deleted.
        """
        # The head first: what begins later needs only later entries.
        head, identities = self._journal.head, self._identities
        known = min(await identities.cursor(), await identities.stored_cursor())
        holds = [Hold("the list of identities", known)]
        holds += await self._deliveries.holds()
        holds += await self._site.holds()
        holds += await self._stores.holds() if self._stores else []
        holds += self._followers.holds()
        return HeldEntries(holds, head, self.sealed())

    def sealed(self) -> int:
        """Returns the last position in verified files; 0 if the journal must rebuild some."""
        state, begin, lost = self._store.state, self._journal.first, self._journal.lost
        is_whole = state.is_checked and all(
            first_not_lost(lost, max(first, begin), last) is None for first, last in state.missing
        )
        return state.sealed if is_whole else 0
