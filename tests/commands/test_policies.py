"""`opentrail policy` without a server; with one, see tests/live/test_auth.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opentrail.cli import main

DOCUMENT = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "cloudtrail:ListTrails", "Resource": "*"}],
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    monkeypatch.delenv("OPENTRAIL_DATA_DIR", raising=False)
    return folder


def policies(data: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["policy", *arguments, "--data-dir", str(data)]) == 0
    return capsys.readouterr().out


def test_a_policy_is_put_attached_listed_and_removed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ListOnly.json"
    file.write_text(json.dumps(DOCUMENT))
    assert policies(data, capsys, "put", str(file)) == "arn:aws:iam::123456789012:policy/ListOnly\n"
    assert json.loads(policies(data, capsys, "show", "ListOnly")) == DOCUMENT
    attached = policies(data, capsys, "attach", "ListOnly", "--user", "John")
    assert attached == "arn:aws:iam::123456789012:user/John: ListOnly\n"
    listed = policies(data, capsys, "list").splitlines()
    assert listed[0] == "arn:aws:iam::123456789012:policy/ListOnly"
    assert "arn:aws:iam::aws:policy/AWSCloudTrail_ReadOnlyAccess" in listed
    assert listed[-1] == "arn:aws:iam::123456789012:user/John: ListOnly"
    assert (
        policies(data, capsys, "detach", "ListOnly", "--user", "John") == "ListOnly is detached\n"
    )
    assert policies(data, capsys, "delete", "ListOnly") == "ListOnly is deleted\n"
    assert json.loads(policies(data, capsys, "list", "--json"))["Policies"] == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["attach", "Nothing", "--user", "John"], "policy 'Nothing' not found"),
        (["put", "/nowhere/A.json"], "policy file /nowhere/A.json cannot be read"),
        (["show", "Nothing"], "policy 'Nothing' not found"),
    ],
)
def test_problems_are_named(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert main(["policy", *arguments, "--data-dir", str(data)]) == 2
    assert text in capsys.readouterr().err


def test_a_key_is_created_with_a_policy(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    created = ["keys", "create", "--user", "Ann", "--policy", "SecurityAudit"]
    assert main([*created, "--data-dir", str(data)]) == 0
    assert policies(data, capsys, "list").endswith("user/Ann: SecurityAudit\n")
