"""Durable writes, and the lock that keeps a second server out."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.files import DataDirectory, sync_folder, write_durably
from opentrail.core.errors import DataDirectoryInUse, DataTooNew, StorageFailed
from opentrail.core.version import DATA_VERSION
from tests.fakes import TIMEOUT_SECONDS, fill, small_disk


@contextmanager
def opened(root: Path) -> Iterator[DataDirectory]:
    directory = DataDirectory(root)
    directory.open()
    try:
        yield directory
    finally:
        directory.close()


def test_a_written_file_leaves_no_other_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for content in (b"first", b"", b"x" * 100_000):
        write_durably(file, content)
        assert file.read_bytes() == content
        assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_its_owner_can_read_a_written_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_durably(tmp_path / "secret", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


@pytest.mark.anomaly
def test_a_failed_write_leaves_only_the_old_file(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        write_durably(disk / "file", b"old")
        fill(disk, leave_kilobytes=8)
        with pytest.raises(OSError, match="No space"):
            write_durably(disk / "file", b"new" * 10_000)
        assert (disk / "file").read_bytes() == b"old"
        assert sorted(path.name for path in disk.iterdir()) == ["file", "filler"]


def test_file_and_folder_get_a_full_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, where `fsync` alone does not."""
    synced: list[tuple[int, str]] = []

    def full_sync(descriptor: int, number: int) -> None:
        synced.append((number, str(Path(f"/proc/self/fd/{descriptor}").readlink())))

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", full_sync)
    write_durably(tmp_path / "file", b"content")
    (_, file), folder = synced
    assert file.startswith(f"{tmp_path}/.file.")
    assert folder == (51, str(tmp_path))


def test_syncing_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    sync_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "nowhere")


def test_opening_makes_folders_only_for_the_owner(tmp_path: Path) -> None:
    with opened(tmp_path / "deep" / "data") as directory:
        for folder in (directory.root, directory.journal, directory.history, directory.keys):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (directory.root / "version").read_text() == f"{DATA_VERSION}\n"
        assert (directory.root / "lock").read_text() == f"{os.getpid()}\n"


def test_a_reopened_directory_keeps_its_content(tmp_path: Path) -> None:
    with opened(tmp_path) as directory:
        (directory.keys / "kept").write_text("x")
    with opened(tmp_path) as directory:
        assert (directory.keys / "kept").read_text() == "x"


@pytest.mark.slow
def test_second_server_is_refused_with_the_firsts_pid(tmp_path: Path) -> None:
    with opened(tmp_path):
        with pytest.raises(DataDirectoryInUse, match=rf"process id {os.getpid()}$") as refused:
            DataDirectory(tmp_path).open()
        assert str(tmp_path) in str(refused.value)
        assert refused.value.exit_code == 3
    with opened(tmp_path):
        pass


HOLDER = """
import sys, time
from pathlib import Path
from opentrail.adapters.data_directory.files import DataDirectory
DataDirectory(Path(sys.argv[1])).open()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.anomaly
def test_a_killed_holder_leaves_no_lock_behind(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(DataDirectoryInUse, match=rf"process id {child.pid}$"):
            DataDirectory(tmp_path).open()
        child.send_signal(signal.SIGKILL)
        child.wait(TIMEOUT_SECONDS)
    with opened(tmp_path) as directory:
        assert (directory.root / "lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.slow
def test_a_refused_directory_may_be_opened_later(tmp_path: Path) -> None:
    second = DataDirectory(tmp_path)
    with opened(tmp_path):
        with pytest.raises(DataDirectoryInUse):
            second.open()
        second.close()
    second.open()
    second.close()


def test_data_of_a_newer_layout_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    version = tmp_path / "version"
    version.write_text(f"{DATA_VERSION + 1}\n")
    newer = DataDirectory(tmp_path)
    with pytest.raises(DataTooNew, match=f"layout {DATA_VERSION + 1}") as refused:
        newer.open()
    assert refused.value.exit_code == 4
    version.write_text(f"{DATA_VERSION}\n")
    with opened(tmp_path):
        pass


@pytest.mark.parametrize(
    "content", [b"", b"one\n", b"-1\n", b"1.0\n", b"\xb2\xff\n", "²\n".encode()]
)
def test_an_invalid_version_is_failed_storage(tmp_path: Path, content: bytes) -> None:
    with opened(tmp_path):
        pass
    (tmp_path / "version").write_bytes(content)
    with pytest.raises(StorageFailed, match="version"):
        DataDirectory(tmp_path).open()


def test_impossible_directory_is_failed_storage_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFailed, match="file/data") as failed:
        DataDirectory(tmp_path / "file" / "data").open()
    assert failed.value.exit_code == 74


@pytest.mark.anomaly
def test_a_full_disk_is_storage_failed(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 32) as disk:
        fill(disk)
        with pytest.raises(StorageFailed, match="No space"):
            DataDirectory(disk / "data").open()


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.close()
    directory.open()
    directory.close()
    directory.close()


@pytest.mark.slow
def test_a_removed_lock_file_admits_no_second_server(tmp_path: Path) -> None:
    with opened(tmp_path) as first:
        assert first.is_in_use
        (tmp_path / "lock").unlink()
        for _ in range(2):
            with pytest.raises(DataDirectoryInUse, match="in use by the server"):
                DataDirectory(tmp_path).open()
        assert first.is_in_use
    assert not DataDirectory(tmp_path).is_in_use
    with opened(tmp_path):
        pass


def test_checking_for_a_server_changes_nothing(tmp_path: Path) -> None:
    assert not DataDirectory(tmp_path / "nowhere").is_in_use
    assert not DataDirectory(tmp_path).is_in_use
    assert list(tmp_path.iterdir()) == []


def test_a_replaced_folder_is_detected(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as directory:
        assert not directory.is_replaced
        (tmp_path / "data").rename(tmp_path / "moved")
        assert directory.is_replaced
        (tmp_path / "data").mkdir()
        assert directory.is_replaced
