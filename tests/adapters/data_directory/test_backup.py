"""One consistent point of a data directory, and archives that reveal every change."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.adapters.data_directory import backup as data_backup
from opentrail.adapters.data_directory.backup import (
    MANIFEST,
    Manifest,
    read_archive,
    snapshot,
    write_archive,
)
from opentrail.adapters.data_directory.files import DataDirectory, sha256_of
from opentrail.adapters.store_check import StoreCheck
from opentrail.core.errors import DataTooNew, StorageFailed, UsageError
from tests.adapters.duckdb.worlds import World
from tests.fakes import run

CREATED = "2026-01-01T00:00:00Z"


def ignore(*_: int) -> None:
    return None


def copy_nothing(_target: Path) -> None:
    return None


def a_data_directory(root: Path) -> DataDirectory:
    """Returns a data directory with 30 records, 20 of them sealed."""
    data = DataDirectory(root)
    data.open()
    data.close()

    async def story() -> None:
        world = World(root)
        await world.write(30)
        await world.seal((1, 20))
        await world.journal.close()

    run(story())
    return data


# Snapshots


def test_a_snapshot_has_every_record(tmp_path: Path) -> None:
    data = a_data_directory(tmp_path / "data")
    with snapshot(data, copy_nothing) as (folder, position):
        assert position == 30
        check = StoreCheck(folder / "journal", folder / "history", ignore)
        assert list(check.findings()) == []
        assert (check.files, check.records) == (1, 30)
        (linked,) = (folder / "history").glob("*.duckdb")
        assert linked.samefile(data.history / linked.name)
        assert (folder / "version").read_text() == (data.root / "version").read_text()
    assert not folder.exists()


def test_the_control_store_is_copied_before_the_records(tmp_path: Path) -> None:
    data = a_data_directory(tmp_path / "data")

    def copy_control(target: Path) -> None:
        assert not (target.parent / "journal").exists()
        assert not (target.parent / "history").exists()
        list_files(target)

    with snapshot(data, copy_control) as (folder, _):
        assert (folder / "state.db").exists()


STORE = "0a1b2c3d-0000-4000-8000-00000000000a"


def list_files(state: Path, last: int = 0) -> None:
    """Writes a control store; if `last` is given, it lists a store's files up to there."""
    with closing(sqlite3.connect(state)) as database:
        database.execute("CREATE TABLE documents (kind TEXT, key TEXT, body TEXT)")
        if last:
            body = json.dumps({"first": 1, "last": last, "name": None})
            key = f"installation/{STORE}/{1:020d}"
            database.execute(
                "INSERT INTO documents VALUES ('event-data-store-file', ?, ?)", [key, body]
            )
        database.commit()


def with_store(data: DataDirectory) -> Path:
    """Adds the files of an event data store; returns its folder."""
    folder = data.stores / STORE
    folder.mkdir(parents=True)
    for name in (
        f"{1:020d}-{30:020d}-{'0' * 16}.parquet",
        "17.4.tmp",
        f"{31:020d}-{32:020d}.expired",
    ):
        (folder / name).write_text(name)
    return folder


def test_a_snapshot_has_the_files_of_stores(tmp_path: Path) -> None:
    data = a_data_directory(tmp_path / "data")
    store = with_store(data)
    with snapshot(data, copy_nothing) as (folder, _):
        copied = sorted((folder / "stores" / STORE).iterdir())
        assert [path.suffix for path in copied] == [".parquet", ".expired"]
        assert copied[0].samefile(store / copied[0].name)
        archive = tmp_path / "backup.tar"
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = [(path.relative_to(folder).as_posix(), path) for path in paths]
        sizes = {name: (path.stat().st_size, sha256_of(path)) for name, path in files}
        write_archive(archive, files, Manifest("1", CREATED, 30, sizes), ignore)
    restored = tmp_path / "restored"
    restored.mkdir()
    read_archive(archive, restored, ignore)
    assert sorted(path.name for path in (restored / "stores" / STORE).iterdir()) == [
        path.name for path in copied
    ]


def test_files_are_as_new_as_their_list(tmp_path: Path) -> None:
    data = a_data_directory(tmp_path / "data")
    store, name = with_store(data), f"import-{1:020d}-{5:020d}-{'0' * 16}.parquet"

    def copy_control(_: Path) -> None:
        (store / name).touch()

    with snapshot(data, copy_control) as (folder, _):
        assert (folder / "stores" / STORE / name).exists()


def test_journal_trimmed_beyond_a_store_restarts_the_snapshot(tmp_path: Path) -> None:
    data = a_data_directory(tmp_path / "data")
    with_store(data)
    trimmed, ends = data.journal / f"{21:020d}.db", list[int]()

    def copy_control(target: Path) -> None:
        ends.append(20 if ends else 10)
        list_files(target, ends[-1])
        # The server then writes more of the store, and trims the journal.
        (segment,) = data.journal.glob("*.db")
        if segment != trimmed:
            segment.rename(trimmed)

    with snapshot(data, copy_control):
        assert ends == [10, 20]


def test_an_empty_data_directory_has_a_snapshot(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "data")
    data.open()
    data.close()
    with snapshot(data, copy_nothing) as (_, position):
        assert position == 0


def test_a_concurrent_merge_restarts_the_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = a_data_directory(tmp_path / "data")
    (sealed,) = data.history.glob("*.duckdb")
    copied = []

    def copy_control(_target: Path) -> None:
        copied.append(1)
        if len(copied) == 2:
            shutil.copy(aside, sealed)

    aside = tmp_path / "aside"
    link = Path.hardlink_to

    def link_and_remove(self: Path, target: Path) -> None:
        link(self, target)
        if not aside.exists():
            sealed.rename(aside)

    monkeypatch.setattr(Path, "hardlink_to", link_and_remove)
    with snapshot(data, copy_control) as (folder, _):
        assert len(list((folder / "history").glob("*.duckdb"))) == 1
    assert len(copied) == 2


def test_a_snapshot_fails_if_the_directory_keeps_changing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = a_data_directory(tmp_path / "data")
    monkeypatch.setattr(data_backup, "_link_history", lambda *_: False)
    with pytest.raises(StorageFailed, match="changes faster"), snapshot(data, copy_nothing):
        pass
    assert not list(data.root.glob(".backup-*"))


def test_leftovers_of_killed_backup_are_removed(tmp_path: Path) -> None:
    data = a_data_directory(tmp_path / "data")
    (data.root / ".backup-999999999").mkdir()
    with snapshot(data, copy_nothing):
        pass
    assert not list(data.root.glob(".backup-*"))


# Archives


def an_archive(folder: Path, contents: dict[str, bytes]) -> tuple[Path, Manifest]:
    source = folder / "source"
    files = []
    for name, content in contents.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        files.append((name, path))
    sizes = {name: (path.stat().st_size, sha256_of(path)) for name, path in files}
    manifest = Manifest("1.2.3", CREATED, 7, sizes)
    target = folder / "backup.tar"
    write_archive(target, files, manifest, ignore)
    return target, manifest


names = st.sampled_from(["state.db", "version", "journal/1.db", "journal/2.db", "history/a"])


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.dictionaries(names, st.binary(max_size=2_000)))
def test_written_values_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("archive")
    target, manifest = an_archive(folder, contents)
    restored = folder / "restored"
    restored.mkdir()
    assert read_archive(target, restored, ignore) == manifest
    assert {name: (restored / name).read_bytes() for name in contents} == contents


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_changed_byte_of_a_file_shows(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("archive")
    target, _ = an_archive(folder, {"journal/1.db": b"content " * 200})
    whole = target.read_bytes()
    begin = whole.index(b"content ")
    at = data.draw(st.integers(begin, begin + 1_599))
    target.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    restored = folder / "restored"
    restored.mkdir()
    with pytest.raises(StorageFailed, match=r"is damaged: 1\.db"):
        read_archive(target, restored, ignore)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_cut_backup_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("archive")
    target, _ = an_archive(folder, {"journal/1.db": b"1" * 900, "journal/2.db": b"2" * 900})
    whole = target.read_bytes()
    end = whole.rindex(b"2" * 900) + 900
    target.write_bytes(whole[: data.draw(st.integers(0, end - 1))])
    restored = folder / "restored"
    restored.mkdir()
    with pytest.raises((StorageFailed, UsageError)):
        read_archive(target, restored, ignore)


@pytest.mark.parametrize("path", ["../escaped", "/escaped", "a/../../escaped", "a/b/c", "", "."])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    manifest = {
        "format": 1,
        "dataVersion": 1,
        "opentrailVersion": "1.2.3",
        "created": CREATED,
        "position": 1,
        "files": [{"path": path, "size": 1, "sha256": "00"}],
    }
    target = tmp_path / "backup.tar"
    with tarfile.open(target, "w") as archive:
        for name, content in ((MANIFEST, json.dumps(manifest).encode()), (path, b"x")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    restored = tmp_path / "restored"
    restored.mkdir()
    with pytest.raises(UsageError, match="manifest"):
        read_archive(target, restored, ignore)
    assert list(restored.iterdir()) == []


def test_a_file_outside_the_manifest_is_refused(tmp_path: Path) -> None:
    target, _ = an_archive(tmp_path, {"journal/1.db": b"1"})
    with tarfile.open(target, "a") as archive:
        archive.addfile(tarfile.TarInfo("journal/2.db"))
    restored = tmp_path / "restored"
    restored.mkdir()
    with pytest.raises(StorageFailed, match="which it should not"):
        read_archive(target, restored, ignore)


def test_a_backup_of_a_newer_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_backup, "DATA_VERSION", 99)
    target, _ = an_archive(tmp_path, {"journal/1.db": b"1"})
    monkeypatch.undo()
    with pytest.raises(DataTooNew, match=r"made by opentrail 1\.2\.3: upgrade"):
        read_archive(target, tmp_path, ignore)


@pytest.mark.parametrize("content", [b"", b"text", b"\0" * 10_240])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    target = tmp_path / "backup.tar"
    target.write_bytes(content)
    with pytest.raises(UsageError, match="is not a backup"):
        read_archive(target, tmp_path, ignore)


def test_a_failed_backup_leaves_no_file(tmp_path: Path) -> None:
    manifest = Manifest("1.2.3", CREATED, 7, {"gone": (1, "00")})
    with pytest.raises(StorageFailed, match="cannot be written"):
        write_archive(tmp_path / "backup.tar", [("gone", tmp_path / "gone")], manifest, ignore)
    assert list(tmp_path.iterdir()) == []
