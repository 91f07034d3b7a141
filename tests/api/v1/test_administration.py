"""Calls of administrators: what they pass on, and to whom."""

from __future__ import annotations

import pytest

from opentrail.access.users import ConsoleRole
from tests.api.browser import Browser
from tests.api.caller import TOKEN, send
from tests.factories import ACCOUNT
from tests.fakes import asynchronous


@pytest.mark.parametrize("path", ["access-keys", "policies", "directory"])
@asynchronous
async def test_an_action_gets_the_object_in_the_body(path: str) -> None:
    browser = Browser()
    assert (await browser.post(path, {"action": "list"})).json == {"given": {"action": "list"}}
    refused = await browser.post(path, b"[]")
    assert (refused.status, '{"action": "list"}' in refused.json["error"]) == (400, True)


@asynchronous
async def test_records_of_other_processes_come_as_lines() -> None:
    browser = Browser()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = await send(browser.app, "POST", "/api/v1/records", headers, b"{}\n{}\n")
    assert answer.json == {"taken": 2}


@asynchronous
async def test_a_process_asks_who_is_behind_a_key() -> None:
    found = (await Browser().get("identities/AKIA")).json
    assert (found["account"], found["deletedBy"]) == (ACCOUNT, None)
    assert found["userIdentity"]["userName"] == "AKIA"


@asynchronous
async def test_files_are_imported_as_their_body_arrives() -> None:
    browser = Browser()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = await send(browser.app, "POST", "/api/v1/import", headers, b"files")
    assert "".join(answer.json["files"]) == "files"


@asynchronous
async def test_operators_do_none_of_it() -> None:
    browser = Browser()
    browser.become(ConsoleRole.OPERATOR)
    for path in ("access-keys", "policies", "directory", "records", "import"):
        assert (await browser.post(path, {})).status == 403
    assert (await browser.get("identities/AKIA")).status == 403
