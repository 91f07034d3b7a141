"""A control store that only the holder of a lease changes."""

from __future__ import annotations

from collections.abc import Sequence

from opentrail.adapters.control_store import SqlControl
from opentrail.adapters.databases import Transaction
from opentrail.adapters.postgres.leases import PostgresLeases
from opentrail.core.errors import LeaseLost
from opentrail.ports.control import Lease, Stored, StoreWrite


class FencedControl:
    """A `ControlStore` whose changes are made in one transaction with the check of a lease.

    Args:
        control: the store, in the database of the leases.
        leases: the leases.
    """

    def __init__(self, control: SqlControl, leases: PostgresLeases) -> None:
        self._control = control
        self._leases = leases
        #: The lease, while this process takes itself for its holder.
        self.lease: Lease | None = None

    async def get(self, kind: str, key: str) -> Stored | None:
        """Returns the document, or None."""
        return await self._control.get(kind, key)

    async def get_each(self, kinds: Sequence[str], key: str) -> dict[str, Stored]:
        """Returns the documents with this key that there are, by kind."""
        return await self._control.get_each(kinds, key)

    async def scan(self, kind: str, prefix: str = "") -> list[Stored]:
        """Returns the documents of a kind whose keys start with `prefix`, by key."""
        return await self._control.scan(kind, prefix)

    async def revisions(self, kinds: Sequence[str]) -> dict[str, str]:
        """Returns a text for each kind: another one after a document of it was changed."""
        return await self._control.revisions(kinds)

    async def apply(self, changes: Sequence[StoreWrite]) -> None:
        """Returns only once all changes are durable; on an error none is made.

        Raises:
            LeaseLost: this process does not hold the lease.
        """
        lease = self.lease
        if lease is None:
            raise LeaseLost("this server does not hold the lease")

        def fence(transaction: Transaction) -> None:
            self._leases.fence(transaction, lease)

        await self._control.apply(changes, fence)

    async def close(self) -> None:
        """Does nothing: the store stays open."""
