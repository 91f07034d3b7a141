"""AWS's own MCP server for CloudTrail, from the package index, asks a sandbox."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult

from tests.conformance.installed import installed
from tests.fakes import asynchronous
from tests.live.processes import Opentrail, clean_environment, opentrail_server
from tests.mcp.agent import text_of

pytestmark = [pytest.mark.conformance, pytest.mark.live]

PACKAGE = "awslabs.cloudtrail-mcp-server==0.1.1"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("awslabs")
    return installed(folder, PACKAGE) / "awslabs.cloudtrail-mcp-server"


def program_for(command: Path, server: Opentrail) -> StdioServerParameters:
    """Returns the program with the server as AWS's endpoint."""
    environment = clean_environment(
        AWS_ENDPOINT_URL=server.url,
        AWS_ACCESS_KEY_ID="x",
        AWS_SECRET_ACCESS_KEY="x",
        AWS_REGION="us-east-1",
        FASTMCP_LOG_LEVEL="ERROR",
    )
    return StdioServerParameters(command=str(command), env=environment)


async def look_up(command: Path, server: Opentrail, **arguments: Any) -> list[dict[str, Any]]:
    """Returns the events on all pages of a lookup."""
    events = []
    async with Client(stdio_client(program_for(command, server))) as client:
        token: dict[str, str] = {}
        while True:
            result = await client.call_tool("lookup_events", arguments | token)
            assert isinstance(result, CallToolResult)
            assert not result.is_error, text_of(result)
            page = json.loads(text_of(result))
            events += page["events"]
            if not page.get("next_token"):
                return events
            token = {"next_token": page["next_token"]}


@asynchronous
async def test_it_finds_a_users_creator_on_all_pages(command: Path, tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", command="sandbox") as server:
        iam = server.boto("iam")
        iam.create_user(UserName="Mary")
        for number in range(25):
            iam.create_user(UserName=f"user-{number}")
        ours = server.records("name=CreateUser")

        (mary,) = await look_up(
            command, server, attribute_key="ResourceName", attribute_value="Mary"
        )
        assert mary["EventName"] == "CreateUser"
        record = json.loads(mary["CloudTrailEvent"])
        assert record == next(r for r in ours if r["requestParameters"]["userName"] == "Mary")

        by_name = {"attribute_key": "EventName", "attribute_value": "CreateUser"}
        span = {"start_time": "2020-01-01T00:00:00Z", "end_time": "2099-01-01T00:00:00Z"}
        events = await look_up(command, server, **by_name, **span, max_results=10)
        assert [event["EventId"] for event in events] == [record["eventID"] for record in ours]
        assert len(events) == 26


@asynchronous
async def test_it_queries_event_history_as_a_lake(command: Path, tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", command="sandbox") as server:
        server.boto("iam").create_user(UserName="Mary")
        async with Client(stdio_client(program_for(command, server))) as client:
            listed = await client.call_tool("list_event_data_stores", {})
            assert isinstance(listed, CallToolResult)
            store = json.loads(text_of(listed))
            assert store["name"] == "event_history"
            store_id = store["event_data_store_arn"].rpartition("/")[2]
            columns = "element_at(requestParameters, 'userName') AS name, errorCode"
            statement = f"SELECT {columns} FROM {store_id} WHERE eventName = 'CreateUser'"  # noqa: S608
            found = await client.call_tool("lake_query", {"sql": statement})
            assert isinstance(found, CallToolResult)
            assert not found.is_error, text_of(found)
            answer = json.loads(text_of(found))
            assert answer["query_status"] == "FINISHED"
            assert answer["query_result_rows"] == [[{"name": "Mary"}, {"errorCode": ""}]]
            query = {"query_id": answer["query_id"]}
            for tool in ("get_query_status", "get_query_results"):
                result = await client.call_tool(tool, query)
                assert isinstance(result, CallToolResult)
                assert "FINISHED" in text_of(result)
