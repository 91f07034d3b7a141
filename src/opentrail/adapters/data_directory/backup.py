"""Backups of a data directory: one consistent point in one tar file, even while a server runs.

A server removes from its data directory only data stored elsewhere in it: journal segments covered
by sealed files, files merged into others. So a backup copies the control store, links the files of
event data stores, which stay for an hour, links the sealed files, copies the journal, and starts
again if the server removed something in between.
The backup then has everything it names, up to the last record of the journal.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from opentrail.adapters.data_directory.files import DataDirectory, sync_folder
from opentrail.adapters.data_directory.sealed_file_names import Series, read_name, sealed_files
from opentrail.adapters.data_directory.system import is_running, read_only_uri, sync
from opentrail.core.errors import DataTooNew, StorageFailed, UsageError
from opentrail.core.version import DATA_VERSION

MANIFEST = "manifest.json"
#: The encrypted keys in a backup.
KEYS = "keys.sealed"
_FORMAT = 1
_ATTEMPTS = 10
_CHUNK = 1024 * 1024
_MAX_MANIFEST = 64 * 1024 * 1024
_LAST = "SELECT max(position) FROM entries"
_STORE_FILES = "SELECT key, body FROM documents WHERE kind = 'event-data-store-file'"
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Contents of a backup: each file's size and SHA-256, and the last position of the journal."""

    version: str
    created: str
    position: int
    files: dict[str, tuple[int, str]]

    def to_json(self) -> bytes:
        """Returns the content of `manifest.json`."""
        document = {
            "format": _FORMAT,
            "dataVersion": DATA_VERSION,
            "opentrailVersion": self.version,
            "created": self.created,
            "position": self.position,
            "files": [
                {"path": path, "size": size, "sha256": digest}
                for path, (size, digest) in sorted(self.files.items())
            ],
        }
        return json.dumps(document, indent=1).encode() + b"\n"


def copy_database(source: Path, target: Path) -> None:
    """Copies a snapshot of a SQLite database that others may be writing.

    Raises:
        sqlite3.Error: it cannot be read or written.
    """
    with (
        closing(sqlite3.connect(read_only_uri(source), uri=True)) as reader,
        closing(sqlite3.connect(target)) as writer,
    ):
        reader.backup(writer)
    target.chmod(0o600)


@contextmanager
def snapshot(
    data: DataDirectory, copy_control: Callable[[Path], None]
) -> Iterator[tuple[Path, int]]:
    """Yields a folder with a snapshot of all records, and the last position of its journal.

    The folder is in the data directory, so that sealed files are linked rather than copied. It is
    removed at the end.

    Args:
        data: the data directory.
        copy_control: copies the control store to a file.

    Raises:
        StorageFailed: the data directory cannot be read, or changes faster than it can be copied.
    """
    for abandoned in abandoned_snapshots(data.root):
        shutil.rmtree(abandoned, ignore_errors=True)
    folder = data.root / f".backup-{os.getpid()}"
    try:
        yield folder, _fill(data, folder, copy_control)
    except (OSError, sqlite3.Error) as error:
        raise StorageFailed(f"data directory {data.root} cannot be backed up: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def abandoned_snapshots(root: Path) -> list[Path]:
    """Returns the folders of killed backups."""
    return [folder for folder in sorted(root.glob(".backup-*")) if not _is_in_use(folder)]


def _is_in_use(folder: Path) -> bool:
    process = folder.name.removeprefix(".backup-")
    return process.isdecimal() and is_running(int(process))


def _fill(data: DataDirectory, folder: Path, copy_control: Callable[[Path], None]) -> int:
    for _ in range(_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        copy_control(folder / "state.db")  # the later copies must have all it names
        shutil.copyfile(data.root / "version", folder / "version")
        are_linked = _link_stores(data.stores, folder / "stores")
        linked = are_linked and _link_history(data.history, folder / "history")
        position = _copy_journal(data.journal, folder / "journal") if linked else None
        if position is not None and _is_whole(folder):
            return position
    raise StorageFailed(f"data directory {data.root} changes faster than it can be copied")


def _link_stores(stores: Path, target: Path) -> bool:
    """Links the files of every event data store; False if files were removed since."""
    for store in sorted(stores.glob("*/")):
        (target / store.name).mkdir(mode=0o700, parents=True)
        for path in (path for path in store.iterdir() if read_name(path) is not None):
            try:
                (target / store.name / path.name).hardlink_to(path)
            except FileNotFoundError:
                return False
    return True


def _link_history(history: Path, target: Path) -> bool:
    """Links every sealed file; False if files were removed or added since."""
    target.mkdir(mode=0o700)
    names = {path.name for path in history.iterdir() if read_name(path) is not None}
    for name in names:
        try:
            (target / name).hardlink_to(history / name)
        except FileNotFoundError:
            return False
    return names == {path.name for path in history.iterdir() if read_name(path) is not None}


def _copy_journal(journal: Path, target: Path) -> int | None:
    """Copies every segment and returns the last position; None if a segment was trimmed."""
    target.mkdir(mode=0o700)
    segments = sorted(journal.glob("*.db"))
    for segment in segments:
        try:
            copy_database(segment, target / segment.name)
        except sqlite3.Error:
            if not segment.exists():
                return None
            raise
    if not segments:
        return 0
    with closing(sqlite3.connect(target / segments[-1].name)) as reader:
        last = reader.execute(_LAST).fetchone()[0]
    return int(last) if last is not None else int(segments[-1].stem) - 1


def _is_whole(folder: Path) -> bool:
    """Returns whether the journal continues the sealed files, and the files of each store."""
    sealed = max(
        (file.last for file in sealed_files(folder / "history", Series.JOURNAL)), default=0
    )
    first = min((int(path.stem) for path in (folder / "journal").glob("*.db")), default=1)
    return first <= min([sealed, *_ends_of_stores(folder / "state.db")]) + 1


def _ends_of_stores(state: Path) -> list[int]:
    """Returns the last listed position of each event data store."""
    if not state.exists():
        return []
    ends: dict[str, int] = {}
    with closing(sqlite3.connect(state)) as reader:
        for key, body in reader.execute(_STORE_FILES):
            store = key.rpartition("/")[0]
            ends[store] = max(ends.get(store, 0), json.loads(body)["last"])
    return list(ends.values())


# Archives


def write_archive(
    target: Path, files: Sequence[tuple[str, Path]], manifest: Manifest, advance: Advance
) -> None:
    """Writes a tar file atomically and durably: the manifest, then the files.

    Raises:
        StorageFailed: it cannot be written.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as output:
            with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as archive:
                content = manifest.to_json()
                archive.addfile(_member(MANIFEST, len(content)), io.BytesIO(content))
                for name, path in files:
                    with path.open("rb") as source:
                        archive.addfile(_member(name, manifest.files[name][0]), source)
                    advance(manifest.files[name][0])
            output.flush()
            sync(output.fileno())
        partial.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise StorageFailed(f"backup {target} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def read_archive(source: Path, target: Path, advance: Advance) -> Manifest:
    """Writes the files of a backup into an empty folder, and compares each with the manifest.

    Raises:
        UsageError: the file is not a backup.
        DataTooNew: a newer version made it.
        StorageFailed: it is damaged or incomplete, or cannot be read.
    """
    try:
        with tarfile.open(source, mode="r:") as archive:
            manifest = _read_manifest(archive, source)
            missing = dict(manifest.files)
            while (member := archive.next()) is not None:
                expected = missing.pop(member.name, None)
                content = archive.extractfile(member) if member.isreg() else None
                if expected is None or content is None:
                    raise StorageFailed(f"backup {source} has {member.name!r}, which it should not")
                _extract(content, target / member.name, expected, source)
                advance(expected[0])
    except tarfile.TarError as error:
        raise UsageError(f"{source} is not a backup, or an incomplete one: {error}") from error
    except OSError as error:
        raise StorageFailed(f"backup {source} cannot be restored: {error}") from error
    if missing:
        raise StorageFailed(f"backup {source} is incomplete: {min(missing)} is missing")
    return manifest


def _read_manifest(archive: tarfile.TarFile, source: Path) -> Manifest:
    member = archive.next()
    if member is None or member.name != MANIFEST or member.size > _MAX_MANIFEST:
        raise UsageError(f"{source} is not a backup: it does not begin with {MANIFEST}")
    content = archive.extractfile(member)
    try:
        document: dict[str, Any] = json.load(content) if content else {}
        if document["format"] > _FORMAT or document["dataVersion"] > DATA_VERSION:
            raise DataTooNew(
                f"backup {source} was made by opentrail {document['opentrailVersion']}: upgrade "
                "opentrail to restore it"
            )
        files = {
            _checked(entry["path"]): (int(entry["size"]), str(entry["sha256"]))
            for entry in document["files"]
        }
        return Manifest(
            document["opentrailVersion"], document["created"], int(document["position"]), files
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{source} is not a backup: its manifest cannot be read") from error


def _checked(path: str) -> str:
    """Returns a path that stays in its folder."""
    parts = path.split("/")
    most = 3 if parts[0] == "stores" else 2
    if len(parts) > most or any(part in ("", ".", "..") for part in parts):
        raise ValueError(path)
    return path


def _extract(content: IO[bytes], target: Path, expected: tuple[int, str], source: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        while piece := content.read(_CHUNK):
            digest.update(piece)
            output.write(piece)
        output.flush()
        sync(output.fileno())
    if (target.stat().st_size, digest.hexdigest()) != expected:
        raise StorageFailed(f"backup {source} is damaged: {target.name} was altered")
