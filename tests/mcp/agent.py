"""An agent's program in one process with the MCP server, and the API behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mcp import Client
from mcp.types import CallToolResult, Implementation, TextContent

from opentrail.core.errors import OpentrailError, TryLater, UsageError
from opentrail.core.event import Json
from opentrail.mcp.server import OpentrailMcpServer
from tests.api.caller import Answer, Api
from tests.fakes import TIMEOUT_SECONDS

NAME = "claude-code"
VERSION = "2.1.284"


@dataclass
class Desk:
    """The server behind MCP; the MCP server runs in threads, the API in the test's loop."""

    api: Api
    loop: asyncio.AbstractEventLoop
    questions: list[Json] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    #: Whether questions can be recorded.
    records: bool = True

    def ask(
        self, path: str, query: Mapping[str, str | None], body: Json | None = None, /
    ) -> dict[str, Any]:
        """Returns the API's answer, like a command's client; records questions instead."""
        if path == "/api/v1/questions":
            assert body is not None
            return self._record(body)
        self.paths.append(path)
        given = {name: value for name, value in query.items() if value is not None}
        if body is None:
            asking = self.api.ask(path, **given)
        else:
            asking = self.api.post(path, json.dumps(body).encode())
        return _document(
            asyncio.run_coroutine_threadsafe(asking, self.loop).result(TIMEOUT_SECONDS)
        )

    def _record(self, question: Json) -> Json:
        if not self.records:
            raise TryLater("the disk is full")
        self.questions.append(question)
        return {}


def _document(answer: Answer) -> dict[str, Any]:
    document: dict[str, Any] = answer.json
    if answer.status == 400:
        raise UsageError(document["error"])
    if answer.status != 200:
        raise OpentrailError(document["error"])
    return document


@dataclass
class Agent:
    """A connected agent's program."""

    client: Client
    desk: Desk

    async def use(self, tool: str, **arguments: Any) -> CallToolResult:
        """Uses a tool."""
        result = await self.client.call_tool(tool, arguments)
        assert isinstance(result, CallToolResult)
        return result

    async def ask(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Returns the structured answer of a successful tool."""
        result = await self.use(tool, **arguments)
        assert not result.is_error, text_of(result)
        assert result.structured_content is not None
        answer: dict[str, Any] = result.structured_content
        return answer

    async def refusal(self, tool: str, **arguments: Any) -> str:
        """Returns the text of a failed tool."""
        result = await self.use(tool, **arguments)
        assert result.is_error
        return text_of(result)


def text_of(result: CallToolResult) -> str:
    """Returns the text of a result."""
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


def size_of(result: CallToolResult) -> int:
    """Returns the bytes of a result, in both of its forms."""
    structured = json.dumps(result.structured_content, ensure_ascii=False, separators=(",", ":"))
    return len(text_of(result).encode()) + len(structured.encode())


@asynccontextmanager
async def connected(*records: Mapping[str, Any], api: Api | None = None) -> AsyncIterator[Agent]:
    """Connects an agent to an API whose event history has records."""
    api = api or Api()
    api.world.clock.advance(86_400)
    await api.record([dict(record) for record in records])
    desk = Desk(api, asyncio.get_running_loop())
    server = OpentrailMcpServer(desk.ask)
    info = Implementation(name=NAME, version=VERSION)
    async with Client(server, client_info=info) as client:
        yield Agent(client, desk)
