"""Administrators' calls: the arguments, and the receiver."""

from __future__ import annotations

import json

import pytest

from opentrail.access.users import ConsoleRole
from tests.api.browser import Browser
from tests.api.caller import TOKEN, Answer, send
from tests.factories import ACCOUNT
from tests.fakes import asynchronous

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize("path", ["access-keys", "policies", "directory"])
@asynchronous
async def test_an_action_gets_the_object_in_the_body(path: str) -> None:
    browser = Browser()

    async def act(body: bytes) -> Answer:
        return await send(browser.app, "POST", f"/api/v1/{path}", BEARER, body)

    assert (await act(b'{"action": "list"}')).json == {"given": {"action": "list"}}
    refused = await act(b"[]")
    assert (refused.status, '{"action": "list"}' in refused.json["error"]) == (400, True)


@asynchronous
async def test_records_of_other_processes_arrive_as_lines() -> None:
    browser = Browser()
    answer = await send(browser.app, "POST", "/api/v1/records", BEARER, b"{}\n{}\n")
    assert answer.json == {"taken": 2}


@asynchronous
async def test_a_process_asks_for_a_keys_caller() -> None:
    answer = await send(Browser().app, "GET", "/api/v1/identities/AKIA", BEARER)
    found = answer.json
    assert (found["account"], found["deletedBy"]) == (ACCOUNT, None)
    assert found["userIdentity"]["userName"] == "AKIA"


@asynchronous
async def test_files_are_imported_as_their_body_arrives() -> None:
    browser = Browser()
    answer = await send(browser.app, "POST", "/api/v1/import", BEARER, b"files")
    assert "".join(answer.json["files"]) == "files"


@asynchronous
async def test_import_reports_its_progress() -> None:
    browser = Browser()
    headers = {**BEARER, "Accept": "application/x-ndjson"}
    answer = await send(browser.app, "POST", "/api/v1/import", headers, b"files")
    *reports, last = [json.loads(line) for line in answer.body.splitlines()]
    assert "".join(last["files"]) == "files"
    assert {"read": 2} in reports
    answer = await send(browser.app, "POST", "/api/v1/import", headers, b"0123456damaged")
    *_, last = [json.loads(line) for line in answer.body.splitlines()]
    assert last["status"] == 503
    assert "the disk is full" in last["error"]


@pytest.mark.parametrize("role", [ConsoleRole.OPERATOR, ConsoleRole.ADMIN])
@asynchronous
async def test_sessions_cannot_use_these_routes(role: ConsoleRole) -> None:
    """It is not recorded as a call of the user, or outlives the user."""
    browser = Browser()
    browser.become(role)
    for path in ("access-keys", "policies", "directory", "records", "import", "console-links"):
        answer = await browser.post(path, {})
        assert (path, answer.status, answer.json["code"]) == (path, 403, "AccessDenied")
    for path in ("identities/AKIA", "status"):
        assert (await browser.get(path)).status == 403
    assert (await browser.post("insights/scan", {})).status == 403
