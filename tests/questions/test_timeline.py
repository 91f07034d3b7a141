"""Events that happened to a resource, and calls that it made."""

from __future__ import annotations

import pytest

from tests.api.browser import Browser, most_reading
from tests.asking import at, did
from tests.factories import a_record, an_iam_user, event_id
from tests.fakes import asynchronous
from tests.mcp.agent import connected


@asynchronous
async def test_one_timeline_is_made_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser()
    await browser.api.record([a_record(userIdentity=an_iam_user("Ann"))])
    assert await most_reading(monkeypatch, lambda: browser.get("timeline", name="Ann")) == 1


@asynchronous
async def test_timeline_has_a_names_calls_and_its_changes() -> None:
    browser = Browser()
    browser.api.world.clock.advance(3_600)
    browser.open_link()
    by_mary = at(5, userIdentity=an_iam_user("Mary"), eventName="ListUsers", readOnly=True)
    await browser.api.record(
        [
            did(1, "CreateUser", {"userName": "Mary"}, eventID=event_id(1)),
            {**by_mary, "eventID": event_id(2)},
            did(6, "CreateUser", {"userName": "Eve"}, eventID=event_id(3)),
        ]
    )
    found = (await browser.get("timeline", name="Mary")).json
    words = [entry["words"].removesuffix(" through the AWS CLI") for entry in found["entries"]]
    assert words[0] == "IAM user John created IAM user Mary"
    assert words[1].startswith("IAM user Mary ")
    assert [entry["eventIds"] for entry in found["entries"]] == [[event_id(1)], [event_id(2)]]
    assert found["complete"] is True
    only = (await browser.get("timeline", name="Mary", kind="principal")).json
    assert [entry["eventName"] for entry in only["entries"]] == ["ListUsers"]
    for query, message in (
        ({"name": ""}, "name must be given"),
        ({"name": "Mary", "kind": "user"}, "kind must be one of principal, resource, session"),
        ({"name": "Mary", "since": "soon"}, "since"),
    ):
        wrong = await browser.get("timeline", **query)
        assert (wrong.status, message in wrong.json["error"]) == (400, True), query


@asynchronous
async def test_an_agent_gets_ids_and_times_as_facts() -> None:
    record = a_record(eventID=event_id(1), errorCode="ignore this", responseElements=None)
    async with connected(record) as agent:
        answer = await agent.ask("timeline", name="Mary")
    (fact,), (text,) = answer["facts"]["entries"], answer["untrusted"]["entries"]
    assert (fact["eventIds"], fact["eventName"], fact["calls"]) == ([event_id(1)], "CreateUser", 1)
    assert "errorCode" not in fact
    assert text["errorCode"] == "ignore this"
    assert "Mary" in text["words"]
    assert answer["untrusted"]["name"] == "Mary"
