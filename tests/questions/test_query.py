"""SQL as a question."""

from __future__ import annotations

import pytest

from opentrail.core.errors import CloudTrailError, NoHistory
from opentrail.questions.query import QueryPage, RunQuery
from opentrail.questions.question import Asked, read
from tests.api.caller import Api
from tests.factories import MOMENT
from tests.fakes import asynchronous


def asked(api: Api, caller: str = "ada", accounts: tuple[str, ...] | None = None) -> Asked:
    return Asked(
        api.history, api.world.control, MOMENT, 1_000, [], api.services.queries, caller, accounts
    )


async def answer(api: Api, caller: str = "ada", **given: object) -> QueryPage:
    question = read(RunQuery, given)
    assert isinstance(question, RunQuery)
    return await question.answer(asked(api, caller))


@asynchronous
async def test_answer_has_the_first_rows() -> None:
    page = await answer(Api(), statement="SELECT n FROM event_history", limit=2)
    assert (page["status"], page["rows"], page["total"]) == ("FINISHED", [["1"], ["2"]], 3)
    assert page["columns"] == [{"name": "n", "type": "integer"}]
    assert (page["eventsScanned"], page["bytesScanned"]) == (10, 1_000)


@asynchronous
async def test_more_rows_are_read_by_the_id() -> None:
    api = Api()
    first = await answer(api, statement="SELECT n", limit=1)
    more = await answer(api, queryId=first["queryId"], first=1)
    assert more["rows"] == [["2"], ["3"]]
    with pytest.raises(CloudTrailError, match="does not exist"):
        await answer(api, "eve", queryId=first["queryId"])


@pytest.mark.parametrize("given", [{}, {"statement": "SELECT 1", "queryId": "x"}])
@asynchronous
async def test_either_statement_or_id_is_needed(given: dict[str, str]) -> None:
    with pytest.raises(CloudTrailError, match="statement or queryId"):
        await answer(Api(), **given)


@asynchronous
async def test_query_sees_the_callers_accounts() -> None:
    api = Api()
    question = read(RunQuery, {"statement": "SELECT n"})
    await question.answer(asked(api, "ada", ("111111111111",)))
    queries = api.services.queries
    assert queries is not None
    assert (await queries.of("user ada"))[0].accounts == ["111111111111"]


@asynchronous
async def test_server_without_history_runs_no_sql() -> None:
    api = Api()
    question = read(RunQuery, {"statement": "SELECT n"})
    with pytest.raises(NoHistory):
        await question.answer(Asked(api.history, api.world.control, MOMENT, 10, []))
