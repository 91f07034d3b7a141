"""SQL over event history with real clients, and across kills."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from opentrail.commands.client import find
from tests.live.processes import Opentrail, eventually, opentrail_server
from tests.live.test_mcp import ask, connected

pytestmark = [pytest.mark.live, pytest.mark.slow]

_ENDLESS = (
    "SELECT count(*) FROM UNNEST(sequence(1, 9999)) a (x), UNNEST(sequence(1, 9999)) b (x),"
    " UNNEST(sequence(1, 9999)) c (x)"
)
_CREATED = (
    "SELECT element_at(requestParameters, 'userName') AS name FROM event_history"
    " WHERE eventName = 'CreateUser' ORDER BY name"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    data = tmp_path_factory.mktemp("sql") / "data"
    with opentrail_server(data, "--upstream", "http://127.0.0.1:9") as started:
        yield started


def create(server: Opentrail, name: str) -> None:
    """Records a call; its upstream cannot be reached."""
    with pytest.raises(ClientError):
        server.boto("iam").create_user(UserName=name)


def finished(cloudtrail: Any, statement: str) -> Any:
    """Runs a query and returns its results."""
    query_id = cloudtrail.start_query(QueryStatement=statement)["QueryId"]

    def results() -> Any:
        found = cloudtrail.get_query_results(QueryId=query_id)
        return found if found["QueryStatus"] not in ("QUEUED", "RUNNING") else None

    return eventually(results, "the query ends")


def test_clients_get_the_same_rows_right_after_a_call(server: Opentrail) -> None:
    create(server, "Mary")
    create(server, "Pete")
    names = ["Mary", "Pete"]
    # boto3, right after the answer to the last call
    cloudtrail = server.boto("cloudtrail")
    found = finished(cloudtrail, _CREATED)
    assert [row[0]["name"] for row in found["QueryResultRows"]] == names
    # aws-cli
    store = json.loads(server.aws("cloudtrail", "list-event-data-stores"))["EventDataStores"][0]
    listed = json.loads(
        server.aws("cloudtrail", "list-queries", "--event-data-store", store["EventDataStoreArn"])
    )
    assert listed["Queries"][0]["QueryStatus"] == "FINISHED"
    # the command
    done = server.opentrail("query", "--json", _CREATED)
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == names
    # HTTP
    console = find(Namespace(endpoint=None, data_dir=server.data_dir))
    page = console.ask("/api/v1/query", {}, {"statement": _CREATED})
    assert (page["status"], page["rows"]) == ("FINISHED", [[name] for name in names])

    # an agent
    async def as_agent() -> dict[str, Any]:
        async with connected(server.data_dir) as client:
            return await ask(client, "query", statement=_CREATED)

    assert "Mary" in json.dumps(asyncio.run(as_agent()))


def test_wrong_statements_are_refused_like_aws(server: Opentrail) -> None:
    with pytest.raises(ClientError) as error:
        server.boto("cloudtrail").start_query(QueryStatement="SELECT nosuch FROM event_history")
    assert error.value.response["Error"] == {
        "Code": "InvalidQueryStatementException",
        "Message": "line 1:8: Column 'nosuch' cannot be resolved",
    }


def test_cancelled_query_leaves_no_process(server: Opentrail) -> None:
    cloudtrail = server.boto("cloudtrail")
    query_id = cloudtrail.start_query(QueryStatement=_ENDLESS)["QueryId"]
    assert server.children(b"query_child")
    assert cloudtrail.cancel_query(QueryId=query_id)["QueryStatus"] == "CANCELLED"
    assert server.children(b"query_child") == []


def test_killed_server_leaves_failed_and_finished_queries(tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", "--upstream", "http://127.0.0.1:9") as server:
        create(server, "Mary")
        cloudtrail = server.boto("cloudtrail")
        found = finished(cloudtrail, _CREATED)
        assert len(found["QueryResultRows"]) == 1
        ended = cloudtrail.list_queries(EventDataStore="event_history")["Queries"][0]["QueryId"]
        running = cloudtrail.start_query(QueryStatement=_ENDLESS)["QueryId"]
        server.kill()
        server.start()
        cloudtrail = server.boto("cloudtrail")
        assert cloudtrail.describe_query(QueryId=running)["QueryStatus"] == "FAILED"
        again = cloudtrail.get_query_results(QueryId=ended)
        assert [row[0]["name"] for row in again["QueryResultRows"]] == ["Mary"]
        assert server.children(b"query_child") == []


def test_killed_query_process_is_only_a_failed_query(server: Opentrail) -> None:
    import os
    import signal

    cloudtrail = server.boto("cloudtrail")
    query_id = cloudtrail.start_query(QueryStatement=_ENDLESS)["QueryId"]
    for process in server.children(b"query_child"):
        os.kill(process, signal.SIGKILL)

    def is_failed() -> bool:
        return bool(cloudtrail.describe_query(QueryId=query_id)["QueryStatus"] == "FAILED")

    eventually(is_failed, "the query has failed")
    create(server, "after")
