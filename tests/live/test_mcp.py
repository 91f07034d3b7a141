"""An agent's program starts `opentrail mcp` and asks it about AWS's own records."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, Implementation

from opentrail.core.version import __version__
from tests.cases import case
from tests.collection import PART
from tests.fakes import asynchronous
from tests.live.processes import (
    TIMEOUT_SECONDS,
    Opentrail,
    clean_environment,
    eventually,
    opentrail_server,
)
from tests.mcp.agent import text_of

pytestmark = [pytest.mark.live, pytest.mark.slow]

NO_UPSTREAM = "http://127.0.0.1:9"
Answer = dict[str, Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    """A server with 166 records of two publishers, for questions with known answers."""
    folder = tmp_path_factory.mktemp("mcp")
    with opentrail_server(folder / "data", "--upstream", NO_UPSTREAM) as started:
        for name in ("invictus-aws_dataset", "stratus-red-team"):
            done = started.opentrail("import", str(PART / f"{name}.ndjson"))
            assert done.returncode == 0, done.stderr
        yield started


@asynccontextmanager
async def connected(data_dir: Path) -> AsyncIterator[Client]:
    """Runs `opentrail mcp` on a data directory, like an agent's program."""
    async with started("--data-dir", str(data_dir)) as client:
        yield client


@asynccontextmanager
async def started(*arguments: str, **environment: str) -> AsyncIterator[Client]:
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "opentrail", "mcp", *arguments],
        env=clean_environment(**environment),
    )
    info = Implementation(name="test-agent", version="1.0")
    async with Client(stdio_client(command), client_info=info) as client:
        yield client


async def ask(client: Client, tool: str, **arguments: Any) -> Answer:
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    assert not result.is_error, text_of(result)
    assert result.structured_content is not None
    answer: Answer = result.structured_content
    return answer


def event_ids(answer: Answer) -> list[str]:
    """Returns the first eight digits of event ids, as people quote them."""
    return [event["event_id"][:8] for event in answer["facts"]["events"]]


def words(answer: Answer) -> str:
    return json.dumps(answer["untrusted"])


@asynchronous
async def test_ten_questions_about_real_records_get_right_answers(server: Opentrail) -> None:
    async with connected(server.data_dir) as client:
        with case("who created the user malicious-iam-user, and is it still there?"):
            answer = await ask(client, "who", resource="malicious-iam-user", type="AWS::IAM::User")
            (user,) = answer["facts"]["answers"]
            assert user["created"]["evidence"]["eventId"] == "85c89720-8103-4281-9e0e-8977b52bcdbe"
            assert user["deleted"]["evidence"]["eventTime"] == "2023-07-10T12:28:24Z"
            assert user["caller"]["kind"] == "human"
            assert "IAM user bert-jan created IAM user malicious-iam-user" in words(answer)
        with case("which calls were denied?"):
            answer = await ask(client, "lookup", expression="error:denied OR error:unauthorized")
            assert event_ids(answer) == ["735eae92", "8a8844ff", "4efad7fc", "be7f89b5", "ae9a706f"]
        with case("why was the account not allowed to leave the organization?"):
            event_id = "be7f89b5-d456-4423-b3e6-0fb0b19bad7c"
            facts = (await ask(client, "explain", event=event_id))["facts"]
            assert facts["verdict"] == "no policy allows it"
            assert facts["policyType"] == "identity-based policy"
            assert facts["action"] == "organizations:LeaveOrganization"
        with case("why could the password of a Windows instance not be read in 2023?"):
            event_id = "ae9a706f-d8a4-4e50-9043-22b2a03f481c"
            facts = (await ask(client, "explain", event=event_id))["facts"]
            assert (facts["verdict"], facts["policyType"]) == ("not recorded", None)
            assert facts["action"] == "ec2:GetPasswordData"
        with case("what did the instance i-0dbc91f429e48eeed do, and who gave it credentials?"):
            answer = await ask(client, "history_of", session="i-0dbc91f429e48eeed")
            names = [group["event_name"] for group in answer["facts"]["groups"]]
            assert names == [
                "ListInstanceAssociations",
                "GetDocument",
                "GetCallerIdentity",
                "UpdateInstanceInformation",
            ]
            assert answer["facts"]["caller"]["kind"] == "service"
            assert answer["untrusted"]["caller"]["origin"] == "AWS service ec2.amazonaws.com"
        with case("who switched off flow logs, and from where?"):
            answer = await ask(client, "lookup", expression="name=DeleteFlowLogs")
            (event,) = answer["facts"]["events"]
            assert (event["time"], event["source_ip"]) == ("2023-07-10T12:02:26Z", "192.168.10.20")
            assert "bert-jan" in words(answer)
        with case("did anyone succeed in stopping a trail?"):
            answer = await ask(client, "lookup", expression="name=StopLogging is:success")
            assert event_ids(answer) == []
            answer = await ask(client, "lookup", expression="name=StopLogging")
            assert answer["facts"]["events"][0]["error_code"] == "TrailNotFoundException"
        with case("which secrets were read, in which accounts?"):
            answer = await ask(client, "lookup", expression="name=GetSecretValue")
            accounts = [event["account"] for event in answer["facts"]["events"]]
            assert accounts == ["903144391865", "123837392027"]
        with case("who has a password for the console since noon on 10 July 2023?"):
            answer = await ask(
                client,
                "lookup",
                expression="name=CreateLoginProfile is:success",
                since="2023-07-10T12:00:00Z",
                until="2023-07-11",
            )
            assert event_ids(answer) == ["f0d7bb15"]
            assert "stratus-red-team-login-profile-user" in words(answer)
            assert answer["facts"]["query"]["until"] == "2023-07-11T00:00:00Z"
        with case("how was the SSH key sent to an instance?"):
            event_id = "1214f520-2eaf-4438-92ab-304bcf115296"
            answer = await ask(client, "get_event", event_id=event_id)
            assert answer["facts"]["event"]["region"] == "eu-south-1r"
            record = answer["untrusted"]["record"]
            assert record["requestParameters"]["instanceOSUser"] == "ec2-user"


@asynchronous
async def test_questions_are_recorded_events(server: Opentrail) -> None:
    async with connected(server.data_dir) as client:
        await ask(client, "verify")

    def found() -> list[Any]:
        return list(
            server.records("source=mcp.opentrail.internal", "requestParameters.tool=verify")
        )

    record = eventually(found, "the question is an event")[0]
    assert record["userIdentity"]["userName"] == "operator"
    assert record["userAgent"] == f"test-agent/1.0 opentrail-mcp/{__version__}"
    assert record["additionalEventData"]["rows"] == 0
    text = server.opentrail("lookup", "source=mcp.opentrail.internal", "--all-accounts").stdout
    assert "McpToolCall" in text


@asynchronous
async def test_a_restarted_server_accepts_its_new_token(tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", "--upstream", NO_UPSTREAM) as server:
        async with connected(server.data_dir) as client:
            assert event_ids(await ask(client, "lookup")) == []
            server.stop()
            result = await client.call_tool("lookup", {})
            assert isinstance(result, CallToolResult)
            assert "no server runs on data directory" in text_of(result)
            server.start()
            answer = await ask(client, "lookup", expression="NOT source=mcp.opentrail.internal")
            assert event_ids(answer) == []


@asynchronous
async def test_an_agent_sees_what_its_token_allows(server: Opentrail) -> None:
    accounts = ("--accounts", "903144391865")
    made = server.opentrail("users", "create", "ann", "--role", "viewer", *accounts)
    assert made.returncode == 0, made.stderr
    token = server.opentrail("users", "token", "add", "ann", "agent").stdout.strip()
    async with started("--endpoint", server.console, OPENTRAIL_TOKEN=token) as client:
        answer = await ask(client, "lookup", expression="name=GetSecretValue")
        assert [event["account"] for event in answer["facts"]["events"]] == ["903144391865"]
        verified = await ask(client, "verify")
        assert verified["facts"]["note"] == "Trails cannot be seen; this needs the role auditor."
        server.opentrail("users", "token", "remove", "ann", "agent")
        result = await client.call_tool("lookup", {})
        assert isinstance(result, CallToolResult)
        assert text_of(result).startswith("a valid token is needed")

    def found() -> list[Any]:
        return list(server.records("source=mcp.opentrail.internal", "user=ann"))

    assert eventually(found, "the questions are events of the user")


@contextmanager
def answering_over_http(data_dir: Path) -> Iterator[str]:
    """Runs `opentrail mcp --listen`, and yields its URL."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "opentrail", "mcp", "--data-dir", str(data_dir)),
            *("--listen", "127.0.0.1:0"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("opentrail mcp answers on http://127.0.0.1:"), line
        yield line.split()[-1]
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_SECONDS)


@asynchronous
async def test_agents_of_several_users_ask_over_http(server: Opentrail) -> None:
    tokens = {}
    for user, account in (("cat", "903144391865"), ("dan", "123837392027")):
        server.opentrail("users", "create", user, "--role", "viewer", "--accounts", account)
        tokens[account] = server.opentrail("users", "token", "add", user, "agent").stdout.strip()
    with answering_over_http(server.data_dir) as url:
        for account, token in tokens.items():
            headers = {"authorization": f"Bearer {token}"}
            async with httpx2.AsyncClient(headers=headers) as http:
                transport = streamable_http_client(url, http_client=http)
                info = Implementation(name="http-agent", version="2.0")
                async with Client(transport, client_info=info) as client:
                    answer = await ask(client, "lookup", expression="name=GetSecretValue")
            accounts = [event["account"] for event in answer["facts"]["events"]]
            assert accounts == [account]
        for refused in (server.token, "ot_wrong"):
            async with httpx2.AsyncClient() as http:
                headers = {"authorization": f"Bearer {refused}"}
                assert (await http.post(url, headers=headers)).status_code == 401

    def found() -> list[Any]:
        return list(server.records("source=mcp.opentrail.internal", "user=dan"))

    record = eventually(found, "the question is an event of the user")[0]
    assert record["userAgent"] == f"http-agent/2.0 opentrail-mcp/{__version__}"
