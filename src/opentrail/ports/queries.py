"""Running SQL statements over events, keeping their results, and the files of stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

import msgspec

from opentrail.core.event_data_store import EventDataStore

QueryStatus = Literal["QUEUED", "RUNNING", "FINISHED", "FAILED", "CANCELLED", "TIMED_OUT"]
DeliveryStatus = Literal["PENDING", "SUCCESS", "FAILED"]


class QueryStatistics(msgspec.Struct, frozen=True):
    """The statistics of a query.

    Attributes:
        rows: rows of the result.
        events: visible events of the tables that it read.
        bytes: bytes of the files and records that it read.
        sha256: of the file with its rows; "" if releases before 0.4 have written it.
    """

    rows: int
    events: int
    bytes: int
    sha256: str = ""


class ResultPlace(msgspec.Struct, frozen=True):
    """Where in S3 the result of a query goes.

    Attributes:
        uri: `s3://BUCKET` or `s3://BUCKET/PREFIX`, as the caller gave it.
        region: the Region that the sign file names; "" for Athena's clients, which get one CSV
            file without a signature.
        status: the progress of the delivery.
    """

    uri: str
    region: str = ""
    status: DeliveryStatus = "PENDING"

    @property
    def is_signed(self) -> bool:
        """Whether the result is delivered as CloudTrail Lake does."""
        return self.region != ""


class StoredQuery(msgspec.Struct, frozen=True):
    """A query and its state.

    Attributes:
        accounts: the accounts whose events it sees; None: all.
        owner: the account that started it, or the console user.
        created, ended: seconds since 1970.
        columns: name and Trino type of each column.
        place: where the result is delivered.
        server: the installation that runs it, of the servers that share queries.
        progress: percent of the statement that is done; None if its server does not know.
        reads: the ARNs of the stores that it reads; None for a query of a console user, and of
            releases before 0.4.
    """

    id: str
    statement: str
    owner: str
    accounts: list[str] | None
    status: QueryStatus
    created: float
    ended: float | None = None
    error: str | None = None
    columns: list[tuple[str, str]] = []
    statistics: QueryStatistics | None = None
    place: ResultPlace | None = None
    server: str = ""
    progress: int | None = None
    reads: list[str] | None = None


def ignore_progress(_percent: int) -> None:
    """Does nothing."""


#: A row of a result: a string per column, None for NULL.
Row = list[str | None]


class QueryTables(NamedTuple):
    """The tables that a statement may read.

    Attributes:
        history: names of the store `event_history`.
        stores: created stores, by the names that a statement may have for them, in lower case.
        until: the last position whose events they have.
    """

    history: Sequence[str]
    stores: Mapping[str, EventDataStore] = {}
    until: int = 0


class QueryEngine(Protocol):
    """Runs statements over event history and event data stores."""

    async def run(
        self,
        query: StoredQuery,
        tables: QueryTables,
        translated: Callable[[list[tuple[str, str]]], None],
        progressed: Callable[[int], None] = ignore_progress,
    ) -> QueryStatistics:
        """Run a statement to its end, and store its rows; cancelling ends it within a second.

        Args:
            query: the query.
            tables: the tables that it may read.
            translated: called with the columns once the statement is known to be valid.
            progressed: called with the percent that are done.

        Raises:
            StatementRefused: the statement is not valid; `StoreInactive` for a deleted store.
            QueryFailed: it failed while it ran.
        """
        ...


class QueryStore(Protocol):
    """Keeps queries and their results.

    Attributes:
        server: the id of this server in its cluster; "" outside a cluster.
        max_bytes: maximum bytes of all results.
    """

    server: str
    max_bytes: int

    async def open(self) -> list[StoredQuery]:
        """Prepare the store at the server's start; return the stored queries, oldest first."""
        ...

    async def all(self) -> list[StoredQuery]:
        """Return the stored queries, oldest first."""
        ...

    async def get(self, query_id: str) -> StoredQuery | None:
        """Return a stored query."""
        ...

    async def is_running(self, server: str) -> bool:
        """Return whether a server that ran a query still runs."""
        ...

    async def put(self, query: StoredQuery) -> None:
        """Store a query durably."""
        ...

    async def publish(self, query_id: str) -> None:
        """Return once all servers can read a result that this server has written.

        Raises:
            QueryFailed: it is too large.
        """
        ...

    async def rows(self, query: StoredQuery, first: int, limit: int) -> list[Row]:
        """Return rows of a result, from a row number on.

        Raises:
            QueryFailed: the result is missing or damaged.
        """
        ...

    async def size(self) -> int:
        """Return the bytes of all results."""
        ...

    async def delete(self, query_id: str) -> int:
        """Delete a query and its result; return the bytes of the result."""
        ...


class ResultDelivery(Protocol):
    """Writes results to S3."""

    async def verify(self, uri: str, store_arn: str, may_write: bool | None = None) -> None:
        """Return if a result may be written under a URI.

        Args:
            uri: `s3://BUCKET` or `s3://BUCKET/PREFIX`.
            store_arn: the store that the bucket's policy names.
            may_write: whether policies allow the caller to write there itself; None if policies
                do not decide on callers.

        Raises:
            CloudTrailError: AWS's error: the URI is wrong, or its bucket is missing or refuses.
        """
        ...

    async def deliver(self, query: StoredQuery, place: ResultPlace, store: QueryStore) -> None:
        """Write the result of a finished query; repeating it writes the same objects.

        Raises:
            QueryFailed: the result is too large for its form.
            ObjectStoreError: the store failed.
            SigningKeyUnavailable: no key can sign it.
        """
        ...


class LogFile(NamedTuple):
    """A log file in S3: its URI and its bytes."""

    name: str
    content: bytes


class LogFileOutcome(msgspec.Struct, frozen=True):
    """What a store has of a log file.

    Attributes:
        events: its events of the store's account and the copied range of time.
        error, message: why other events of the file are missing; "" if none are.
    """

    events: int
    error: str = ""
    message: str = ""


class StoreFiles(Protocol):
    """Files with the events that stores select from the journal, each event once.

    Attributes:
        takes_log_files: whether `add` is supported.
    """

    takes_log_files: bool

    @property
    def problems(self) -> Sequence[str]:
        """Missing and damaged files, with remedies."""
        ...

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

    def table(self, store: EventDataStore) -> str:
        """Return the address of a store's Iceberg table: `file:///…` or `s3://…`."""
        ...

    async def publish(self, store: EventDataStore) -> None:
        """Return once a store's Iceberg table has its files.

        Raises:
            StorageFailed: it has not; a later attempt may succeed.
        """
        ...

    async def unpublish(self, store: EventDataStore) -> None:
        """Return once a store has no Iceberg table.

        Raises:
            StorageFailed: it still has; a later attempt may succeed.
        """
        ...

    async def add(
        self,
        store: EventDataStore,
        until: int,
        files: Sequence[LogFile],
        between: tuple[datetime, datetime],
    ) -> list[LogFileOutcome]:
        """Return once the events of log files are durable in a store's files, each event once.

        Args:
            store: the store.
            until: its own files are first written up to this position of the journal, so that an
                event in them is not added again.
            files: log files of CloudTrail; only events of the store's account are added.
            between: the first and last time of these events.

        Raises:
            StorageFailed: they are not; repeating the call adds no event twice.
            Unsupported: this place does not take log files.
        """
        ...

    async def remove(self, store: EventDataStore) -> None:
        """Return once a store's files are deleted.

        Raises:
            StorageFailed: some are not; a later attempt may succeed.
        """
        ...
