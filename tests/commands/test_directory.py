"""`opentrail directory`, without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opentrail.cli import main

KEY = "AKIAIOSFODNN7EXAMPLE"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def data(empty_folder: Path) -> Path:
    folder = empty_folder / "data"
    folder.mkdir(mode=0o700)
    return folder


def directory(data: Path, *arguments: str) -> int:
    return main(["directory", *arguments, "--data-dir", str(data)])


def test_a_key_is_named_listed_and_removed(data: Path, capsys: Capture) -> None:
    assert directory(data, "list") == 0
    assert "opentrail directory add KEY-ID" in capsys.readouterr().out
    assert directory(data, "add", KEY, "--user", "alice", "--account", "111122223333") == 0
    said = f"new calls of {KEY} are recorded as IAM user alice of account 111122223333\n"
    assert capsys.readouterr().out == said
    assert directory(data, "list") == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [KEY, "alice", "111122223333"]
    assert directory(data, "list", "--json") == 0
    (one,) = json.loads(capsys.readouterr().out)["keys"]
    assert one == {"accessKeyId": KEY, "user": "alice", "account": "111122223333"}
    assert directory(data, "remove", KEY) == 0
    assert "the caller of its new calls is unknown" in capsys.readouterr().out


@pytest.mark.parametrize(("key", "warns"), [("AKIA", True), (KEY, False), ("test", False)])
def test_a_cut_key_is_named_with_a_warning(
    data: Path, capsys: Capture, key: str, warns: bool
) -> None:
    assert directory(data, "add", key, "--user", "alice") == 0
    assert ("AWS's key ids have 20: is it whole?" in capsys.readouterr().err) is warns


def test_a_key_in_the_file_is_changed_there(data: Path, capsys: Capture) -> None:
    file = data.parent / "opentrail.toml"
    file.write_text(f"[directory.{KEY}]\nroot = true\n")
    assert directory(data, "add", KEY, "--user", "alice", "--config", str(file)) == 2
    assert "named in the file given by --config" in capsys.readouterr().err
    assert directory(data, "list", "--config", str(file)) == 0
    assert "(root)" in capsys.readouterr().out


def test_an_unknown_key_cannot_be_removed(data: Path, capsys: Capture) -> None:
    assert directory(data, "remove", KEY) == 2
    assert "opentrail directory list" in capsys.readouterr().err
