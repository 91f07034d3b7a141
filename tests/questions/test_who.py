"""Creators, changers and deleters of a resource."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.mcp.answer import MAX_ANSWER_BYTES
from opentrail.mcp.asked import answer_of
from opentrail.questions.question import answer_type, load
from tests.api.caller import filled
from tests.asking import assumed
from tests.factories import a_record, an_iam_user, event_id
from tests.fakes import asynchronous
from tests.mcp.agent import connected
from tests.mcp.test_answer import size
from tests.mcp.test_tools import session

WHO = "/api/v1/who"


@pytest.mark.parametrize("query", [{}, {"type": "bucket"}, {"account": "210987654321"}])
@asynchronous
async def test_answer_has_the_declared_shape(query: dict[str, str]) -> None:
    api = await filled(a_record(), a_record(eventID=event_id(2), eventName="UpdateUser"))
    for name in ("Mary", "mary", "Nobody"):
        answer = await api.ask(WHO, resource=name, **query)
        msgspec.convert(answer.json, answer_type(load("who")))


@asynchronous
async def test_who_answers_with_the_evidence_and_the_chain() -> None:
    records = [
        assumed(0, "ASIAEXAMPLEEXAMPLE12", an_iam_user("John"), "Deploy", eventID=event_id(7)),
        a_record(
            userIdentity=session("etl"), eventTime="2020-01-01T09:05:00Z", eventID=event_id(8)
        ),
    ]
    async with connected(*records) as agent:
        answer = await agent.ask("who", resource="Mary")
        nothing = await agent.ask("who", resource="Nobody")
    (facts,), (text,) = answer["facts"]["answers"], answer["untrusted"]["answers"]
    assert facts["type"] == "AWS::IAM::User"
    made = facts["created"]["evidence"]
    assert (made["eventId"], made["eventName"]) == (
        event_id(8),
        "CreateUser",
    )
    assert "role Deploy (session etl) created IAM user Mary" in text["created"]["sentence"]
    assert facts["caller"]["kind"] == "human"
    assert [step["evidence"]["eventId"] for step in facts["caller"]["steps"]] == [event_id(7)]
    assert text["caller"]["origin"] == "IAM user John"
    assert nothing["facts"]["answers"] == []
    assert nothing["facts"]["sentence"] is None


@asynchronous
async def test_who_returns_earlier_names_and_resources() -> None:
    def did(minute: int, event_name: str, **parameters: str) -> dict[str, Any]:
        return a_record(
            eventTime=f"2020-01-01T09:{minute:02}:00Z",
            eventName=event_name,
            eventID=event_id(10 + minute),
            requestParameters={"userName": "Mary", **parameters},
            responseElements=None,
        )

    calls = [
        did(0, "CreateUser"),
        did(1, "DeleteUser"),
        did(2, "CreateUser"),
        did(3, "UpdateUser", newUserName="Maria"),
    ]
    async with connected(*calls) as agent:
        answer = await agent.ask("who", resource="Mary")
    (facts,), (text,) = answer["facts"]["answers"], answer["untrusted"]["answers"]
    assert facts["created"]["certain"] is True
    assert [renamed["evidence"]["eventId"] for renamed in facts["renamed"]] == [event_id(13)]
    assert "renamed IAM user Mary to Maria" in text["renamed"][0]["sentence"]
    (former,) = facts["former"]
    assert former["created"]["evidence"]["eventId"] == event_id(10)
    assert former["deleted"]["evidence"]["eventId"] == event_id(11)
    assert "deleted IAM user Mary" in text["former"][0]["deleted"]["sentence"]


#: Text that never has the form of a fact, unlike one word.
TEXT = st.builds(
    "{} ignore this".format, st.text(max_size=900) | st.just("\x00" * 900) | st.just("🎉" * 900)
)


@pytest.mark.slow
@settings(deadline=None, max_examples=10)
@given(TEXT, st.integers(0, 7), st.integers(0, 20))
def test_no_answer_is_too_large(text: str, count: int, former: int) -> None:
    evidence = {
        "eventId": event_id(1),
        "eventTime": "2020-01-01T09:00:00Z",
        "eventName": text,
        "sourceIPAddress": text,
        "userAgent": text,
        "accessKeyId": text,
        "principal": text,
    }
    said: dict[str, Any] = {"sentence": text, "evidence": evidence}
    ends: dict[str, Any] = {
        "created": {**said, "certain": True},
        "renamed": [said] * former,
        "deleted": said,
    }
    chain = {"origin": text, "kind": "human", "end": text, "sourceIdentity": text}
    life: dict[str, Any] = {
        "type": text,
        "name": text,
        "account": text,
        "region": None,
        **ends,
        "changed": {**said, "times": 1, "complete": True},
        "caller": {"steps": [said] * 10, **chain, "sessionTags": {text: text}},
        "next": [said] * 5,
        "former": [{"name": text, **ends}] * former,
    }
    stories: dict[str, Any] = {
        "events": 9,
        "resource": text,
        "answers": [life] * count,
        "missing": [text],
    }
    answer = answer_of(load("who"), {**said, **stories, "record": text})
    assert size(answer) <= MAX_ANSWER_BYTES
    shown = answer.facts["answers"]
    assert len(shown) + answer.facts.get("more_answers", 0) == count
    assert all(each["created"]["evidence"]["eventId"] == event_id(1) for each in shown)
    assert text not in str(answer.facts)
    assert "ignore this" not in str(answer.facts)
