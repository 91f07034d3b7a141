"""Messages between the server and its processes for history, imports and Insights."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from opentrail.adapters.ipc.link import IpcRequest
from opentrail.core.event import Entry
from opentrail.ports.event_store import EventStore, Excess, SharedFile

#: First and last position of a range.
Range = tuple[int, int]


class HistoryState(msgspec.Struct, frozen=True):
    """Progress and error of the event store.

    `position` and `imported` are the last recorded and imported events that lookups see, `sealed`
    is the last position in a sealed file.
    """

    position: int = 0
    imported: int = 0
    sealed: int = 0
    files: int = 0
    #: Lost ranges of positions, and of imported events.
    missing: tuple[Range, ...] = ()
    lost_imports: tuple[Range, ...] = ()
    #: Names of files set aside.
    damaged: tuple[str, ...] = ()
    #: Events in sealed files, and bytes of these files.
    sealed_events: int = 0
    sealed_bytes: int = 0
    #: Every sealed file has been compared with its hash since the start.
    is_checked: bool = False


# Requests to the history process

#: Methods of the event store, called unchanged; slow calls are cancelled.
READS = (
    EventStore.lookup,
    EventStore.count,
    EventStore.histogram,
    EventStore.top_values,
    EventStore.overview,
    EventStore.list_principals,
    EventStore.count_calls,
    EventStore.count_principals,
    EventStore.count_values,
    EventStore.count_key,
)


class OpenStore(IpcRequest[HistoryState], frozen=True):
    """Open the store; `last_import` is the number of the last known imported event."""

    last_import: int
    #: Files in S3 read through the cache.
    shared: tuple[SharedFile, ...] = ()
    #: Names of files of event data stores in S3, whose blocks the cache keeps.
    store_files: tuple[str, ...] = ()


class UseSharedFiles(IpcRequest[HistoryState], frozen=True):
    """Read these files in S3 in place of others, and of the server's files of their range."""

    files: tuple[SharedFile, ...]


class KeepStoreFiles(IpcRequest[None], frozen=True):
    """Delete the blocks of all files of event data stores but these."""

    names: tuple[str, ...]


class FetchBlock(IpcRequest[None], frozen=True):
    """Download a block of a file in S3 to the cache, where its index is."""

    name: str
    number: int


class AddEntries(IpcRequest[HistoryState], frozen=True):
    """Make entries visible to lookups."""

    entries: list[Entry]


class ReadSealed(IpcRequest[list[Entry]], frozen=True):
    """Read up to `limit` sealed entries with `after < position <= until`."""

    after: int
    limit: int
    until: int


class ReadRecords(IpcRequest[list[tuple[int, bytes]]], frozen=True):
    """Read position and record of up to `limit` events with `after < position <= until`."""

    after: int
    limit: int
    until: int


class ForgetLost(IpcRequest[HistoryState], frozen=True):
    """Drop a range that the journal has lost."""

    first: int
    last: int


class FindSealed(IpcRequest[int | None], frozen=True):
    """Find the position of the sealed record with an event id."""

    event_id: str


class ShowImports(IpcRequest[HistoryState], frozen=True):
    """Make imported events visible."""


class Expire(IpcRequest[int], frozen=True):
    """Delete expired events, as `DuckdbEvents.expire` says; returns their number."""

    recorded_before: datetime
    last_needed: int
    data_before: datetime | None = None
    excess: Excess | None = None


class GetState(IpcRequest[HistoryState], frozen=True):
    """Return the state."""


class CloseStore(IpcRequest[None], frozen=True):
    """Close the store and end."""


# Requests of the history process to the server


class RepairJournal(IpcRequest[None], frozen=True):
    """Repair damage to the journal between two positions."""

    first: int
    last: int


class ReadSharedFile(IpcRequest[bytes], frozen=True):
    """Read bytes of a file in S3."""

    name: str
    first: int
    length: int


# Requests to an import worker


class InvalidBatch(msgspec.Struct, frozen=True, tag=True):
    """The batch is invalid: an error of the API."""

    code: str
    message: str


class Stage(IpcRequest[InvalidBatch | None], frozen=True):
    """Read the files of a batch, which is itself a file."""

    batch: str


class StagedBytes(IpcRequest[int], frozen=True):
    """Return the number of bytes read of the batch being staged."""


class Commit(IpcRequest[list[dict[str, Any]]], frozen=True):
    """Write the events of a staged batch; returns a report for each file.

    `last` is the number of the last imported event.
    """

    batch: str
    last: int


class StopWatch(IpcRequest[None], frozen=True):
    """Write a snapshot of the Insights state, and exit."""
