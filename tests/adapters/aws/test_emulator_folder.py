"""The folder in which an AWS Emulator writes its keys and certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from opentrail.adapters.aws import emulator_folder
from opentrail.adapters.aws.emulator_folder import EmulatorFolder, folder_of
from tests.certificates import issue, write


def write_key(folder: Path, key_id: str, profile: str = "default") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "emulator_credentials").write_text(
        f"[{profile}]\naws_access_key_id = {key_id}\naws_secret_access_key = of {key_id}\n"
    )


@pytest.mark.parametrize("profile", ["default", "emulator"])
def test_the_key_belongs_to_the_current_run(tmp_path: Path, profile: str) -> None:
    folder = EmulatorFolder(tmp_path / "9297")
    assert folder.key() is None
    for key_id in ("AKIAFIRST", "AKIASECOND"):
        write_key(tmp_path / "9297", key_id, profile)
        key = folder.key()
        assert key is not None
        assert (key.access_key_id, key.secret_access_key) == (key_id, f"of {key_id}")


def test_only_keys_of_earlier_runs_are_exchanged(tmp_path: Path) -> None:
    folder = EmulatorFolder(tmp_path)
    for key_id in ("AKIAFIRST", "AKIASECOND"):
        write_key(tmp_path, key_id)
        folder.key()
    current = folder.key()
    assert folder.key_for("AKIAFIRST") == folder.key_for("AKIASECOND") == current
    assert folder.key_for("test") is None


def test_the_number_of_remembered_runs_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulator_folder, "_MAX_RUNS", 2)
    folder = EmulatorFolder(tmp_path)
    for key_id in ("AKIAA", "AKIABB", "AKIACCC"):
        write_key(tmp_path, key_id)
        folder.key()
    assert folder.key_for("AKIAA") is None
    assert folder.key_for("AKIABB") is not None


@pytest.mark.parametrize("text", ["", "[default]\naws_access_key_id = AKIA\n", "not ini", "[x]\n"])
def test_an_incomplete_file_changes_nothing(tmp_path: Path, text: str) -> None:
    folder = EmulatorFolder(tmp_path)
    write_key(tmp_path, "AKIAFIRST")
    before = folder.key()
    (tmp_path / "emulator_credentials").write_text(text)
    assert folder.key() == before
    write_key(tmp_path, "AKIASECONDRUN")
    after = folder.key()
    assert after is not None
    assert after.access_key_id == "AKIASECONDRUN"


def trusted(context: ssl.SSLContext) -> list[int]:
    return sorted(int(str(each["serialNumber"]), 16) for each in context.get_ca_certs())


def test_only_the_current_runs_certificate_is_trusted(tmp_path: Path) -> None:
    folder = EmulatorFolder(tmp_path)
    assert not folder.is_there
    assert folder.context().verify_mode is ssl.CERT_REQUIRED
    for _ in range(2):
        made = issue("localhost", "127.0.0.1")
        write(made, tmp_path / "ca.pem", tmp_path / "key")
        assert trusted(folder.context()) == [made[0].serial_number]
        assert folder.is_there
    unchanged = folder.context()
    assert folder.context() is unchanged
    (tmp_path / "ca.pem").write_text("half of a certifica")
    assert folder.context() is unchanged


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://127.0.0.1:9297", "9297"),
        ("https://localhost:9300/", "9300"),
        ("https://[::1]:9297", "9297"),
        ("https://127.0.0.1", "443"),
        ("http://127.0.0.1:9297", None),
        ("https://10.0.0.1:9297", None),
    ],
)
def test_emulator_has_an_https_port_of_this_machine(
    url: str, expected: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder_of.cache_clear()
    folder = folder_of(url)
    wanted = tmp_path / ".aws" / "emulator" / expected / "ca.pem" if expected else None
    assert (folder.ca if folder else None) == wanted
    folder_of.cache_clear()
