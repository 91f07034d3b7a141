"""The SQL queries of a user."""

from __future__ import annotations

import pytest

from opentrail.core.errors import NoHistory
from opentrail.questions.query_history import ListQueries
from opentrail.questions.question import Asked
from tests.api.caller import Api
from tests.factories import MOMENT
from tests.fakes import asynchronous
from tests.questions.test_query import answer, asked


@asynchronous
async def test_queries_of_the_caller_are_listed_newest_first() -> None:
    api = Api()
    first = await answer(api, statement="SELECT n")
    api.world.clock.advance(60)
    failed = await answer(api, statement="fails")
    running = await answer(api, statement="slow", wait=0)
    await answer(api, "eve", statement="SELECT n")
    listed = (await ListQueries().answer(asked(api))).queries
    assert {each.queryId for each in listed[:2]} == {failed["queryId"], running["queryId"]}
    assert (listed[2].queryId, listed[2].statement) == (first["queryId"], "SELECT n")
    by_id = {each.queryId: each for each in listed}
    assert (by_id[first["queryId"]].rows, by_id[first["queryId"]].seconds) == (3, 0)
    assert by_id[failed["queryId"]].error == "Division by zero"
    assert by_id[running["queryId"]].seconds is None
    assert len((await ListQueries(limit=1).answer(asked(api))).queries) == 1
    await answer(api, queryId=running["queryId"], cancel=True)


@asynchronous
async def test_server_without_history_has_no_queries() -> None:
    api = Api()
    with pytest.raises(NoHistory):
        await ListQueries().answer(Asked(api.history, api.world.control, MOMENT, 10, []))
