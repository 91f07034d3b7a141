"""`opentrail backup` and `opentrail restore`: save a data directory in one file, and restore it."""

from __future__ import annotations

import argparse
import asyncio
import base64
import getpass
import hashlib
import json
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opentrail.adapters.data_directory.backup import (
    KEYS,
    Manifest,
    read_archive,
    snapshot,
    write_archive,
)
from opentrail.adapters.data_directory.files import (
    DataDirectory,
    sha256_of,
    sync_folder,
    write_durably,
)
from opentrail.adapters.keys.sealing import AesGcmSealer
from opentrail.adapters.store_check import Damage, StoreCheck
from opentrail.app.access_keys import control_place
from opentrail.app.journals import journal_place
from opentrail.commands.client import data_dir_of
from opentrail.commands.progress import Progress
from opentrail.commands.rendering import print_json
from opentrail.commands.verify_store import describe_damage, files_of_stores
from opentrail.core.errors import StorageFailed, UsageError
from opentrail.core.event import format_time
from opentrail.core.text import counted
from opentrail.core.version import __version__
from opentrail.setting_sources import from_environment

PASSPHRASE_VARIABLE = "OPENTRAIL_BACKUP_PASSPHRASE"  # noqa: S105 - a name
_CONTEXT = "the keys of a backup"
#: Parameters of scrypt (64 MB, about 0.2 s), stored next to the sealed keys.
_SCRYPT = {"n": 2**16, "r": 8, "p": 1}
_SCRYPT_MEMORY = 128 * 1024 * 1024
_SALT_BYTES = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE", help="the backup, such as opentrail.tar")
    add("--data-dir", metavar="DIR", help="the data directory")
    add("--config", metavar="FILE", help="settings, if they name a control store")
    add("--with-keys", action="store_true", help="add keys/, encrypted with a passphrase")
    add("--overwrite", action="store_true", help="replace an existing file")
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def add_restore_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE", help="the backup")
    add("--data-dir", metavar="DIR", help="folder to restore to: new or empty")
    add("--config", metavar="FILE", help="settings, if they name a control store")
    add("--without-keys", action="store_true", help="do not restore the keys in the backup")
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run_restore)


def run(options: argparse.Namespace) -> int:
    """Writes a backup of a data directory; the exit code is 1 if the data are damaged.

    Raises:
        UsageError: there is no data directory, or the passphrase is missing.
        StorageFailed: a file cannot be read or written.
    """
    data = DataDirectory(data_dir_of(options))
    if not data.journal.is_dir():
        raise UsageError(f"{data.root} is not a data directory; name one with --data-dir DIR")
    target = Path(options.file)
    if target.exists() and not options.overwrite:
        raise UsageError(f"{target} exists; --overwrite replaces it")
    settings = from_environment({"data_dir": str(data.root)}, options.config)
    journal_place(settings, data).require_copied()
    passphrase = _new_passphrase() if options.with_keys else None
    progress = Progress(sys.stderr)
    try:
        with snapshot(data, control_place(settings, data).copy_to) as (folder, position):
            if passphrase is not None:
                write_durably(folder / KEYS, _seal_keys(data.keys, passphrase))
            findings = _verify(folder, progress)
            manifest = _write(folder, position, target, progress)
    finally:
        progress.end()
    _report(options, target, manifest, findings)
    if passphrase is None and not options.json:
        print("without keys/: keep a copy of that folder elsewhere, or use --with-keys")
    return 1 if findings else 0


def run_restore(options: argparse.Namespace) -> int:
    """Restores a data directory from a backup; the exit code is 1 if the data are damaged.

    Raises:
        UsageError: the folder is not empty, or the passphrase is missing or wrong.
        DataTooNew: a newer version made the backup.
        StorageFailed: the backup is damaged, or the folder cannot be written.
    """
    source = Path(options.file)
    if not source.is_file():
        raise UsageError(f"there is no backup {source}")
    root = data_dir_of(options)
    target = root.resolve()  # a rename cannot replace `.` or a symbolic link
    if root.exists() and (not root.is_dir() or _files_in(root)):
        raise UsageError(f"{root} is not empty; name a new folder with --data-dir DIR")
    settings = from_environment({"data_dir": str(root)}, options.config)
    # Restore inside an existing folder, since a rename cannot replace a mount point.
    is_present = target.exists()
    parent = target if is_present else target.parent
    restored = parent / f".{target.name}.restoring-{os.getpid()}"
    progress = Progress(sys.stderr)
    try:
        for folder in (restored, restored / "journal", restored / "history", restored / "keys"):
            folder.mkdir(mode=0o700, parents=True)
        progress.total = source.stat().st_size
        manifest = read_archive(source, restored, lambda size: progress.advance(size, 0))
        _restore_keys(restored, options.without_keys)
        findings = _verify(restored, progress)
        damage = describe_damage(findings[0]) if findings else None
        data = DataDirectory(restored)
        journal_place(settings, data).restore(data.journal, manifest.position, damage)
        control_place(settings, data).restore()
        if is_present:
            # Replace this version last, so that no server starts with a part of the files.
            write_durably(target / "version", b"being restored\n")
            for path in sorted(restored.iterdir(), key=lambda path: path.name == "version"):
                path.rename(target / path.name)
        else:
            restored.rename(target)
        sync_folder(parent)
    except OSError as error:
        raise StorageFailed(f"{root} cannot be written: {error}") from error
    finally:
        shutil.rmtree(restored, ignore_errors=True)
        progress.end()
    _report(options, root, manifest, findings)
    return 1 if findings else 0


def _files_in(folder: Path) -> list[Path]:
    """Returns the entries of a folder, without the default entries of a file system."""
    return [path for path in folder.iterdir() if path.name != "lost+found"]


def _verify(folder: Path, progress: Progress) -> list[Damage]:
    # A copy may have newer files than its list, which is older.
    listed = asyncio.run(files_of_stores(folder / "state.db", is_live=False))
    check = StoreCheck(
        *(folder / "journal", folder / "history", progress.advance),
        is_live=False,
        listed=listed,
    )
    progress.total = (progress.total or 0) + check.size
    return list(check.findings())


def _write(folder: Path, position: int, target: Path, progress: Progress) -> Manifest:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [(path.relative_to(folder).as_posix(), path) for path in paths]
    sizes = {name: (path.stat().st_size, sha256_of(path)) for name, path in files}
    progress.total = (progress.total or 0) + sum(size for size, _ in sizes.values())
    manifest = Manifest(__version__, format_time(datetime.now(UTC)), position, sizes)
    write_archive(target, files, manifest, lambda size: progress.advance(size, 0))
    return manifest


def _report(
    options: argparse.Namespace, archive: Path, manifest: Manifest, findings: list[Damage]
) -> None:
    size = sum(size for size, _ in manifest.files.values())
    if options.json:
        document = {
            "path": str(archive),
            "created": manifest.created,
            "position": manifest.position,
            "bytes": size,
            "hasKeys": KEYS in manifest.files,
            "findings": [describe_damage(finding) for finding in findings],
        }
        print_json(document)
        return
    for finding in findings:
        print(describe_damage(finding))
    state = counted(len(findings), "problem") if findings else "verified"
    print(f"{archive}: all up to position {manifest.position:,}, {size:,} bytes, {state}")


# Keys


def _new_passphrase() -> str:
    passphrase = os.environ.get(PASSPHRASE_VARIABLE)
    if passphrase:
        return passphrase
    if not sys.stdin.isatty():
        raise UsageError(f"--with-keys needs a passphrase: set {PASSPHRASE_VARIABLE}")
    entered = getpass.getpass("Passphrase for the keys in the backup: ")
    if not entered or entered != getpass.getpass("The same passphrase again: "):
        raise UsageError("the passphrases differ or are empty")
    return entered


def _seal_keys(keys: Path, passphrase: str) -> bytes:
    salt = os.urandom(_SALT_BYTES)
    content = {
        file.name: base64.b64encode(file.read_bytes()).decode()
        for file in sorted(keys.iterdir())
        if file.is_file() and not file.name.startswith(".")
    }
    sealed = _sealer(passphrase, salt, _SCRYPT).seal(json.dumps(content).encode(), _CONTEXT)
    document = {"scrypt": _SCRYPT, "salt": base64.b64encode(salt).decode(), "sealed": sealed}
    return json.dumps(document).encode() + b"\n"


def _sealer(passphrase: str, salt: bytes, cost: dict[str, int]) -> AesGcmSealer:
    return AesGcmSealer(
        hashlib.scrypt(passphrase.encode(), salt=salt, **cost, maxmem=_SCRYPT_MEMORY, dklen=32)
    )


def _restore_keys(folder: Path, without_keys: bool) -> None:
    sealed = folder / KEYS
    if not sealed.exists():
        return
    if not without_keys:
        _write_keys(folder / "keys", sealed.read_bytes())
    sealed.unlink()


def _write_keys(keys: Path, content: bytes) -> None:
    passphrase = os.environ.get(PASSPHRASE_VARIABLE)
    if not passphrase and sys.stdin.isatty():
        passphrase = getpass.getpass("Passphrase of the keys in the backup: ")
    if not passphrase:
        raise UsageError(
            f"the backup has keys: set {PASSPHRASE_VARIABLE}, or leave them with --without-keys"
        )
    try:
        document: dict[str, Any] = json.loads(content)
        sealer = _sealer(passphrase, base64.b64decode(document["salt"]), document["scrypt"])
        files = json.loads(sealer.unseal(document["sealed"], _CONTEXT))
    except StorageFailed as error:
        raise UsageError("the passphrase of the backup's keys is wrong") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StorageFailed("the keys in the backup cannot be read") from error
    for name, text in files.items():
        write_durably(keys / Path(name).name, base64.b64decode(text))
