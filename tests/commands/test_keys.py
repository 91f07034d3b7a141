"""`opentrail keys` without a server; with one, see tests/live/test_auth.py."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from opentrail.cli import main


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    monkeypatch.delenv("OPENTRAIL_DATA_DIR", raising=False)
    return folder


def keys(data: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["keys", *arguments, "--data-dir", str(data), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_keys_are_managed_without_a_server(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    created = keys(data, capsys, "create", "--user", "John")
    assert set(created) >= {"AccessKeyId", "SecretAccessKey"}
    (listed,) = keys(data, capsys, "list")["AccessKeys"]
    assert listed["AccessKeyId"] == created["AccessKeyId"]
    assert (data / "keys" / "master.key").stat().st_mode & 0o077 == 0


def test_the_secret_is_printed_for_pasting(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "create", "--user", "John", "--data-dir", str(data)]) == 0
    shown = capsys.readouterr().out
    assert "arn:aws:iam::123456789012:user/John; its secret is shown only now" in shown
    assert "export AWS_SECRET_ACCESS_KEY=" in shown
    assert main(["keys", "list", "--data-dir", str(data)]) == 0
    listed = capsys.readouterr().out
    assert "Active    arn:aws:iam::123456789012:user/John" in listed
    assert "SECRET" not in listed.upper()


def test_a_secret_is_imported_from_standard_input(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("the secret\nthe token\n"))
    whose = ("--principal", "arn:aws:sts::111122223333:assumed-role/Dev/jo", "--session-token")
    imported = keys(data, capsys, "import", "ASIAEXAMPLE", *whose)
    assert imported["Principal"] == whose[1]


@pytest.mark.parametrize(
    ("arguments", "given", "text"),
    [
        (["create", "--user", "a", "--lifetime", "soon"], "", "--lifetime must be a number"),
        (["import", "AKIA1", "--user", "a"], "", "standard input, which is empty"),
        (["import", "AKIA1", "--user", "a"], "s\ntoken", "second line of standard input"),
        (["disable", "AKIANONE"], "", "access key 'AKIANONE' not found"),
    ],
)
def test_problems_are_named(
    data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    given: str,
    text: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(given))
    assert main(["keys", *arguments, "--data-dir", str(data)]) == 2
    assert text in capsys.readouterr().err


def test_a_missing_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "list", "--data-dir", str(tmp_path / "none")]) == 2
    assert "is not a data directory" in capsys.readouterr().err
