"""Agents' questions are recorded: the caller, the agent, the tool."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.access.users import ConsoleRole
from opentrail.core.version import __version__
from opentrail.who.sentence import clause
from tests.api.browser import Browser
from tests.api.caller import Api
from tests.factories import ACCOUNT, a_record
from tests.fakes import asynchronous

BODY = {
    "tool": "lookup",
    "argumentsSha256": "ab" * 32,
    "agent": "claude-code",
    "agentVersion": "2.1.284",
    "rows": 7,
}


async def recorded(api: Api) -> list[dict[str, Any]]:
    return [json.loads(entry.record) for entry in await api.world.journal.read(0, 100)]


@asynchronous
async def test_question_is_recorded_with_its_caller_and_agent() -> None:
    browser = Browser()
    browser.become(ConsoleRole.VIEWER, name="ann")
    answer = await browser.post("questions", BODY)
    assert answer.status == 200, answer.body
    (record,) = await recorded(browser.api)
    assert record["eventID"] == answer.json["eventId"]
    assert record["userIdentity"]["arn"] == f"arn:aws:iam::{ACCOUNT}:user/opentrail/ann"
    assert (record["eventSource"], record["eventName"]) == ("mcp.opentrail.internal", "McpToolCall")
    assert record["userAgent"] == f"claude-code/2.1.284 opentrail-mcp/{__version__}"
    assert record["requestParameters"] == {"tool": "lookup", "argumentsSha256": "ab" * 32}
    assert record["additionalEventData"] == {
        "agent": "claude-code",
        "agentVersion": "2.1.284",
        "rows": 7,
    }
    assert (record["readOnly"], record.get("errorCode")) == (True, None)
    assert clause(record).startswith("IAM user ann's agent Claude Code used the tool lookup of")


@asynchronous
async def test_lists_show_questions_only_on_request() -> None:
    browser = Browser()
    assert (await browser.post("questions", BODY)).status == 200
    await browser.api.record([a_record()])
    names = {"expression": "name=McpToolCall"}
    rows = await browser.get("events/rows")
    asked = await browser.get("events/rows", **names)
    assert [row["eventName"] for row in rows.json["events"]] == ["CreateUser"]
    assert [row["eventName"] for row in asked.json["events"]] == ["McpToolCall"]
    documents = (await browser.get("events")).json["events"]
    assert [event["EventName"] for event in documents] == ["CreateUser"]
    assert (await browser.get("events/overview")).json["count"] == 1
    values = (await browser.get("values", field="eventName", prefix="")).json["values"]
    assert {"value": "McpToolCall", "count": 1} in values
    found = (await browser.api.ok("LookupEvents"))["Events"]
    assert {event["EventName"] for event in found} >= {"CreateUser", "McpToolCall"}


@asynchronous
async def test_a_refused_question_has_an_error() -> None:
    api = Api()
    body = json.dumps({**BODY, "rows": 0, "failed": True, "agent": None}).encode()
    assert (await api.post("/api/v1/questions", body)).status == 200
    (record,) = await recorded(api)
    assert record["errorCode"] == "QuestionFailed"
    assert record["userIdentity"]["userName"] == "operator"
    assert record["additionalEventData"]["agent"] == "unknown"


@asynchronous
async def test_agent_names_are_truncated() -> None:
    api = Api()
    await api.post("/api/v1/questions", json.dumps({**BODY, "agent": "x" * 5_000}).encode())
    (record,) = await recorded(api)
    assert record["additionalEventData"]["agent"] == "x" * 100


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("tool", "DROP TABLE"),
        ("tool", 1),
        ("argumentsSha256", "name=Mary"),
        ("argumentsSha256", None),
        ("rows", -1),
        ("rows", True),
        ("failed", "no"),
        ("agent", 5),
        ("agentVersion", ["x"]),
    ],
)
@asynchronous
async def test_a_question_of_another_form_is_refused(member: str, value: object) -> None:
    api = Api()
    answer = await api.post("/api/v1/questions", json.dumps({**BODY, member: value}).encode())
    assert (answer.status, answer.json["code"]) == (400, "InvalidParameterException")
    assert member in answer.json["error"]
    assert await recorded(api) == []


@asynchronous
async def test_a_program_learns_its_tokens_user() -> None:
    browser = Browser()
    browser.become(ConsoleRole.AUDITOR, name="ann")
    assert (await browser.get("caller")).json == {"user": "ann", "role": "auditor"}
    assert (await Api().ask("/api/v1/caller")).json == {"user": "operator", "role": "admin"}
