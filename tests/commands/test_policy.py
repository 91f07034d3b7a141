"""`opentrail policy`: its requests and its output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opentrail.cli import main
from opentrail.commands.policy import documents_of
from opentrail.core.errors import UsageError
from opentrail.core.expression.subjects import events_of
from tests.stub_console import StubConsole

Capture = pytest.CaptureFixture[str]
NO_SESSION = "AND NOT (userIdentity.type=AssumedRole OR userIdentity.type=FederatedUser)"
ISSUER = "userIdentity.sessionContext.sessionIssuer"
USER = "arn:aws:iam::123456789012:user/ada"
ROLE = "arn:aws:iam::123456789012:role/team/deploy"
SESSION = "arn:aws:sts::123456789012:assumed-role/deploy/ci"


BASIS = {"principal": "John", "complete": True, "warning": None, "missing": []}
MADE = {
    **BASIS,
    "events": 2,
    "policies": [{"Version": "2012-10-17", "Statement": []}],
    "calls": {"allowed": 2},
    "refusedByIt": 0,
    "unverified": {},
    "unlimited": {},
    "unmapped": {},
}
COUNTS = {"allowed": 0, "denied": 0, "unknown": 0}
TESTED: dict[str, Any] = {
    **BASIS,
    "events": 3,
    "allowedCalls": {**COUNTS, "allowed": 1},
    "deniedCalls": {**COUNTS, "allowed": 2},
    "newlyDenied": [],
    "newlyAllowed": [
        {
            "action": "iam:CreateUser",
            "resource": "arn:aws:iam::123456789012:user/Mary",
            "reason": "",
            "calls": 2,
            "eventId": "e1",
            "eventTime": "2020-01-01T09:00:00Z",
        }
    ],
    "unknown": [],
}


@pytest.mark.parametrize(
    ("principal", "expression"),
    [
        ("ada", f'(user="ada" {NO_SESSION} OR {ISSUER}.userName="ada")'),
        (USER, f'principal="{USER}"'),
        (SESSION, f'principal="{SESSION}"'),
        (ROLE, f'userIdentity.sessionContext.sessionIssuer.arn="{ROLE}"'),
        ("a*", rf'(user="a\*" {NO_SESSION} OR {ISSUER}.userName="a\*")'),
    ],
)
def test_a_principal_is_found_by_name_or_arn(principal: str, expression: str) -> None:
    assert events_of(principal, "principal") == expression


@pytest.mark.parametrize("principal", ["", "a b", 'ada" OR user="john'])
def test_invalid_principals_are_refused(principal: str, capsys: Capture) -> None:
    assert main(["policy", "generate", principal]) == 2
    assert "PRINCIPAL must be the name or ARN" in capsys.readouterr().err


def test_the_server_makes_the_policy(console: StubConsole, capsys: Capture) -> None:
    console.answers({**MADE, "missing": ["positions 1 to 9"]})
    given = ["--since", "2020-01-01T00:00:00Z", "--resources", "exact", "--with-failed"]
    assert main(["policy", "generate", "John", *given]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["Version"] == "2012-10-17"
    assert "from 2 allowed calls; left out: 0 denied, 0 failed" in shown.err
    assert "missing: positions 1 to 9" in shown.err
    (asked,) = [one.path for one in console.asked]
    assert asked == (
        "/api/v1/policy?principal=John&resources=exact&since=2020-01-01T00%3A00%3A00Z"
        "&withFailed=true"
    )


def test_a_policy_of_partial_events_is_marked(console: StubConsole, capsys: Capture) -> None:
    warning = "only the newest 2 events were read"
    console.answers({**MADE, "complete": False, "warning": warning, "refusedByIt": None})
    assert main(["policy", "generate", "John"]) == 1
    shown = capsys.readouterr()
    assert f"opentrail: {warning}\n" in shown.err
    assert "not replayed, because not all calls were read" in shown.err
    console.answers({**MADE, "refusedByIt": 1, "unmapped": {"s3.amazonaws.com DeleteObjects": 3}})
    assert main(["policy", "generate", "John"]) == 1
    assert "s3.amazonaws.com DeleteObjects (3 calls)" in capsys.readouterr().err


def test_no_call_is_an_error(console: StubConsole, capsys: Capture) -> None:
    console.answers({**MADE, "events": 0, "policies": [], "warning": "it names a session"})
    assert main(["policy", "generate", "John"]) == 5
    told = capsys.readouterr().err
    assert "no call of John since 20" in told
    assert ": it names a session; give an earlier --since" in told


def test_policies_are_read_from_one_file(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
    }
    file.write_text(json.dumps([document, document]))
    assert len(documents_of(file)) == 2
    file.write_text(json.dumps(document))
    assert len(documents_of(file)) == 1
    for text, message in (
        ("{", "is not JSON"),
        ("{}", "is not valid: Missing required field Statement"),
        ("[1]", "is not valid: Syntax errors in policy"),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=message):
            documents_of(file)
    with pytest.raises(UsageError, match="cannot be read"):
        documents_of(tmp_path / "other.json")


def test_newly_allowed_calls_are_listed(
    console: StubConsole, capsys: Capture, tmp_path: Path
) -> None:
    file = tmp_path / "policy.json"
    statement = {"Effect": "Allow", "Action": "iam:*", "Resource": "*"}
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": statement}))
    console.answers(TESTED)
    assert main(["policy", "test", str(file), "--principal", "John"]) == 0
    out = capsys.readouterr().out
    assert "2 denied calls: 2 would be allowed" in out
    assert "Would be allowed, but were denied:\n  iam:CreateUser on arn:aws:iam::" in out
    assert main(["policy", "test", str(file), "--principal", "John", "--json"]) == 0
    for asked in console.asked:
        assert json.loads(asked.body)["policies"] == [json.loads(file.read_text())]
    document = json.loads(capsys.readouterr().out)
    assert document["deniedCalls"] == {"allowed": 2, "denied": 0, "unknown": 0}
    assert [row["calls"] for row in document["newlyAllowed"]] == [2]
