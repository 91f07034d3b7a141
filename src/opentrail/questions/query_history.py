"""The SQL queries that a user has run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from opentrail.core.errors import NoHistory
from opentrail.core.event import format_time
from opentrail.core.facts import Time
from opentrail.ports.queries import QueryStatus
from opentrail.questions.query import owner_of
from opentrail.questions.question import Asked, Question


class QuerySummary(msgspec.Struct, frozen=True):
    """A query, without its rows."""

    #: With it, `query` returns the rows.
    queryId: str
    statement: str
    status: QueryStatus
    started: Time
    #: Seconds that it took; null while it runs.
    seconds: float | None
    #: Rows of the result; null without one.
    rows: int | None
    #: Why it failed.
    error: str | None


class QueryHistory(msgspec.Struct, frozen=True):
    """Queries, newest first."""

    queries: list[QuerySummary]


class ListQueries(Question, frozen=True, kw_only=True):
    """Returns your SQL queries of the last seven days, newest first."""

    role: ClassVar = "viewer"
    purpose: ClassVar = "list your SQL queries of the last seven days"

    limit: Annotated[int, Meta(ge=1, le=1_000, description="maximum number of queries")] = 100

    async def answer(self, asked: Asked) -> QueryHistory:
        """Returns the queries that the caller has started."""
        if asked.queries is None:
            raise NoHistory
        found = await asked.queries.of(owner_of(asked))
        return QueryHistory(
            [
                QuerySummary(
                    query.id,
                    query.statement,
                    query.status,
                    format_time(datetime.fromtimestamp(query.created, UTC)),
                    None if query.ended is None else round(query.ended - query.created, 3),
                    query.statistics.rows if query.statistics else None,
                    query.error,
                )
                for query in found[: self.limit]
            ]
        )
