"""The files of created event data stores."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from opentrail.core.event_data_store import EventDataStore


class StoreFiles(Protocol):
    """Files with the events that stores select from the journal, each event once."""

    async def covered(self, store: EventDataStore) -> int:
        """Return the last position whose events are durable in a store's files.

        Raises:
            StorageFailed: they cannot be read.
        """
        ...

    async def tend(self, store: EventDataStore, until: int, since: datetime) -> None:
        """Return once a store's files are durable up to a position; delete older events.

        Raises:
            StorageFailed: they are not; a later attempt may succeed.
        """
        ...

    async def remove(self, store: EventDataStore) -> None:
        """Return once a store's files are deleted.

        Raises:
            StorageFailed: some are not; a later attempt may succeed.
        """
        ...
