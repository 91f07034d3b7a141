"""The command that verifies a data directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.keys.rsa import RsaSigner
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.cli import main
from opentrail.ports.control import Put
from tests.adapters.duckdb.worlds import World
from tests.factories import a_new_entry
from tests.fakes import run


def made(folder: Path) -> Path:
    async def story() -> None:
        world = World(folder)
        await world.write(30)
        await world.seal((1, 20))
        await world.journal.close()

    folder.mkdir()
    run(story())
    return folder


def test_a_whole_directory_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path / "data")
    assert main(["verify-store", "--data-dir", str(folder)]) == 0
    output = capsys.readouterr().out
    assert output == "30 records verified in 1 journal segment, 1 sealed file: all good\n"


def test_damage_is_printed_by_file_and_position(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(tmp_path / "data")
    (sealed,) = (folder / "history").glob("*.duckdb")
    sealed.write_bytes(sealed.read_bytes()[:-1])
    assert main(["verify-store", "--data-dir", str(folder)]) == 1
    output = capsys.readouterr().out
    assert f"{sealed.name}, positions 1 to 20: its content is not what its name says\n" in output
    assert output.endswith("1 problem\n")
    assert main(["verify-store", "--data-dir", str(folder), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [(one["first"], one["last"]) for one in document["findings"]] == [(1, 20)]


def test_missing_journal_is_named_by_the_state_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(tmp_path / "data")

    async def mark() -> None:
        control = SqlControl.in_file(folder / "state.db")
        await control.apply([Put("mark", "journal", {"position": 30})])
        await control.close()

    run(mark())
    assert main(["verify-store", "--data-dir", str(folder)]) == 0
    capsys.readouterr()
    for segment in (folder / "journal").iterdir():
        segment.unlink()
    assert main(["verify-store", "--data-dir", str(folder)]) == 1
    said = "journal, positions 21 to 30: the journal ends before positions that were written\n"
    assert said in capsys.readouterr().out


def test_an_unreadable_state_store_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(tmp_path / "data")
    (folder / "state.db").write_bytes(b"this is not a database " * 100)
    assert main(["verify-store", "--data-dir", str(folder)]) == 1
    assert "state.db: state store cannot be opened" in capsys.readouterr().out


def test_another_folder_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify-store", "--data-dir", str(tmp_path)]) == 2
    assert "is not a data directory" in capsys.readouterr().err


@pytest.mark.slow
def test_a_removed_signing_key_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(tmp_path / "data")
    (folder / "keys").mkdir(mode=0o700)

    async def sign() -> None:
        control = SqlControl.in_file(folder / "state.db")
        await RsaSigner(folder / "keys", SystemClock(), timedelta(days=90), control).current()
        await control.apply([Put("mark", "journal", {"position": 30})])
        await control.close()

    run(sign())
    assert main(["verify-store", "--data-dir", str(folder)]) == 0
    (file,) = (folder / "keys").iterdir()
    file.unlink()
    capsys.readouterr()
    assert main(["verify-store", "--data-dir", str(folder)]) == 1
    assert f"keys: signing key {file.name} is missing" in capsys.readouterr().out
    assert main(["doctor", "--data-dir", str(folder)]) == 1
    assert f"signing key {file.name} is missing" in capsys.readouterr().out


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.slow
def test_a_read_only_copy_is_verified_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(tmp_path / "data")

    async def killed() -> None:
        """Leaves a journal and a control store like a kill: with write-ahead logs."""
        journal = SqliteJournal(folder / "journal")
        control = SqlControl.in_file(folder / "state.db")
        await journal.append([a_new_entry() for _ in range(5)])
        await control.apply([Put("mark", "journal", {"position": 35})])
        shutil.copytree(folder, tmp_path / "killed")
        await journal.close()
        await control.close()

    run(killed())
    for copy, records in ((folder, 35), (tmp_path / "killed", 35)):
        for path in copy.rglob("*-shm"):
            path.unlink()
        assert any(copy.rglob("*-wal")) == (copy != folder)
        before = contents(copy)
        with not_writable(copy):
            assert main(["verify-store", "--data-dir", str(copy)]) == 0
        assert capsys.readouterr().out.startswith(f"{records} records verified")
        assert contents(copy) == before


@contextmanager
def not_writable(folder: Path) -> Iterator[None]:
    """Makes a folder read-only; root can still write, so that only `contents` can tell."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for each in folders:
        each.chmod(0o500)
    yield
    for each in folders:
        each.chmod(0o700)
