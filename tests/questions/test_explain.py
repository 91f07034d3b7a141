"""The reason for a denied call."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.mcp.answer import MAX_ANSWER_BYTES
from opentrail.mcp.asked import answer_of
from opentrail.questions.question import answer_type, load
from tests.api.caller import filled
from tests.asking import did
from tests.factories import ACCOUNT, a_record, an_iam_user, event_id
from tests.fakes import asynchronous
from tests.mcp.agent import connected
from tests.mcp.test_answer import size
from tests.mcp.test_events import ROW

EXPLAIN = "/api/v1/explain"
USER = f"arn:aws:iam::{ACCOUNT}:user"
MESSAGE = (
    f"User: {USER}/John is not authorized to perform: iam:CreateUser on resource: {{resource}}"
    " because no identity-based policy allows the iam:CreateUser action"
)


def denied(resource: str = f"{USER}/Mary") -> dict[str, Any]:
    message = MESSAGE.format(resource=resource)
    return a_record(errorCode="AccessDenied", errorMessage=message, responseElements=None)


@asynchronous
async def test_only_a_denied_call_is_explained() -> None:
    mary = {"userIdentity": an_iam_user("Mary")}
    refused = did(2, "DeleteUser", {"userName": "Eve"}, errorCode="AccessDenied", **mary)
    api = await filled(
        did(1, "CreateUser", {"userName": "Eve"}, eventID=event_id(1)),
        {**refused, "errorMessage": "no", "eventID": event_id(2)},
    )
    denial = (await api.ask(EXPLAIN, event=event_id(2))).json
    assert "IAM user Mary called DeleteUser on IAM user Eve" in denial["sentence"]
    assert (denial["verdict"], denial["action"]) == ("not recorded", "iam:DeleteUser")
    assert (denial["errorCode"], denial["errorMessage"]) == ("AccessDenied", "no")
    assert (denial["event"]["eventId"], denial["event"]["username"]) == (event_id(2), "Mary")
    msgspec.convert(denial, answer_type(load("explain")))
    assert (await api.ask(EXPLAIN, event=event_id(1))).json["verdict"] == "not denied"
    assert (await api.ask(EXPLAIN, event="other")).status == 404
    assert (await api.ask(EXPLAIN)).status == 400


@asynchronous
async def test_an_agent_gets_verdict_and_event_as_facts() -> None:
    async with connected(denied()) as agent:
        answer = await agent.ask("explain", event=event_id(1))
    facts, untrusted = answer["facts"], answer["untrusted"]
    assert (facts["verdict"], facts["action"]) == ("no policy allows it", "iam:CreateUser")
    assert facts["policyType"] == "identity-based policy"
    assert facts["missing"] == ["No identity-based policy has a statement that allows the action."]
    assert facts["event"]["eventName"] == "CreateUser"
    assert untrusted["resource"] == f"{USER}/Mary"
    assert untrusted["event"]["arn"] == f"{USER}/John"


@asynchronous
async def test_agent_gets_no_secrets_of_the_error_message() -> None:
    url = "https://bucket.example.com/a?X-Amz-Signature=0a1b2c3d4e5f60718293a4b5c6d7e8f9"
    async with connected(denied(url)) as agent:
        answer = await agent.ask("explain", event=event_id(1))
    assert answer["untrusted"]["resource"].startswith("https://bucket.example.com/a")
    assert "0a1b2c3d" not in str(answer)


TEXT = st.text(max_size=3_000) | st.just("\x00" * 3_000) | st.just("🎉" * 2_000)


@pytest.mark.slow
@given(TEXT, st.integers(0, 900))
def test_no_answer_is_too_large(text: str, count: int) -> None:
    event = {**ROW, "arn": text, "resources": [{"type": "AWS::IAM::User", "name": text}] * count}
    denial = {
        "sentence": text,
        "verdict": "not recorded",
        "action": "iam:CreateUser",
        "isActionRecorded": True,
        "policyType": None,
        "resource": text,
        "missing": ["The record does not say which policy decided."],
        "errorCode": text,
        "errorMessage": text,
        "event": event,
    }
    answer = answer_of(load("explain"), denial)
    assert size(answer) <= MAX_ANSWER_BYTES
    shown = answer.facts["event"]["resources"]
    assert len(shown) + answer.facts["event"].get("more_resources", 0) == count
