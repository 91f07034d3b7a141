"""Over HTTP: each request needs a token, and pages of other sites are refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from opentrail.core.event import Json
from opentrail.mcp.http import (
    MAX_USER_SESSIONS,
    PATH,
    PersonalTokenVerifier,
    http_app,
    token_of_request,
)
from opentrail.mcp.server import OpentrailMcpServer
from tests.api.caller import Api
from tests.factories import a_record
from tests.fakes import asynchronous
from tests.mcp.agent import Desk

AUTHORITY = "127.0.0.1:4749"
URL = f"http://{AUTHORITY}{PATH}"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
ANN = "ot_ann"
HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


class Door:
    """An MCP server over HTTP, without a socket."""

    def __init__(self, api: Api) -> None:
        self.users = {"ot_ann": "ann", "ot_ann2": "ann", "ot_bob": "bob"}
        #: The token of each question, in the order of their records.
        self.tokens: list[str] = []
        desk = Desk(api, asyncio.get_running_loop())

        def ask(path: str, query: Any, body: Json | None = None, /) -> Json:
            self.tokens.append(token_of_request())
            return desk.ask(path, query, body)

        server = OpentrailMcpServer(ask, PersonalTokenVerifier(self.users.get))
        self.app = http_app(server, AUTHORITY)
        self.server = server

    def browser(self, token: str | None) -> httpx2.AsyncClient:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        transport = httpx2.ASGITransport(self.app)
        return httpx2.AsyncClient(transport=transport, headers=headers)


@asynccontextmanager
async def opened() -> AsyncIterator[Door]:
    api = Api()
    api.world.clock.advance(86_400)
    await api.record([a_record()])
    door = Door(api)
    async with door.server.session_manager.run():
        yield door


@asynchronous
async def test_each_question_uses_the_token_of_its_request() -> None:
    async with opened() as door:
        for token in ("ot_ann", "ot_bob"):
            transport = streamable_http_client(URL, http_client=door.browser(token))
            async with Client(transport) as client:
                result = await client.call_tool("lookup", {})
            assert isinstance(result, CallToolResult)
            assert result.structured_content is not None
            assert len(result.structured_content["facts"]["events"]) == 1
            assert set(door.tokens) == {token}
            door.tokens.clear()


@pytest.mark.parametrize("token", [None, "", "ot_eve", "OT_ANN"])
@asynchronous
async def test_a_request_without_a_valid_token_is_refused(token: str | None) -> None:
    async with opened() as door, door.browser(token) as browser:
        answer = await browser.post(URL, json=INITIALIZE, headers=HEADERS)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "resource_metadata" not in answer.headers["www-authenticate"]
        assert door.tokens == []


@asynchronous
async def test_a_session_belongs_to_its_user_and_token() -> None:
    async with opened() as door, door.browser(ANN) as ann, door.browser("ot_bob") as bob:
        begun = await ann.post(URL, json=INITIALIZE, headers=HEADERS)
        session = {"mcp-session-id": begun.headers["mcp-session-id"]}
        call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call"}
        call["params"] = {"name": "lookup", "arguments": {}}
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await ann.post(URL, json=ready, headers=HEADERS | session)
        answer = await ann.post(URL, json=call, headers=HEADERS | session)
        assert json.loads(answer.text)["result"]["isError"] is False
        assert (await bob.post(URL, json=call, headers=HEADERS | session)).status_code == 404
        # Another token of the same user continues the session, and the server uses it.
        door.tokens.clear()
        other = {"authorization": "Bearer ot_ann2"}
        answer = await ann.post(URL, json=call, headers=HEADERS | session | other)
        assert json.loads(answer.text)["result"]["isError"] is False
        assert set(door.tokens) == {"ot_ann2"}
        del door.users["ot_ann"]
        assert (await ann.post(URL, json=call, headers=HEADERS | session)).status_code == 401


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("host", "evil.example", 421),
        ("host", "127.0.0.1:80", 421),
        ("origin", "http://evil.example", 403),
        ("origin", f"http://{AUTHORITY}", 403),
        ("content-type", "text/plain", 400),
    ],
)
@asynchronous
async def test_a_page_of_another_site_gets_nothing(header: str, value: str, status: int) -> None:
    async with opened() as door, door.browser(ANN) as browser:
        answer = await browser.post(URL, json=INITIALIZE, headers=HEADERS | {header: value})
        assert answer.status_code == status
        assert door.tokens == []


@asynchronous
async def test_a_body_has_a_limit() -> None:
    async with opened() as door, door.browser(ANN) as browser:
        answer = await browser.post(URL, content=b"x" * 1_000_001, headers=HEADERS)
        assert answer.status_code == 413


@asynchronous
async def test_one_user_blocks_no_other() -> None:
    async with opened() as door, door.browser("ot_ann") as ann, door.browser("ot_bob") as bob:

        async def begun(browser: httpx2.AsyncClient) -> httpx2.Response:
            return await browser.post(URL, json=INITIALIZE, headers=HEADERS)

        answers = [await begun(ann) for _ in range(MAX_USER_SESSIONS)]
        assert {answer.status_code for answer in answers} == {200}
        refused = await begun(ann)
        assert refused.status_code == 429
        assert refused.json() == {"error": "ann has 20 open sessions: end one of them"}
        assert (await begun(bob)).status_code == 200
        session = {"mcp-session-id": answers[0].headers["mcp-session-id"]}
        assert (await ann.delete(URL, headers={**HEADERS, **session})).status_code == 200
        assert (await begun(ann)).status_code == 200
