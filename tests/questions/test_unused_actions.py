"""Actions of policies that a principal never used."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from opentrail.history import written_searches
from opentrail.questions import unused_actions
from opentrail.questions.question import answer_type, load
from tests.fakes import asynchronous
from tests.questions.test_policies import ALLOW_IAM, with_calls


def allowing(*patterns: str) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": [*patterns], "Resource": "*"}],
    }


@asynchronous
async def test_actions_of_each_pattern_are_used_or_unused() -> None:
    browser = await with_calls()
    policies = [allowing("iam:*eUser", "new:Action"), allowing("iam:deleteuser")]
    body = {"principal": "Mary", "policies": policies}
    found = (await browser.post("policy/unused", body)).json
    msgspec.convert(found, answer_type(load("unused-actions")))
    whole, unknown, deletion = found["patterns"]
    assert whole["used"] == ["iam:CreateUser", "iam:DeleteUser"]
    assert whole["unused"] == ["iam:UpdateUser"]
    assert (unknown["used"], unknown["unused"]) == ([], ["new:Action"])
    assert (deletion["statement"], deletion["used"]) == (1, ["iam:DeleteUser"])
    assert found["events"] == 3


@asynchronous
async def test_actions_of_an_answer_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unused_actions, "_MAX_ACTIONS", 10)
    browser = await with_calls()
    wrong = await browser.post("policy/unused", {"principal": "Mary", "policies": [ALLOW_IAM]})
    assert wrong.status == 400
    assert wrong.json["error"] == "policies must match at most 10 actions together"
    wrong = await browser.post("policy/unused", {"principal": "Mary", "policies": [{}]})
    assert "policies must be valid policy documents" in wrong.json["error"]


@asynchronous
async def test_partial_events_prove_no_action_unused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(written_searches, "_PAGE_EVENTS", 2)
    monkeypatch.setattr(written_searches, "_READ_SECONDS", -1)
    browser = await with_calls()
    body = {"principal": "Mary", "policies": [allowing("iam:*eUser")]}
    found = (await browser.post("policy/unused", body)).json
    assert found["complete"] is False
    assert found["patterns"][0]["unused"] is None
