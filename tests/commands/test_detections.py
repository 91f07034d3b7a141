"""`opentrail detections`: its requests and its output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opentrail.cli import main
from tests.detections.sample import sample_rule
from tests.factories import a_record, record_bytes
from tests.stub_console import Asked, StubConsole

Capture = pytest.CaptureFixture[str]
USERS = "{s: {eventName: CreateUser}, condition: s}"
NEVER = "{s: {status: x}, condition: s}"


def streamed(*records: dict[str, Any]) -> bytes:
    lines = [
        {"EventId": record["eventID"], "CloudTrailEvent": record_bytes(record).decode()}
        for record in records
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in [*lines, {"end": True}])


def a_file(folder: Path, name: str = "users", detection: str = USERS) -> str:
    file = folder / f"{name}.yml"
    file.write_text(sample_rule(name, detection))
    return str(file)


def test_a_test_counts_past_matches_of_rules(
    console: StubConsole, capsys: Capture, tmp_path: Path
) -> None:
    console.body = streamed(a_record(eventID="an-id"))
    never = a_file(tmp_path, "roles", "{s: {eventName: CreateRole}, condition: s}")
    assert main(["detections", "test", a_file(tmp_path), never, "--since", "2020-01-01"]) == 0
    shown = capsys.readouterr()
    assert shown.out == (
        "users (medium): 1 match, 2020-01-01T09:00:00Z to 2020-01-01T09:00:00Z\n"
        "  2020-01-01T09:00:00Z  CreateUser by arn:aws:iam::123456789012:user/John: an-id\n"
        "roles (medium): 0 matches\n"
    )
    assert shown.err == "read 1 event that the rules could match\n"
    asked = console.asked[0].path
    assert "expression=eventName%3A%22createrole%22+OR+eventName%3A%22createuser%22" in asked
    assert "since=2020-01-01" in asked


def test_an_unmatchable_rule_is_named(
    console: StubConsole, capsys: Capture, tmp_path: Path
) -> None:
    console.body = streamed(a_record())
    never = a_file(tmp_path, "never", NEVER)
    assert main(["detections", "test", a_file(tmp_path), never, "--json"]) == 1
    shown = capsys.readouterr()
    reason = "it can never match: records have no member 'status'"
    assert shown.err == f"refused: rule never: {reason}\n"
    document = json.loads(shown.out)
    assert document["refused"] == {"never": reason}
    assert [rule["rule"] for rule in document["rules"]] == ["users"]
    assert main(["detections", "test", never]) == 1


def test_rules_are_enabled_listed_and_disabled(
    console: StubConsole, capsys: Capture, tmp_path: Path
) -> None:
    row = {"name": "users", "level": "high", "matches": 2, "lastMatch": "2020-01-01T09:00:00Z"}

    def react(asked: Asked) -> tuple[int, Any]:
        return 200, {"rules": [row], "missing": []} if asked.method == "GET" else row

    console.react = react
    assert main(["detections", "enable", a_file(tmp_path)]) == 0
    assert main(["detections", "list"]) == 0
    assert main(["detections", "disable", "users"]) == 0
    assert capsys.readouterr().out == (
        "enabled: users (medium)\n"
        "users (high): 2 matches, the last at 2020-01-01T09:00:00Z\n"
        "disabled: users\n"
    )
    enabled, _, disabled = console.asked
    rule = json.loads(enabled.body)["rule"]
    assert rule["condition"] == {"type": "OneOf", "field": "eventName", "values": ["CreateUser"]}
    assert (disabled.path, disabled.body) == (
        "/api/v1/detections/disable",
        b'{"name": "users"}',
    )
    for arguments in (["enable", a_file(tmp_path)], ["list"], ["disable", "users"]):
        assert main(["detections", *arguments, "--json"]) == 0
        assert isinstance(json.loads(capsys.readouterr().out), dict)


def test_an_empty_list_of_rules_is_reported(console: StubConsole, capsys: Capture) -> None:
    console.answers({"rules": [], "missing": []})
    assert main(["detections", "list"]) == 0
    assert "no rules are enabled: 'opentrail detections enable RULES'" in capsys.readouterr().err


def test_starter_rules_are_listed_printed_and_enabled(
    console: StubConsole, capsys: Capture
) -> None:
    assert main(["detections", "starter"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 30
    [line] = [line for line in lines if line.startswith("trail_stopped ")]
    assert line.split(maxsplit=3)[1:] == ["critical", "T1562.008", "Trail stopped or deleted"]
    assert main(["detections", "starter", "trail_stopped"]) == 0
    assert capsys.readouterr().out.startswith("title: Trail stopped or deleted\n")
    assert main(["detections", "starter", "trail_stopped", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["falsepositives"]
    assert main(["detections", "starter", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rules"]) == 30
    console.answers({})
    assert main(["detections", "enable", "starter:trail_stopped", "starter:root_activity"]) == 0
    assert (
        capsys.readouterr().out
        == "enabled: trail_stopped (critical)\nenabled: root_activity (high)\n"
    )
    assert [json.loads(asked.body)["rule"]["name"] for asked in console.asked] == [
        "trail_stopped",
        "root_activity",
    ]
    assert main(["detections", "enable", "starter:none"]) == 2
    assert "there is no starter rule 'none'" in capsys.readouterr().err
