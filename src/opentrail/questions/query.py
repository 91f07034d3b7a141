"""SQL over event history."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypedDict

from msgspec import Meta

from opentrail.core.errors import CloudTrailError, NoHistory
from opentrail.lake.store_registry import EVERY_REGION
from opentrail.ports.queries import QueryStatus
from opentrail.questions.question import Asked, Question

#: Maximum seconds for which a request waits for the end of a query.
_MAX_WAIT = 20


Statement = Annotated[
    str,
    Meta(
        max_length=10_000,
        description="a SELECT statement in Trino's dialect; the table is event_history",
    ),
]
QueryId = Annotated[str, Meta(max_length=36, description="a query that was started before")]


class QueryColumn(TypedDict):
    """A column of a result."""

    name: str
    #: Trino's type, such as `varchar` or `timestamp(3)`.
    type: str


class QueryPage(TypedDict):
    """The state of a query, and rows of its result."""

    queryId: str
    status: QueryStatus
    #: Percent that are done while it runs; null if they are not known.
    progress: int | None
    #: Why it failed.
    error: str | None
    columns: list[QueryColumn]
    #: Rows from `first` on: a string per column, null for NULL.
    rows: list[list[str | None]]
    #: Rows of the whole result.
    total: int
    #: Visible events of the tables that it read, and the bytes of their files and records.
    eventsScanned: int
    bytesScanned: int
    #: A description of each range that event history lacks.
    missing: list[str]


class RunQuery(Question, frozen=True, kw_only=True):
    """Runs a SELECT statement over the table `event_history`, or returns more of a result.

    It waits up to `wait` seconds. If `status` is RUNNING then, ask again with `queryId`.
    """

    role: ClassVar = "viewer"
    purpose: ClassVar = "query event history with SQL"
    body: ClassVar = '{"statement": "SELECT eventName, count(*) FROM event_history GROUP BY 1"}'

    statement: Statement | None = None
    queryId: QueryId | None = None
    first: Annotated[int, Meta(ge=0, le=1 << 40, description="first row to return")] = 0
    limit: Annotated[int, Meta(ge=1, le=1_000, description="maximum number of rows")] = 1_000
    wait: Annotated[int, Meta(ge=0, le=_MAX_WAIT, description="seconds to wait")] = _MAX_WAIT
    cancel: Annotated[bool, Meta(description="end the query")] = False

    async def answer(self, asked: Asked) -> QueryPage:
        """Starts the query, or finds it, and waits for its end."""
        queries = asked.queries
        if queries is None:
            raise NoHistory
        if (self.statement is None) == (self.queryId is None):
            message = "statement or queryId must be given, and not both"
            raise CloudTrailError("InvalidParameterException", message)
        if self.queryId is not None:
            query = await queries.find(self.queryId, owner_of(asked))
            if self.cancel:
                query = await queries.cancel(query)
        else:
            query = await queries.start(
                self.statement or "", owner_of(asked), asked.accounts, region=EVERY_REGION
            )
        query = await queries.wait(query, self.wait)
        statistics = query.statistics
        return {
            "queryId": query.id,
            "status": query.status,
            "progress": query.progress,
            "error": query.error,
            "columns": [{"name": name, "type": kind} for name, kind in query.columns],
            "rows": await queries.rows(query, self.first, min(self.limit, asked.max_events)),
            "total": statistics.rows if statistics else 0,
            "eventsScanned": statistics.events if statistics else 0,
            "bytesScanned": statistics.bytes if statistics else 0,
            "missing": asked.missing,
        }


def owner_of(asked: Asked) -> str:
    """Returns the owner of a user's queries: never an account's, whatever the user's name."""
    return f"user {asked.caller}"
