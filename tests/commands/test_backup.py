"""`opentrail backup` and `opentrail restore`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.cli import main
from opentrail.commands.backup import PASSPHRASE_VARIABLE
from opentrail.core.errors import StorageFailed
from opentrail.ports.control import Put
from tests import postgres
from tests.adapters.data_directory.test_backup import a_data_directory
from tests.fakes import PowerCutError, run

Capture = pytest.CaptureFixture[str]
KEY = b"-----a private key-----"


async def put(control: SqlControl) -> None:
    await control.apply([Put("trail", "t1", {"name": "my-trail"}, 0)])
    await control.apply([Put("trail", "t1", {"name": "changed"}, 1)])
    await control.apply([Put("mark", "journal", {"position": 30})])
    await control.close()


async def trail_of(control: SqlControl) -> tuple[int, object]:
    found = await control.get("trail", "t1")
    await control.close()
    assert found is not None
    return found.version, found.document["name"]


@pytest.fixture
def data(empty_folder: Path) -> Path:
    root = empty_folder / "data"
    directory = a_data_directory(root)
    run(put(SqlControl.in_file(directory.state)))
    (root / "keys" / "master.key").write_bytes(KEY)
    return root


@pytest.mark.slow
def test_a_backup_is_restored_elsewhere(data: Path, capsys: Capture) -> None:
    assert main(["backup", "b.tar", "--data-dir", str(data)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("b.tar: all up to position 30, ")
    assert "without keys/" in out
    assert KEY not in Path("b.tar").read_bytes()
    assert main(["restore", "b.tar", "--data-dir", "new"]) == 0
    assert capsys.readouterr().out.startswith("new: all up to position 30, ")
    assert main(["verify-store", "--data-dir", "new"]) == 0
    assert "30 records verified" in capsys.readouterr().out
    assert run(trail_of(SqlControl.in_file(Path("new/state.db")))) == (2, "changed")
    assert list(Path("new/keys").iterdir()) == []
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_backup_is_restored_into_the_current_folder(
    data: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["backup", "b.tar", "--data-dir", str(data)]) == 0
    backup, new = Path("b.tar").resolve(), Path("new").resolve()
    new.mkdir()
    monkeypatch.chdir(new)
    assert main(["restore", str(backup), "--data-dir", "."]) == 0
    assert main(["verify-store", "--data-dir", str(new)]) == 0
    assert "30 records verified" in capsys.readouterr().out


@pytest.mark.slow
def test_a_backup_is_restored_into_an_empty_folder(data: Path) -> None:
    assert main(["backup", "b.tar", "--data-dir", str(data)]) == 0
    new = Path("new")
    (new / "lost+found").mkdir(parents=True)
    folder = new.stat().st_ino
    assert main(["restore", "b.tar", "--data-dir", "new"]) == 0
    assert new.stat().st_ino == folder, "a mount point cannot be replaced"
    assert main(["verify-store", "--data-dir", "new"]) == 0
    assert {path.name for path in new.iterdir() if path.name.startswith(".")} == set()
    assert (new / "version").read_bytes() == (data / "version").read_bytes()


def test_no_server_starts_on_a_partial_backup(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore that ends between two files leaves a folder that later commands refuse."""
    assert main(["backup", "b.tar", "--data-dir", str(data)]) == 0
    Path("new").mkdir()
    rename = Path.rename

    def cut_power_before_the_journal(self: Path, target: Path) -> Path:
        if self.name == "journal":
            raise PowerCutError
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", cut_power_before_the_journal)
    with pytest.raises(PowerCutError):
        main(["restore", "b.tar", "--data-dir", "new"])
    with pytest.raises(StorageFailed, match="being restored"):
        DataDirectory(Path("new")).open()


@pytest.mark.slow
def test_keys_are_encrypted_with_a_passphrase(
    data: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["backup", "b.tar", "--data-dir", str(data), "--with-keys"]
    assert main(arguments) == 2
    assert PASSPHRASE_VARIABLE in capsys.readouterr().err
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "right")
    assert main(arguments) == 0
    assert KEY not in Path("b.tar").read_bytes()
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "wrong")
    assert main(["restore", "b.tar", "--data-dir", "new"]) == 2
    assert "passphrase of the backup's keys is wrong" in capsys.readouterr().err
    monkeypatch.delenv(PASSPHRASE_VARIABLE)
    assert main(["restore", "b.tar", "--data-dir", "new"]) == 2
    assert "--without-keys" in capsys.readouterr().err
    assert not Path("new").exists()
    assert main(["restore", "b.tar", "--data-dir", "new", "--without-keys"]) == 0
    assert list(Path("new/keys").iterdir()) == []
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "right")
    assert main(["restore", "b.tar", "--data-dir", "other"]) == 0
    assert Path("other/keys/master.key").read_bytes() == KEY
    assert Path("other/keys/master.key").stat().st_mode & 0o077 == 0


def test_existing_files_are_not_overwritten(data: Path, capsys: Capture) -> None:
    Path("b.tar").write_bytes(b"precious")
    arguments = ["backup", "b.tar", "--data-dir", str(data)]
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert Path("b.tar").read_bytes() == b"precious"
    assert main([*arguments, "--overwrite"]) == 0
    assert main(["restore", "b.tar", "--data-dir", str(data)]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_a_damaged_directory_is_backed_up_and_reported(data: Path, capsys: Capture) -> None:
    (sealed,) = (data / "history").glob("*.duckdb")
    content = sealed.read_bytes()
    sealed.write_bytes(content[:-1])
    assert main(["backup", "b.tar", "--data-dir", str(data), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert [sealed.name in finding for finding in answer["findings"]] == [True]
    assert main(["restore", "b.tar", "--data-dir", "new"]) == 1
    assert f"{sealed.name}, positions 1 to 20" in capsys.readouterr().out


@pytest.mark.usefixtures("empty_folder")
def test_wrong_files_and_folders_are_named(capsys: Capture) -> None:
    assert main(["backup", "b.tar"]) == 2
    assert "opentrail-data is not a data directory" in capsys.readouterr().err
    assert main(["restore", "gone.tar"]) == 2
    assert "there is no backup gone.tar" in capsys.readouterr().err
    Path("b.tar").write_text("text")
    assert main(["restore", "b.tar"]) == 2
    assert "b.tar is not a backup" in capsys.readouterr().err
    assert not Path("opentrail-data").exists()


@pytest.mark.slow
def test_a_journal_moves_to_postgresql_with_its_positions(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert main(["backup", "b.tar", "--data-dir", str(data)]) == 0
    url = postgres.shared_server().new_database()
    monkeypatch.setenv("OPENTRAIL_JOURNAL", url)
    monkeypatch.setenv("OPENTRAIL_CONTROL_STORE", url)
    assert main(["restore", "b.tar", "--data-dir", "new"]) == 0
    assert list(Path("new/journal").glob("*.db")) == []
    assert main(["verify-store", "--data-dir", "new"]) == 0
    assert "30 records verified" in capsys.readouterr().out
    assert main(["restore", "b.tar", "--data-dir", "again"]) == 2
    assert "the journal on PostgreSQL is not empty" in capsys.readouterr().err
    assert not Path("again").exists()
    assert run(trail_of(SqlControl(url))) == (2, "changed")


@pytest.mark.slow
def test_a_control_store_on_postgresql_is_copied(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    server = postgres.shared_server()
    source, target = (server.new_database() for _ in range(2))
    run(put(SqlControl(source)))
    monkeypatch.setenv("OPENTRAIL_CONTROL_STORE", source)
    assert main(["backup", "b.tar", "--data-dir", str(data)]) == 0
    assert main(["restore", "b.tar", "--data-dir", "other"]) == 2
    assert "not empty" in capsys.readouterr().err
    monkeypatch.setenv("OPENTRAIL_CONTROL_STORE", target)
    assert main(["restore", "b.tar", "--data-dir", "new"]) == 0
    assert run(trail_of(SqlControl(target))) == (2, "changed")
    assert not list(Path("new").glob("state.db*"))
