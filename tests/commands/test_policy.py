"""`opentrail policy`: what it asks a server for, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opentrail.cli import main
from opentrail.commands.policy import expression_of, read_policies
from opentrail.core.errors import UsageError
from tests.factories import a_data_record, a_record, record_bytes
from tests.stub_console import StubConsole

Capture = pytest.CaptureFixture[str]
NO_SESSION = "AND NOT (userIdentity.type=AssumedRole OR userIdentity.type=FederatedUser)"
ISSUER = "userIdentity.sessionContext.sessionIssuer"
USER = "arn:aws:iam::123456789012:user/ada"
ROLE = "arn:aws:iam::123456789012:role/team/deploy"
SESSION = "arn:aws:sts::123456789012:assumed-role/deploy/ci"


def answer(console: StubConsole, *records: dict[str, Any], end: dict[str, Any]) -> None:
    """Lets the stub stream records, and the last line."""
    lines = [
        {"EventId": record["eventID"], "CloudTrailEvent": record_bytes(record).decode()}
        for record in records
    ]
    console.body = b"".join(json.dumps(line).encode() + b"\n" for line in [*lines, end])


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
    assert expression_of(principal) == expression


@pytest.mark.parametrize("principal", ["", "a b", 'ada" OR user="john'])
def test_what_cannot_be_a_principal_is_refused(principal: str) -> None:
    with pytest.raises(UsageError, match="PRINCIPAL must be the name or ARN"):
        expression_of(principal)


def test_all_events_of_all_regions_are_asked_for(console: StubConsole, capsys: Capture) -> None:
    answer(console, a_record(), a_data_record(), end={"events": 2})
    assert main(["policy", "generate", "John", "--since", "2020-01-01T00:00:00Z"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["Version"] == "2012-10-17"
    assert "from 2 calls that were allowed; left out: 0 denied, 0 that failed" in shown.err
    (asked,) = [one.path for one in console.asked]
    assert asked.startswith("/api/v1/events/stream?expression=%28user%3D%22John%22+AND")
    assert "since=2020-01-01T00%3A00%3A00Z" in asked
    assert "categories=all" in asked
    assert "region" not in asked


def test_no_call_is_an_error(console: StubConsole, capsys: Capture) -> None:
    answer(console, end={"events": 0})
    assert main(["policy", "generate", "John"]) == 1
    assert "there is no call of John since 20" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ({"error": "history was started again"}, "history was started again"),
        ({"EventId": "x", "CloudTrailEvent": "{}"}, "the server's answer was cut"),
    ],
)
def test_a_part_of_the_calls_is_not_enough(
    console: StubConsole, capsys: Capture, end: dict[str, Any], message: str
) -> None:
    answer(console, a_record(), end=end)
    assert main(["policy", "generate", "John"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err


def test_what_is_missing_from_event_history_is_said(console: StubConsole, capsys: Capture) -> None:
    answer(console, a_record(), end={"events": 1, "missing": ["positions 1 to 9"]})
    assert main(["policy", "generate", "John"]) == 0
    assert "missing: positions 1 to 9" in capsys.readouterr().err


def test_policies_are_read_from_one_file(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
    }
    file.write_text(json.dumps([document, document]))
    assert len(read_policies(file)) == 2
    file.write_text(json.dumps(document))
    assert len(read_policies(file)) == 1
    for text, message in (
        ("{", "is not JSON"),
        ("{}", "is not valid: Missing required field Statement"),
        ("[1]", "is not valid: Syntax errors in policy"),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=message):
            read_policies(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_policies(tmp_path / "other.json")


def test_newly_allowed_calls_are_listed(
    console: StubConsole, capsys: Capture, tmp_path: Path
) -> None:
    file = tmp_path / "policy.json"
    statement = {"Effect": "Allow", "Action": "iam:*", "Resource": "*"}
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": statement}))
    denied = a_record(errorCode="AccessDenied")
    answer(console, denied, denied, a_record(), end={"events": 3})
    assert main(["policy", "test", str(file), "--principal", "John"]) == 0
    out = capsys.readouterr().out
    assert "2 calls that were denied: 2 would be allowed" in out
    assert "Would be allowed, and were denied:\n  iam:CreateUser on arn:aws:iam::" in out
    assert main(["policy", "test", str(file), "--principal", "John", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["deniedCalls"] == {"allowed": 2, "denied": 0, "unknown": 0}
    assert [row["calls"] for row in document["newlyAllowed"]] == [2]
