"""`opentrail explain`: what it asks, and what it prints."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.cli import main
from tests.factories import a_record, record_bytes
from tests.stub_console import Asked, StubConsole

Capture = pytest.CaptureFixture[str]
MESSAGE = (
    "User: arn:aws:iam::123456789012:user/John is not authorized to perform: iam:CreateUser on "
    "resource: arn:aws:iam::123456789012:user/Mary with an explicit deny in an identity-based "
    "policy"
)


def answer(console: StubConsole, record: dict[str, Any] | None) -> None:
    def react(asked: Asked) -> tuple[int, Any]:
        if record is None:
            return 200, {"events": []}
        return 200, {"events": [{"CloudTrailEvent": record_bytes(record).decode()}]}

    console.react = react


def test_a_denied_call_is_explained(console: StubConsole, capsys: Capture) -> None:
    record = a_record(errorCode="AccessDenied", errorMessage=MESSAGE)
    answer(console, record)
    assert main(["explain", record["eventID"]]) == 0
    out = capsys.readouterr().out
    said = "On January 1, 2020 at 9:00 AM UTC, IAM user John called CreateUser on IAM user Mary"
    assert out.startswith(said)
    assert "  verdict   explicit deny (identity-based policy)\n  action    iam:CreateUser\n" in out
    assert "  resource  arn:aws:iam::123456789012:user/Mary\n" in out
    assert "- A statement of one identity-based policy denies the action." in out
    (asked,) = [one.path for one in console.asked]
    assert f"expression=id%3D%22{record['eventID']}%22&categories=all" in asked


def test_an_explanation_may_be_json(console: StubConsole, capsys: Capture) -> None:
    answer(console, a_record(errorCode="AccessDenied", errorMessage="Access Denied"))
    assert main(["explain", "some-id", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["action"]) == ("not recorded", "iam:CreateUser")
    assert document["isActionRecorded"] is False
    assert document["errorMessage"] == "Access Denied"


def test_a_call_that_was_not_denied_exits_with_1(console: StubConsole, capsys: Capture) -> None:
    answer(console, a_record())
    assert main(["explain", "some-id"]) == 1
    assert "It was not denied." in capsys.readouterr().out


@pytest.mark.parametrize("event_id", ["", 'a" OR user="b', "a\\b"])
def test_what_is_no_id_is_refused(console: StubConsole, capsys: Capture, event_id: str) -> None:
    assert main(["explain", event_id]) == 2
    assert "EVENT-ID must be the id of an event" in capsys.readouterr().err
    assert console.asked == []


def test_an_unknown_event_is_an_error(console: StubConsole, capsys: Capture) -> None:
    answer(console, None)
    assert main(["explain", "some-id"]) == 2
    assert "there is no event some-id" in capsys.readouterr().err
