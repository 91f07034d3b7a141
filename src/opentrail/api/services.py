"""The features that the routes of all APIs use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from opentrail.core.errors import NoHistory, Unsupported
from opentrail.core.organization import Organization
from opentrail.core.trail import Trail
from opentrail.history.event_history import History
from opentrail.lake.channel_registry import Channels
from opentrail.lake.queries import Queries
from opentrail.lake.store_imports import StoreImports
from opentrail.lake.store_keeping import StoreKeeper
from opentrail.lake.store_registry import Stores
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore
from opentrail.ports.journal import Journal
from opentrail.ports.signer import Signer
from opentrail.trails.delivery_rounds import Deliveries
from opentrail.trails.destinations import Destinations
from opentrail.trails.registry import TrailRegistry


class TrailManagement(Protocol):
    """Manages the delegated administrators of organization trails."""

    async def managed_by(self, account: str) -> Organization:
        """Return the organization whose trails an account may create.

        Raises:
            CloudTrailError: the account may not create organization trails.
        """
        ...

    async def administrates(self, account: str, trail: Trail) -> bool:
        """Return whether an account is a delegated administrator of a trail's organization."""
        ...

    async def register(self, caller: str, account: str) -> None:
        """Make a member account a delegated administrator.

        Raises:
            CloudTrailError: the caller may not register one, or the account cannot be one.
        """
        ...

    async def deregister(self, caller: str, account: str) -> None:
        """Remove a delegated administrator.

        Raises:
            CloudTrailError: the caller may not remove one, or the account is not one.
        """
        ...


class NoOrganizations:
    """A server without organizations."""

    async def managed_by(self, account: str) -> Organization:
        """Refuses: there are none."""
        raise Unsupported("organizations on this server")

    async def administrates(self, account: str, trail: Trail) -> bool:
        """Returns False."""
        return False

    async def register(self, caller: str, account: str) -> None:
        """Refuses: there are none."""
        raise Unsupported("organizations on this server")

    async def deregister(self, caller: str, account: str) -> None:
        """Refuses: there are none."""
        raise Unsupported("organizations on this server")


@dataclass(frozen=True, slots=True)
class Services:
    """The features that operations use."""

    #: None: this server has no event history.
    kept_history: History | None
    trails: TrailRegistry
    deliveries: Deliveries
    control: ControlStore
    journal: Journal
    destinations: Destinations
    signer: Signer
    clock: Clock
    organizations: TrailManagement
    #: Runs SQL over event history; None: this server does not.
    queries: Queries | None = None
    #: The created event data stores; None: this server has none.
    stores: Stores | None = None
    #: Writes the files of these stores.
    store_keeper: StoreKeeper | None = None
    #: Imports into these stores.
    imports: StoreImports | None = None
    #: The channels to these stores.
    channels: Channels | None = None

    @property
    def history(self) -> History:
        """Event history.

        Raises:
            NoHistory: this server has no event history.
        """
        if self.kept_history is None:
            raise NoHistory
        return self.kept_history

    @property
    def sql(self) -> Queries:
        """The queries of this server, or of its cluster.

        Raises:
            NoHistory: this server has no event history.
        """
        if self.queries is None:
            raise NoHistory
        return self.queries

    @property
    def created_stores(self) -> Stores:
        """The created event data stores.

        Raises:
            Unsupported: this server has none.
        """
        if self.stores is None:
            raise Unsupported("event data stores on a cluster without --files")
        return self.stores

    @property
    def store_imports(self) -> StoreImports:
        """The imports into created event data stores.

        Raises:
            Unsupported: this server has no such stores.
        """
        if self.imports is None:
            raise Unsupported("event data stores on a cluster without --files")
        return self.imports

    @property
    def created_channels(self) -> Channels:
        """The channels.

        Raises:
            Unsupported: this server has none.
        """
        if self.channels is None:
            raise Unsupported("event data stores on a cluster without --files")
        return self.channels

    @property
    def store_problems(self) -> list[str]:
        """The problems of the created event data stores, for `/health`."""
        parts = [part for part in (self.store_keeper, self.imports) if part is not None]
        return [problem for part in parts for problem in part.problems]
