"""`opentrail explain`: its requests and its output."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.cli import main
from tests.stub_console import StubConsole

Capture = pytest.CaptureFixture[str]
DENIAL: dict[str, Any] = {
    "sentence": "IAM user John called CreateUser on IAM user Mary",
    "verdict": "explicit deny",
    "action": "iam:CreateUser",
    "isActionRecorded": True,
    "policyType": "identity-based policy",
    "resource": "arn:aws:iam::123456789012:user/Mary",
    "missing": ["A statement of one identity-based policy denies the action."],
    "errorCode": "AccessDenied",
    "errorMessage": "Access Denied",
}


def test_a_denied_call_is_explained(console: StubConsole, capsys: Capture) -> None:
    console.answers(DENIAL)
    assert main(["explain", "some-id"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("IAM user John called CreateUser on IAM user Mary.\n")
    assert "  verdict   explicit deny (identity-based policy)\n  action    iam:CreateUser\n" in out
    assert "  resource  arn:aws:iam::123456789012:user/Mary\n" in out
    assert "- A statement of one identity-based policy denies the action." in out
    assert [one.path for one in console.asked] == ["/api/v1/explain?event=some-id"]


def test_an_explanation_may_be_json(console: StubConsole, capsys: Capture) -> None:
    console.answers(DENIAL)
    assert main(["explain", "some-id", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == DENIAL


def test_an_allowed_call_exits_with_1(console: StubConsole, capsys: Capture) -> None:
    console.answers({**DENIAL, "verdict": "not denied"})
    assert main(["explain", "some-id"]) == 1
    assert "It was not denied." in capsys.readouterr().out


def test_an_unknown_event_is_an_error(console: StubConsole, capsys: Capture) -> None:
    error = {"error": "there is no event some-id", "code": "EventNotFound"}
    console.answers(error, status=404)
    assert main(["explain", "some-id"]) == 2
    assert "there is no event some-id" in capsys.readouterr().err
