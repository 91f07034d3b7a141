"""Questions that agents ask through `opentrail mcp`, which records each before answering it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypedDict

from starlette.requests import Request

from opentrail.api.v1.answers import Role, invalid_parameter, role_name
from opentrail.api.v1.callers import caller_of, identity_of, own_event
from opentrail.api.v1.routes import VIEWER, route
from opentrail.core.event import AGENT_SOURCE, Json
from opentrail.core.version import __version__
from opentrail.ports.clock import Clock
from opentrail.ports.journal import JournalWriter

_EVENT_NAME = "McpToolCall"
_TOOL = re.compile(r"[a-z_]{1,40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Maximum characters of the name of an agent, and of its version.
_MAX_AGENT_LENGTH = 100
_EXAMPLE = (
    '{"tool": "who", "argumentsSha256": "…", "agent": "claude-code", "agentVersion": "2.1.284",'
    ' "rows": 1, "failed": false}'
)


class RecordedQuestion(TypedDict):
    """The event that records a question."""

    eventId: str


class Asker(TypedDict):
    """Who asks."""

    user: str
    role: Role


class AgentQuestions:
    """The calls of agents: see the user of a token, record a question.

    Args:
        journal: makes the record durable.
        clock: the time of the record.
        account: returns the account that the record belongs to.
    """

    def __init__(self, journal: JournalWriter, clock: Clock, account: Callable[[], str]) -> None:
        self._journal = journal
        self._clock = clock
        self._account = account

    @route("GET", "/caller", VIEWER, "see whose token you have")
    async def caller(self, request: Request) -> Asker:
        """Returns the user of the token, and the user's role."""
        caller = caller_of(request)
        return {"user": caller.name, "role": role_name(caller.role)}

    @route("POST", "/questions", VIEWER, "record a question of an agent", body=_EXAMPLE)
    async def record(self, request: Request, body: Json) -> RecordedQuestion:
        """Returns once a record is durable of the user, question, agent and number of rows."""
        tool, arguments = body.get("tool"), body.get("argumentsSha256")
        rows, failed = body.get("rows"), body.get("failed", False)
        if not isinstance(tool, str) or not _TOOL.fullmatch(tool):
            raise invalid_parameter("tool must be the name of a tool, such as who")
        if not isinstance(arguments, str) or not _SHA256.fullmatch(arguments):
            raise invalid_parameter("argumentsSha256 must be 64 hexadecimal digits")
        if type(rows) is not int or rows < 0:
            raise invalid_parameter("rows must be a number from 0 on")
        if not isinstance(failed, bool):
            raise invalid_parameter("failed must be true or false")
        agent, version = _text_in(body, "agent"), _text_in(body, "agentVersion")
        failure = {"errorCode": "QuestionFailed", "errorMessage": "The question was not answered."}
        more = {
            **(failure if failed else {}),
            "requestParameters": {"tool": tool, "argumentsSha256": arguments},
            "responseElements": None,
            "additionalEventData": {"agent": agent, "agentVersion": version, "rows": rows},
        }
        entry = own_event(
            request,
            self._clock.now(),
            identity_of(self._account(), caller_of(request)),
            AGENT_SOURCE,
            _EVENT_NAME,
            f"{agent}/{version} opentrail-mcp/{__version__}",
            more,
            is_read_only=True,
        )
        await self._journal.append([entry])
        return {"eventId": entry.event_id}


def _text_in(body: Json, member: str) -> str:
    """Returns an agent's name or version, truncated; `unknown` without one."""
    text = body.get(member) or "unknown"
    if not isinstance(text, str):
        raise invalid_parameter(f"{member} must be a string")
    return text[:_MAX_AGENT_LENGTH]
