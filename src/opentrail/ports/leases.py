"""Leases: what only one process of several may do at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of a holder to do something; a later holder's `epoch` is higher."""

    name: str
    #: Unique to a process and its start.
    holder: str
    epoch: int


class Leases(Protocol):
    """Leases that expire; an effect and its fence, the check of the epoch, are one transaction.

    A holder that was paused for longer than its lease still takes itself for the holder when it
    wakes up. So each of its transactions checks the epoch first, with a lock that lasts until the
    commit: it changes nothing once another process has acquired the lease, and no other process
    can acquire it before the commit.
    """

    async def acquire(self, name: str, holder: str) -> Lease | None:
        """Return the lease with a new epoch; None if another holder has it.

        Raises:
            StorageFailed: it is not known whether it was acquired; a later attempt may succeed.
        """
        ...

    async def renew(self, lease: Lease) -> bool:
        """Extend a lease; return False if another process has acquired it.

        Raises:
            StorageFailed: it is not known whether it was extended.
        """
        ...

    async def release(self, lease: Lease) -> None:
        """End a lease, so that another process can acquire it immediately.

        Raises:
            StorageFailed: it may last until it expires.
        """
        ...
